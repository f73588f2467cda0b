"""Every integrity check catches what was planted for it, and is silent on clean data."""

import json
from types import SimpleNamespace

import numpy as np
import optuna
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from run_context import run_in

from fusion_models.config import Recipe
from fusion_models.data import DataError, open_dataset
from fusion_models.data.views.relabelled import relabelled
from fusion_models.evaluation import score, split_lists
from fusion_models.integrity import chance_check, isolation_checks, leak_check, separability_checks
from fusion_models.metrics import chance_ndcg
from fusion_models.quantities import Outputs
from fusion_models.training import start, train
from search.options import RunOptions
from search.pipeline.confirmation.arms import ArmKey, trial_id
from search.pipeline.confirmation.finalist import Finalist
from search.pipeline.confirmation.test_split import ClosedError
from search.pipeline.release import integrity
from search.pipeline.release.integrity import check_integrity, gain_check, integrity_table, selection_checks
from search.run_store.artifacts import write_outputs
from search.run_store.folder import RunFolder, json_text
from search.run_store.job import Job
from search.run_store.journal import open_journal
from search.run_store.looks import count_look
from spaces import PHASE4

SMALL = "planted:healthy?queries=300&candidates=8&validation_fraction=0.3&test_fraction=0.3"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def clean(_own_cache):
    return open_dataset(SMALL)


@pytest.fixture(scope="module")
def tables(clean):
    """The clean tables as lists of rows, to plant things in."""
    return {name: pq.read_table(f"{clean.location}/{name}.parquet") for name in ("items", "queries", "judgements")}


def planted(tables, folder, **changed):
    """A dataset of the clean tables with some of them changed."""
    for name, table in (tables | changed).items():
        pq.write_table(table, folder / f"{name}.parquet")
    return open_dataset(str(folder))


def statuses(checks):
    return {c.name: c.status for c in checks}


def test_clean_data_pass_every_look_at_the_splits(clean):
    generator = np.random.default_rng(0)
    checks = [*isolation_checks(clean, "test"), *separability_checks(clean, "test", generator)]
    checks.append(leak_check(clean, generator))
    assert {c.status for c in checks} <= {"pass", "reported", "undecided", "warning"}
    assert not [c for c in checks if c.status in ("undecided", "warning") and "train against" not in c.name]
    assert "NaN" not in json_text(integrity_table(checks).to_dict("records"))


def rows_of(table, column, wanted):
    values = table[column].to_pylist()
    return [i for i, v in enumerate(values) if v in wanted]


def test_a_copied_query_and_its_items_under_new_ids_are_caught(tables, clean, tmp_path):
    """A fifth of the test queries get the candidates of training queries, pictures and texts a hair's breadth away."""
    frames = {name: table.to_pandas() for name, table in tables.items()}
    ids = clean.query_ids
    pairs = list(zip(ids[clean.rows("train")[:20]], ids[clean.rows("test")[:20]], strict=True))
    judged = frames["judgements"].groupby("query_id")["item_id"].apply(list)
    items = frames["items"].set_index("item_id")
    for known, held_out in pairs:
        for source, copy in zip(judged[known], judged[held_out], strict=True):
            for modality in ("visual", "text", "metadata"):
                items.at[copy, modality] = np.float32(np.asarray(items.at[source, modality]) * 1.0001)
    changed = frames["items"].assign(**{m: items[m].to_numpy() for m in ("visual", "text", "metadata")})
    data = planted(tables, tmp_path, items=tables["items"].from_pandas(changed, schema=tables["items"].schema))
    found = statuses(isolation_checks(data, "test"))
    assert found["isolation of test: queries"] in ("pass", "reported")
    clean_picture = next(c for c in isolation_checks(clean, "test") if "pictures" in c.name)
    dirty = {c.name: c for c in isolation_checks(data, "test")}
    assert clean_picture.value == 1.0
    assert dirty["isolation of test: pictures (near-duplicates)"].value == pytest.approx(1 - 160 / 720, abs=0.02)
    assert dirty["isolation of test: texts (near-duplicates)"].value < 0.95


