"""Weights on disk: one training's, or several as one ranker."""

import json
import shutil

import numpy as np
import pytest
import torch

from fusion_models.config import Recipe
from fusion_models.contribution import contribution
from fusion_models.evaluation import Blanking, evaluate, score
from fusion_models.files import link_or_copy
from fusion_models.latency import scoring_latency
from fusion_models.metrics import ndcg
from fusion_models.metrics.fusion import standardise
from fusion_models.models import Ensemble, FusionRanker
from fusion_models.training import start, train
from search.execution.file_transfer import pack, unpacked
from search.run_store.artefact import ARTEFACT, write_artefact
from search.run_store.artifacts import load_ranker, measure, ranker_files, read_data, write_ensemble, write_finished
from search.run_store.folder import RunFolder
from search.run_store.job import Job
from search.shadow import _load, finalist_checkpoint

SMALL = {"model.width": 8, "model.heads": 2, "model.layers": 1, "train.epochs": 1}


def trained(data, place, seed, **changes):
    """A finished training's folder."""
    recipe = Recipe().updated(SMALL | changes)
    state = start(recipe, data, seed=seed)
    for _ in train(state, data):
        pass
    job = Job(trial_id=place.name, name="", recipe=recipe.flat(), seed=seed)
    write_finished(measure(state, data, job), state, data, job, place)
    return place


