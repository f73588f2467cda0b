"""A run's ranker over DataFrames: the scores of an evaluation, whatever way the features come; and its card."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from report_folders import HOSTILE, decided
from safetensors.torch import save_file

from fusion_models.data import DataError, open_dataset
from fusion_models.evaluation import score
from fusion_models.training import start
from search.api import Result, load
from search.reporting.model_card import write_card
from search.reporting.records import read_run
from search.run_store.artifacts import DATA
from search.run_store.folder import RunFolder, RunFolderError
from search.serving.frames import FrameRanker
from search.shadow import _source, finalist_checkpoint
from spaces import PHASES

GENERATOR = np.random.default_rng(0)


@pytest.fixture(scope="module")
def shop(_own_cache):
    """Three frames with scalar metadata, query features and pair features; lists of 3 to 7."""
    items = pd.DataFrame(
        {
            "item_id": [f"item-{i}" for i in range(200)],
            "visual": list(GENERATOR.normal(size=(200, 6))),
            "text": list(GENERATOR.normal(size=(200, 4))),
            "metadata.price": GENERATOR.lognormal(size=200),
            "metadata.brand": GENERATOR.choice(["north", "south"], size=200),
        }
    )
    queries = pd.DataFrame(
        {"query_id": [f"query-{i}" for i in range(60)], "features": list(GENERATOR.normal(size=(60, 4)))}
    )
    rows = [(q, i) for q in range(60) for i in GENERATOR.choice(200, size=int(GENERATOR.integers(3, 8)), replace=False)]
    judgements = pd.DataFrame(
        {
            "query_id": [f"query-{q}" for q, _ in rows],
            "item_id": [f"item-{i}" for _, i in rows],
            "label": GENERATOR.integers(0, 3, len(rows)),
            "v1_score": GENERATOR.normal(size=len(rows)),
            "features": list(GENERATOR.normal(size=(len(rows), 2))),
        }
    )
    return items, queries, judgements


@pytest.fixture(scope="module")
def ranker(shop):
    items, queries, judgements = shop
    data = open_dataset(items=items, queries=queries, judgements=judgements)
    recipe = PHASES["phase1"].base.updated({"model.layers": 1, "model.width": 16})
    return FrameRanker(start(recipe, data, seed=0).model, data)


def expected(ranker, judgements):
    """Row -> the score that an evaluation of all splits gives it."""
    data, out = ranker.data, {}
    for split in ("train", "validation", "test"):
        found = score(ranker.ranker, data, split)
        for row, scores in zip(found.rows, found.scores, strict=True):
            judged = data.judged_item[data.offset[row] : data.offset[row + 1]]
            for item, value in zip(judged, scores, strict=False):
                out[data.query_ids[row], data.item_ids[item]] = float(value)
    return np.array([out[pair] for pair in zip(judgements["query_id"], judgements["item_id"], strict=True)])


def test_frames_in_any_order_score_as_an_evaluation_does(ranker, shop):
    items, queries, judgements = shop
    asked = judgements.drop(columns="label").sample(frac=1.0, random_state=1)
    wanted = expected(ranker, asked)
    for given in ({}, {"items": items.sample(frac=1.0, random_state=2), "queries": queries[::-1]}):
        found = ranker.score(asked, **given)
        assert found.index.equals(asked.index)
        assert np.abs(found.to_numpy() - wanted).max() < 1e-5


def test_a_frame_may_carry_all_features_itself(ranker, shop):
    new = flat(shop)
    known = new.assign(query_id=new["query_id"].str[4:], item_id=new["item_id"].str[4:])
    assert np.abs(ranker.score(new).to_numpy() - expected(ranker, known)).max() < 1e-5


def test_one_pair_and_none(ranker, shop):
    one = shop[2].iloc[:1]
    assert len(ranker.score(one)) == 1
    assert ranker.score(one.iloc[:0]).empty
    assert ranker.reads == ("visual", "text", "metadata", "context", "v1")


@pytest.mark.parametrize(
    ("change", "given", "said"),
    [
        (lambda t: t.drop(columns="v1_score"), {}, r"pairs, column 'v1_score': missing"),
        (lambda t: t.drop(columns="features"), {}, r"pairs, column 'features': missing"),
        (lambda t: t.assign(item_id="nobody"), {}, r"column 'item_id', row 0: 'nobody' is unknown. Give its features"),
        (lambda t: t.assign(query_id="nobody"), {}, r"column 'query_id', row 0: 'nobody' is unknown"),
        (lambda t: t.assign(v1_score=np.nan), {}, r"column 'v1_score', row 0: the value is missing"),
        (
            lambda t: t.assign(features=[[1.0]] * len(t)),
            {},
            r"column 'features', row 0: expected 2 numbers, got 1",
        ),
        (lambda t: t.assign(visual="x"), {}, r"column 'visual', row 0: the column is of type .*, not lists"),
        (
            lambda t: t,
            {"items": pd.DataFrame({"item_id": ["a"]})},
            r"column 'item_id', row 0: .* Give it a row in items",
        ),
    ],
)
def test_what_is_missing_is_named(ranker, shop, change, given, said):
    with pytest.raises(DataError, match=said):
        ranker.score(change(shop[2].copy()), **given)


@pytest.mark.parametrize(("place", "name", "column"), [(0, "items", "item_id"), (1, "queries", "query_id")])
def test_an_id_that_stands_twice_in_a_frame_is_named(ranker, shop, place, name, column):
    twice = pd.concat([shop[place], shop[place].iloc[[3]]])
    row = len(shop[place])
    with pytest.raises(DataError, match=rf"{name}, column '{column}', row {row}: '\w+-3' stands there twice"):
        ranker.score(shop[2], **({"items": shop[0], "queries": shop[1]} | {name: twice}))


@pytest.fixture
def run(tmp_path, ranker):
    """A run folder with one ranker to release."""
    folder = RunFolder(tmp_path / "phase1")
    place = folder.checkpoints / "artefact"
    place.mkdir(parents=True)
    folder.write({"phase": "phase1", "data": ranker.data.source, "fingerprint": ranker.data.fingerprint})
    recipe = PHASES["phase1"].base.updated({"model.layers": 1, "model.width": 16}).flat()
    (place / "recipe.json").write_text(json.dumps({"recipe": recipe}))
    save_file(ranker.ranker.state_dict(), place / "weights.safetensors")
    return folder


def test_a_run_is_loaded_by_its_folder(run, ranker, shop):
    pairs = shop[2]
    assert np.array_equal(load(run.path).score(pairs), ranker.score(pairs))
    assert np.array_equal(load(run.path, data=ranker.data.source).score(pairs), ranker.score(pairs))
    with pytest.raises(RunFolderError, match=r"has no trial 't0001'; it has artefact"):
        load(run.path, trial="t0001")
    with pytest.raises(ValueError, match=r"holds other data than .* was trained on"):
        load(run.path, data="planted?queries=160&candidates=8")
    with pytest.raises(RunFolderError, match=r"holds no run"):
        load(run.path / "nowhere")


def flat(shop):
    """Pairs of new queries and items that bring every feature."""
    items, queries, judgements = shop
    found = judgements.merge(items, on="item_id").merge(
        queries.rename(columns={"features": "query_features"}), on="query_id"
    )
    return found.assign(query_id="new-" + found["query_id"], item_id="new-" + found["item_id"])


def moved(run, **said):
    """The run's dataset is not where it was."""
    run.write(run.read() | {"data": str(run.path / "gone")} | said)