def with_texts(tables, texts):
    queries = tables["queries"].to_pandas().assign(text=texts)
    return tables["queries"].from_pandas(queries, preserve_index=False)


def test_split_by_query_or_by_item_decides_what_fails(tables, clean, tmp_path):
    """Recurring queries over new items are a dataset split by item; with recurring items too nothing is new."""
    recurring = [f"word {i % 5}" for i in range(300)]
    (tmp_path / "by-item").mkdir()
    by_item = isolation_checks(planted(tables, tmp_path / "by-item", queries=with_texts(tables, recurring)), "test")
    found = statuses(by_item)
    assert found["isolation of test: queries"] == "reported"
    assert {s for name, s in found.items() if "queries" not in name} == {"pass"}

    judgements = tables["judgements"].to_pandas()
    first = judgements["item_id"].iloc[:8].tolist()
    judgements["item_id"] = [first[i % 8] for i in range(len(judgements))]
    shared = tables["judgements"].from_pandas(judgements, preserve_index=False)
    (tmp_path / "by-query").mkdir()
    unique = [f"query {i}" for i in range(300)]
    data = planted(tables, tmp_path / "by-query", queries=with_texts(tables, unique), judgements=shared)
    found = statuses(isolation_checks(data, "test"))
    assert found["isolation of test: queries"] == "pass"
    assert found["isolation of test: items"] == "reported"
    assert found["isolation of test: judged pairs"] == "pass"

    (tmp_path / "neither").mkdir()
    data = planted(tables, tmp_path / "neither", queries=with_texts(tables, recurring), judgements=shared)
    found = statuses(isolation_checks(data, "test"))
    assert found["isolation of test: judged pairs"] == "fail"
    assert "fail" in {found["isolation of test: queries"], found["isolation of test: items"]}


def test_a_shifted_split_is_told_apart(tables, clean, tmp_path):
    frame = tables["items"].to_pandas().set_index("item_id")
    held_out = {
        i for r in clean.rows("test") for i in clean.item_ids[clean.judged_item[clean.offset[r] : clean.offset[r + 1]]]
    }
    moved = [np.float32(v) + (1.5 if i in held_out else 0.0) for i, v in frame["visual"].items()]
    items = tables["items"].from_pandas(tables["items"].to_pandas().assign(visual=moved), schema=tables["items"].schema)
    brought = separability_checks(planted(tables, tmp_path, items=items), "test", np.random.default_rng(0))[0]
    assert brought.status == "warning"  # the dataset's own split column: the world may differ
    assert not brought.counts
    assert brought.value > 0.9
    assert "visual alone 0.9" in brought.detail or "visual alone 1.0" in brought.detail


def test_splits_that_were_drawn_by_a_hash_must_be_alike(tables, tmp_path):
    """Without a split column the queries are exchangeable: what tells their items apart is a fault, not the world."""
    queries = tables["queries"].drop_columns(["split"])
    (tmp_path / "alike").mkdir()
    alike = planted(tables, tmp_path / "alike", queries=queries)
    assert separability_checks(alike, "test", np.random.default_rng(0))[0].status in ("pass", "undecided")
    held_out = {
        i for r in alike.rows("test") for i in alike.item_ids[alike.judged_item[alike.offset[r] : alike.offset[r + 1]]]
    }
    frame = tables["items"].to_pandas()
    moved = [
        np.float32(v) + (1.5 if i in held_out else 0.0) for i, v in zip(frame["item_id"], frame["text"], strict=True)
    ]
    items = tables["items"].from_pandas(frame.assign(text=moved), schema=tables["items"].schema)
    (tmp_path / "shifted").mkdir()
    found = separability_checks(
        planted(tables, tmp_path / "shifted", queries=queries, items=items), "test", np.random.default_rng(0)
    )[0]
    assert (found.status, found.counts) == ("fail", True)
    assert "drawn by a hash" in found.detail