@pytest.fixture(scope="module")
def trainings(small_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trainings")
    changes = {"model.context": "tuned_v1"}
    return [trained(small_data, folder / f"s{seed}", seed, **changes) for seed in range(3)]


@pytest.fixture(scope="module")
def artefact(trainings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("artefact") / "finalist"
    write_ensemble(folder, trainings)
    return folder


def test_an_ensemble_comes_back_as_its_members(trainings, artefact, small_data):
    found = load_ranker(artefact, small_data)
    assert isinstance(found, Ensemble)
    assert not found.training
    for member, place in zip(found.members, trainings, strict=True):
        alone = load_ranker(place, small_data)
        assert isinstance(alone, FusionRanker)
        assert all(
            torch.equal(a, b) for a, b in zip(member.state_dict().values(), alone.state_dict().values(), strict=True)
        )
    said = json.loads((artefact / "recipe.json").read_text())
    assert said["seeds"] == [0, 1, 2]
    assert said["trainings"] == ["s0", "s1", "s2"]
    assert sorted(ranker_files(artefact)) == sorted(p.name for p in artefact.iterdir())


def test_it_says_what_it_was_trained_on_and_is_opened_by_that(trainings, small_data, tmp_path):
    folder = tmp_path / "alone"
    write_ensemble(folder, trainings, small_data.description)
    said = read_data(folder)
    assert said.to_json() == small_data.description.to_json()
    assert np.array_equal(said.statistics.mean["visual"], small_data.statistics.mean["visual"])
    batch = small_data.gather(small_data.rows("validation")[:4])
    found, truth = load_ranker(folder, said), load_ranker(folder, small_data)
    with torch.no_grad():
        assert torch.equal(found(found.complete(batch)).scores, truth(truth.complete(batch)).scores)
    assert read_data(trainings[0]) is None


def test_a_run_s_artefact_says_so_too(trainings, small_data, tmp_path):
    folder = RunFolder(tmp_path / "phase3")
    for place in trainings[:2]:
        shutil.copytree(place, folder.checkpoints / place.name)
    write_artefact(folder, ["s0", "s1"], small_data.description)
    assert read_data(folder.checkpoints / ARTEFACT).fingerprint == small_data.fingerprint
    assert len(load_ranker(folder.checkpoints / ARTEFACT, small_data).members) == 2


def test_an_ensemble_of_one_is_that_one(trainings, small_data, tmp_path):
    """Its numbers are read of raw scores, so its scores stay as they are."""
    write_ensemble(tmp_path / "one", trainings[:1])
    found = load_ranker(tmp_path / "one", small_data)
    assert isinstance(found, FusionRanker)
    rows = small_data.rows("validation")[:4]
    alone = load_ranker(trainings[0], small_data)
    lists = small_data.gather(rows)
    assert torch.equal(found(found.complete(lists)).scores, alone(alone.complete(lists)).scores)


def test_its_ndcg_is_that_of_the_mean_of_standardised_scores(trainings, artefact, small_data):
    each = [score(load_ranker(place, small_data), small_data, "test") for place in trainings]
    mean = torch.stack([standardise(s.scores, s.valid) for s in each]).mean(0)
    expected = ndcg(mean, each[0].labels, each[0].valid).numpy()
    np.testing.assert_allclose(score(load_ranker(artefact, small_data), small_data, "test").ndcg(), expected, atol=1e-6)


def test_every_measurement_works_on_it(artefact, small_data):
    ranker = load_ranker(artefact, small_data)
    found = evaluate(ranker, small_data, "validation", Blanking(kinds=("zero", "mean")))
    assert found.shares.shape[-1] == 3
    assert found.outputs.value_shares is not None
    assert {"ndcg", "visual_masking_drop", "v1_correlation", "attention_visual"} <= set(found.numbers(ranks=True))
    given = contribution(ranker, small_data, "validation")
    assert set(given.effective_rank) == {"visual", "text", "metadata"}
    assert np.isfinite(given.interaction_gain).any()
    assert scoring_latency(ranker, small_data, queries=20, warm_up=5).p95 > 0.0


def test_it_travels_as_files(artefact, small_data):
    batch = small_data.gather(small_data.rows("test")[:3])
    with unpacked(pack(artefact, *ranker_files(artefact))) as place, torch.no_grad():
        found, truth = load_ranker(place, small_data), load_ranker(artefact, small_data)
        assert torch.equal(found(found.complete(batch)).scores, truth(truth.complete(batch)).scores)


def test_it_is_served(artefact, small_data):
    assert isinstance(_load(artefact, small_data), Ensemble)
    with pytest.raises(ValueError, match=r"holds no weights\.safetensors"):
        _load(artefact.parent, small_data)


def test_a_run_stands_for_its_artefact(trainings, tmp_path):
    """Not for a training of the short list, whose mean nobody judged and which phase 4 does not hold."""
    with pytest.raises(ValueError, match="has no finalist with weights"):
        finalist_checkpoint(tmp_path)
    write_ensemble(tmp_path / "checkpoints" / ARTEFACT, trainings[:2])
    assert finalist_checkpoint(tmp_path) == tmp_path / "checkpoints" / ARTEFACT


def test_more_than_ten_members_keep_their_order(trainings, small_data, tmp_path):
    write_ensemble(tmp_path / "many", [trainings[i % 3] for i in range(11)])
    assert ranker_files(tmp_path / "many")[-1] == "weights-10.safetensors"
    write_ensemble(tmp_path / "many", trainings[:2])  # and what stood there is gone
    assert len(load_ranker(tmp_path / "many", small_data).members) == 2


def test_trainings_of_different_recipes_are_no_ensemble(trainings, small_data, tmp_path):
    other = trained(small_data, tmp_path / "other", 0)
    with pytest.raises(ValueError, match=r"one recipe, got \['s0', 'other'\]"):
        write_ensemble(tmp_path / "mixed", [trainings[0], other])
    with pytest.raises(ValueError, match="one recipe"):
        write_ensemble(tmp_path / "none", [])
    assert not (tmp_path / "mixed").exists()


def test_a_second_name_of_another_run_s_file_keeps_what_it_held(trainings, small_data, tmp_path):
    """Phase 4 links phase 3's trainings; where it has to train one again, phase 3's own stays as it was."""
    place = tmp_path / "again"
    place.mkdir()
    before = {path.name: path.read_bytes() for path in trainings[0].iterdir()}
    for name in before:
        link_or_copy(trainings[0] / name, place / name)
    trained(small_data, place, 7, **{"model.context": "tuned_v1"})
    assert {path.name: path.read_bytes() for path in trainings[0].iterdir()} == before
    assert {path.name: path.read_bytes() for path in place.iterdir()} != before