@pytest.mark.parametrize("trial", [None, "t0001"])
def test_a_run_scores_without_its_dataset_what_brings_all_features(run, ranker, shop, trial):
    artefact = run.checkpoints / "artefact"
    shutil.copytree(artefact, run.checkpoints / "t0001")
    (artefact / DATA).write_text(json.dumps(ranker.data.description.to_json()))
    moved(run)
    alone = load(run.path, trial=trial)
    assert np.array_equal(alone.score(flat(shop)), ranker.score(flat(shop)))
    for known, given in (("item", {}), ("query", {"items": shop[0]})):
        with pytest.raises(DataError, match=rf"'{known}-\d+' is unknown. Give its features: .* load\(..., data=\)"):
            alone.score(shop[2], **given)
    assert np.array_equal(alone.score(shop[2], items=shop[0], queries=shop[1]), ranker.score(shop[2]))
    assert np.array_equal(load(run.path, trial=trial, data=ranker.data.source).score(shop[2]), ranker.score(shop[2]))
    moved(run, fingerprint="of another")
    with pytest.raises(ValueError, match="holds other data than"):
        load(run.path, trial=trial)


def test_a_run_of_before_needs_its_dataset(run):
    moved(run)
    with pytest.raises(DataError, match="gone"):
        load(run.path)


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"widths": []}'])
def test_a_broken_description_of_the_data_is_named(run, content):
    path = run.checkpoints / "artefact" / DATA
    path.write_text(content)
    moved(run)
    with pytest.raises(ValueError, match=str(path)):
        load(run.path)