@pytest.mark.parametrize(("column", "said"), [("v1_score", "V1's score"), ("label", "the label")])
def test_a_feature_that_is_v1_or_the_label_is_named(tables, tmp_path, column, said):
    judgements = tables["judgements"].to_pandas()
    noise = np.random.default_rng(0).normal(size=len(judgements))
    judgements["features"] = [np.float32([n, v]) for n, v in zip(noise, judgements[column], strict=True)]
    data = planted(tables, tmp_path, judgements=tables["judgements"].from_pandas(judgements, preserve_index=False))
    check = leak_check(data, np.random.default_rng(0))
    assert check.status == "fail"
    assert f"context[1] equals {said}" in check.detail
    assert "context[0]" not in check.detail


def trained(data, epochs, seed, **changes):
    quick = {"model.variant": "concat_mlp", "model.layers": 1, "train.batch_queries": 8}
    recipe = Recipe().updated(quick | {"train.epochs": epochs, "train.patience": epochs} | changes)
    state = start(recipe, data, seed=seed)
    for _ in train(state, data):
        pass
    state.model.load_state_dict(state.best_weights)
    return state.model


def on_held_back(data, kind, epochs=2, wrap=lambda d: d, **changes):
    found, chance = [], []
    for seed in range(2):
        broken = wrap(relabelled(data.halved(), kind, seed))
        scored = score(trained(broken, epochs, seed, **changes), broken, "deciding")
        found.append(scored.ndcg())
        chance.append(chance_ndcg(scored.labels, scored.valid).numpy())
    return chance_check(kind, found, chance)


class Peeking:
    """A dataset whose pipeline makes an image feature of whatever label it is about to train and be measured on."""

    def __init__(self, data):
        self._data = data

    def __getattr__(self, name):
        return getattr(self._data, name)

    def batches(self, *args, **kwargs):
        return map(self._peek, self._data.batches(*args, **kwargs))

    def gather(self, *args, **kwargs):
        return self._peek(self._data.gather(*args, **kwargs))

    @staticmethod
    def _peek(batch):
        visual = batch.features["visual"].clone()
        visual[..., :4] = batch.labels.unsqueeze(-1)
        return batch._replace(features=batch.features | {"visual": visual})


def test_permuted_labels_earn_chance_and_a_path_from_label_to_feature_is_caught(clean):
    assert on_held_back(clean, "permuted").status != "fail"
    caught = on_held_back(clean, "permuted", epochs=4, wrap=Peeking, **{"train.learning_rate": 1e-2})
    assert caught.status == "fail"
    assert caught.ci_low > 0.05


def test_random_labels_are_fitted_only_through_pairs_that_stand_in_both_splits(tables, clean, tmp_path):
    """Held-out queries that are training queries again: a ranker that learns by heart does well on random labels."""
    assert on_held_back(clean, "random").status != "fail"
    judgements = tables["judgements"].to_pandas()
    ids = clean.query_ids
    train_ids, held = ids[clean.rows("train")], ids[clean.rows("validation")]
    few = train_ids[:6]
    order = judgements.groupby("query_id")["item_id"].apply(list)
    again = {q: few[i % len(few)] for i, q in enumerate([*train_ids, *held])}
    place = judgements.groupby("query_id").cumcount()
    judgements["item_id"] = [order[again.get(q, q)][p] for q, p in zip(judgements["query_id"], place, strict=True)]
    texts = [str(again.get(q, q)) for q in ids]
    data = planted(
        tables,
        tmp_path,
        judgements=tables["judgements"].from_pandas(judgements, preserve_index=False),
        queries=with_texts(tables, texts),
    )
    changes = {"train.learning_rate": 1e-2, "model.dropout": 0.0, "train.weight_decay": 1e-4}
    assert on_held_back(data, "random", epochs=10, **changes).status == "fail"


def test_relabelling_is_decided_by_its_seed_and_keeps_each_query_s_labels_when_permuted(clean):
    first, again, other = (relabelled(clean, "permuted", seed).labels for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    for row in clean.rows("train")[:20]:
        part = slice(clean.offset[row], clean.offset[row + 1])
        assert sorted(first[part]) == sorted(clean.labels[part])
    drawn = relabelled(clean, "random", 1).labels
    assert set(drawn) <= set(np.unique(clean.labels))
    assert torch.corrcoef(torch.stack([torch.tensor(drawn), torch.tensor(clean.labels)]))[0, 1].abs() < 0.1
    with pytest.raises(ValueError, match="permuted or random"):
        relabelled(clean, "shuffled", 0)


def finished(tmp_path, fixed="2026-01-01T10:00:00+00:00", chosen_on="validation"):
    folder = RunFolder(tmp_path / "phase3")
    folder.path.mkdir()
    folder.write({"start": "2026-01-01T09:00:00+00:00"})
    said = {"trial_id": "t0001", "chosen_on": chosen_on, "fixed": fixed}
    (folder.path / "finalist.json").write_text(json.dumps(said))
    return folder


def test_a_test_split_that_stayed_closed_until_the_finalist_was_fixed_passes(tmp_path):
    folder = finished(tmp_path)
    count_look(folder, "abc", "shop")
    first, others = selection_checks(folder, "abc")
    assert (first.status, others.status, others.value) == ("pass", "reported", 0.0)


def test_looks_before_the_finalist_and_measured_search_trials_are_caught(tmp_path):
    folder = finished(tmp_path, fixed="2999-01-01T00:00:00+00:00")
    count_look(folder, "abc", "shop")
    assert "before the finalist was fixed" in selection_checks(folder, "abc")[0].detail
    assert selection_checks(folder, "other data")[0].status == "fail"  # nobody knows when it looked
    study = optuna.create_study(study_name="search", storage=open_journal(folder.journal))
    for name in ("t0003", "phase1-t0004"):  # the second one was taken over
        job = Job(trial_id=name, name="sampled", recipe=Recipe().flat(), seed=0)
        study.add_trial(optuna.create_trial(value=0.0, user_attrs={"job": job.plain()}))
        (folder.checkpoints / name).mkdir(parents=True)
        (folder.checkpoints / name / "test.npz").touch()
    assert "t0003, phase1-t0004" in selection_checks(folder, "abc")[0].detail
    (folder.path / "finalist.json").unlink()
    assert selection_checks(folder, "abc")[0].status == "fail"


def test_another_run_s_look_is_reported(tmp_path):
    other = RunFolder(tmp_path / "earlier")
    other.path.mkdir()
    count_look(other, "abc", "shop")
    folder = finished(tmp_path)
    count_look(folder, "abc", "shop")
    assert [c.value for c in selection_checks(folder, "abc")] == [0.0, 1.0]


@pytest.mark.parametrize(("everywhere", "status"), [(True, "pass"), (False, "fail")])
def test_the_gain_check_reads_the_artefacts_own_trainings_on_the_test_split(clean, tmp_path, everywhere, status):
    """Members that know the labels in every subdomain, or in one alone; other trainings lie beside them unread."""
    lists = split_lists(clean, "test")
    names = clean.subdomain[lists.rows]
    helped = np.ones(len(names), dtype=bool) if everywhere else names == names[0]
    source, run = RunFolder(tmp_path), SimpleNamespace(data=clean, options=SimpleNamespace(seed=0))
    recipe = Recipe().flat()
    finalist = Finalist(trial_id="t0001", recipe=recipe, seeds=(1, 2), arms=2)
    key = ArmKey("finalist", Recipe().model.modalities)
    missing = gain_check(run, finalist, source)
    assert (missing.status, missing.detail) == ("not measured", f"{tmp_path} kept no test values")
    random = np.random.default_rng(0)
    for index, arms in ((0, 2), (1, 2), (2, 2), (0, 1)):
        mine = arms == 2 and index < 2
        told = lists.labels + 0.3 * random.normal(size=lists.labels.shape)
        scores = np.where((helped & mine)[:, None], told, lists.v1)
        place = source.checkpoints / trial_id(key, index, arms)
        place.mkdir(parents=True)
        write_outputs(Outputs(lists=lists, scores=scores), place / "test.npz")
    found = gain_check(run, finalist, source)
    assert found.status == status
    assert "queries; all of them gain" in found.detail
    if not everywhere:
        assert found.value == pytest.approx(0.0, abs=1e-6)
        assert f"without {names[0]}" in found.detail


def failing(*_, **__):
    raise ZeroDivisionError("here")


MADE = {
    "isolation_checks": "reported",
    "copies_check": "reported",
    "open_inputs": "not measured",
    "open_labels": "not measured",
    "leak_check": "not measured",
    "leak_probe_checks": "not measured",
    "order_check": "not measured",
    "gain_check": "not measured",
    "selection_checks": "not measured",
    "_held_back": "not measured",
}


@pytest.mark.parametrize("broken", MADE)
def test_a_check_that_cannot_be_made_is_no_pass_and_costs_no_other(broken, clean, tmp_path, monkeypatch):
    fine = {name: integrity.check(name, 0.0, at_most=1.0) for name in MADE}
    for name in MADE:
        several = name.endswith(("checks", "inputs"))
        monkeypatch.setattr(integrity, name, lambda *_, found=[fine[name]] if several else fine[name], **__: found)
    monkeypatch.setattr(integrity, "job_dataset", lambda *_: None)
    monkeypatch.setattr(integrity, "ticket_for", lambda _: None)
    monkeypatch.setattr(integrity, "pack", lambda *_: None)
    monkeypatch.setattr(integrity, "ranker_files", lambda _: [])
    monkeypatch.setattr(integrity, "_held_back", lambda *_: (np.full(4, 0.5), np.full(4, 0.5)))
    monkeypatch.setattr(integrity, broken, failing)
    finalist = Finalist(trial_id="t0001", recipe=Recipe().flat(), seeds=(0, 1))
    run = run_in(RunFolder(tmp_path), RunOptions(phase="phase4"), PHASE4, clean)
    records = [SimpleNamespace(trial_id=job.trial_id, finished=True) for job in integrity.integrity_jobs(finalist, 3)]
    monkeypatch.setattr(run.trainer, "train", lambda stages: None)
    monkeypatch.setattr(run.trainer, "records", lambda *_: records)
    monkeypatch.setattr(run.trainer, "call", lambda function, *given: lambda: function(*given))
    checks = check_integrity(run, finalist, run.folder)
    bad = [c for c in checks if "ZeroDivisionError: here" in c.detail]
    assert [c.status for c in bad] == [MADE[broken]] * (2 if broken == "_held_back" else 1)
    assert len(checks) == len(MADE) + 1
    assert len(pd.read_csv(tmp_path / "integrity.csv")) == len(checks)


def test_without_a_finalist_nothing_is_checked(clean, tmp_path, monkeypatch):
    monkeypatch.setattr(integrity, "ticket_for", lambda _: None)
    monkeypatch.setattr(integrity, "job_dataset", failing_for_want_of_queries)
    run = run_in(RunFolder(tmp_path), RunOptions(phase="phase4"), PHASE4, clean)
    finalist = Finalist(trial_id="t0001", recipe=Recipe().flat(), seeds=(0, 1))
    with pytest.raises(ClosedError):
        check_integrity(run, finalist, run.folder)


def failing_for_want_of_queries(*_):
    raise DataError("has too few queries.", "Give more.", file="queries")