def test_a_roadmap_is_loaded_by_its_last_phase_that_releases(run, ranker, shop, tmp_path):
    """Phase 4 was begun and has no artefact yet."""
    roadmap = RunFolder(tmp_path / "roadmap")
    roadmap.path.mkdir()
    roadmap.write({"phase": "roadmap", "options": {}})
    with pytest.raises(RunFolderError, match="none of whose phases has a ranker to release: nothing was confirmed"):
        load(roadmap.path)
    run.path.rename(roadmap.path / "phase3")
    for name in ("phase1", "phase4"):
        (roadmap.path / name).mkdir()
        RunFolder(roadmap.path / name).write({"phase": name})
    for given in (roadmap.path, Result(roadmap.path)):
        assert np.array_equal(load(given).score(shop[2]), ranker.score(shop[2]))
    with pytest.raises(
        RunFolderError, match=r"is a roadmap: name the phase whose trial 't0001' it is \(.*phase4, .*phase3"
    ):
        load(roadmap.path, trial="t0001")
    assert _source(roadmap.path, None) == ranker.data.source


def test_an_audit_trained_none(tmp_path):
    RunFolder(tmp_path).write({"phase": "audit", "data": "planted"})
    for trial in (None, "t0001"):
        with pytest.raises(RunFolderError, match="holds an audit, which trains no ranker"):
            load(tmp_path, trial=trial)
    with pytest.raises(RunFolderError, match="holds an audit, which trains no ranker"):
        finalist_checkpoint(tmp_path)


def test_the_card_says_what_it_was_trained_on_how_judged_and_on_whom_not(tmp_path):
    decided(tmp_path / "phase3")
    run = read_run(tmp_path / "phase3")
    write_card(run)
    place = tmp_path / "phase3" / "checkpoints" / "artefact"
    assert not (place / "README.md").exists()  # no weights, no card
    place.mkdir(parents=True)
    recipe = run.finalist["recipe"]
    (place / "recipe.json").write_text(json.dumps({"recipe": recipe, "trainings": ["a", "b"], "seeds": [1, 2]}))
    run.decision["gates"][0]["name"] = HOSTILE
    write_card(run)
    card = (place / "README.md").read_text()
    assert run.decision["verdict"] in card
    assert run.run["fingerprint"] in card
    assert card.count("| ") > 3 * len([g for g in run.decision["gates"] if g["status"] != "not applicable"])
    assert "## Limits, and whom it was not tested on" in card
    assert "Tested on judged lists, not on users" in card
    assert "2 trainings of one recipe, whose scores are averaged" in card
    assert f'load("{tmp_path / "phase3"}")' in card
    assert "\\<script" in card  # escaped, as Markdown escapes
    assert not re.search(r"(?<!\\)<script", card)
