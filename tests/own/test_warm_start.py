"""Trainings that start from a team's weights: read without executing anything, held against the base recipe, kept."""

import copy

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import nn

from fusion_models.config import Recipe
from fusion_models.models import build_ranker
from fusion_models.models.own import own_model
from fusion_models.training import start
from fusion_models.training.warm_start import WeightsError, read_weights, require_fitting, warm_start
from fusion_models.tuned_v1 import seen_by, tuned_v1
from search.execution.file_transfer import ticket_for
from search.execution.job_training import JobTraining
from search.options import RunOptions
from search.pipeline.phase import run_phase
from search.pipeline.roadmap import run_roadmap
from search.run_store.job import Job
from search.run_store.start_weights import START, START_FILE, described_start, keep_start_weights

TOWERS = "two_towers:TwoTowers"
OURS = Recipe().updated({"model.width": 8, "model.heads": 2, "model.layers": 1, "train.start": "weights"})
OWN = Recipe().with_own({"width": 8, "dropout": 0.0}).updated({"model.variant": TOWERS, "train.start": "weights"})


def production(recipe, data, seed=7):
    """A module as the team has it, and its weights under the team's own names."""
    model = start(recipe, data, seed=seed).model
    return model, (model.ranker if recipe is OWN else model).state_dict()


def test_a_pickled_module_is_not_opened(tmp_path):
    path = tmp_path / "whole.pt"
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(
        WeightsError, match=r"neither safetensors nor a plain state dict .*write one by torch.save\(model"
    ):
        read_weights(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(WeightsError, match="holds no tensors by name"):
        read_weights(path)
    with pytest.raises(WeightsError, match="there is no such file"):
        read_weights(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("suffix", ["pt", "bin", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"abc", b"\x80\x02", b"\xff\xfe{}", b"PK\x03\x04", b"{}", b"q\x05."])
def test_what_is_no_file_of_weights_is_told_in_one_line(content, suffix, tmp_path):
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"neither safetensors nor a plain state dict \(.+\)") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("recipe", [OURS, OWN], ids=["ours", "own"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_of_production_are_where_a_training_starts(recipe, suffix, small_data, tmp_path):
    trained, weights = production(recipe, small_data)
    path = tmp_path / f"production.{suffix}"
    (torch.save if suffix == "pt" else save_file)(weights, path)
    model = start(recipe, small_data, seed=0).model
    require_fitting(model, read_weights(path), path)
    warm_start(model, read_weights(path))
    batch = small_data.gather(small_data.rows("train")[:4])
    assert torch.equal(model.eval()(batch).scores, trained.eval()(batch).scores)


def test_what_does_not_fit_is_one_line(small_data, tmp_path):
    _, weights = production(OWN, small_data)
    weights = copy.copy(weights) | {"score.weight": torch.zeros(1, 9), "extra": torch.zeros(2)}
    del weights["query.bias"]
    with pytest.raises(WeightsError) as raised:
        require_fitting(start(OWN, small_data, seed=0).model, weights, tmp_path / "v2.pt")
    said = str(raised.value)
    assert "score.weight is [1, 9] there and [1, 8] in the model" in said
    assert "the model has no extra" in said
    assert "query.bias is missing there" in said
    assert "\n" not in said


@pytest.mark.parametrize("recipe", [OURS, OWN], ids=["ours", "own"])
def test_a_refit_starts_from_what_it_has_a_place_for(recipe, small_data):
    _, weights = production(recipe, small_data)
    left = recipe.restricted(("text", "metadata"))
    fresh, model = (build_ranker(left, small_data.schema, small_data.statistics) for _ in range(2))
    warm_start(model, weights)
    names = weights.keys() & (model.ranker if recipe is OWN else model).state_dict().keys()
    assert names
    assert not any("visual" in name for name in names)
    assert not all(torch.equal(x, fresh.state_dict()[n]) for n, x in model.state_dict().items())


@pytest.mark.parametrize("left", [("text", "metadata"), ("visual", "metadata"), ("visual", "text", "metadata")])
def test_trees_are_always_this_datasets_own(left, small_data):
    """Production's read other columns than a refit's, and have seen these training queries."""
    recipe = OURS.updated({"model.context": "tuned_v1"})
    _, weights = production(recipe, small_data)
    weights = {n: x + 1 if n.startswith("trees.") else x for n, x in weights.items()}
    state = start(recipe.restricted(left), small_data, seed=0)
    before = state.model.trees.digest
    warm_start(state.model, weights)
    assert state.model.trees.digest == before
    seen = seen_by(state.model, small_data)
    assert seen.tuned_v1 == (before, tuned_v1(small_data, state.model.trees.reads).scores)  # out of fold
    batch = seen.gather(seen.rows("train")[:4])
    assert state.model(batch).scores.isfinite().all()


@pytest.mark.parametrize("variant", ["gated_unit", "late_sum", "low_rank_tensor", "bottleneck"])
@pytest.mark.parametrize("left", [("text", "metadata"), ("visual", "metadata")])
def test_a_refit_gets_each_modalitys_own_parts(variant, left, small_data):
    recipe = OURS.updated({"model.variant": variant, "model.text_tokens": 1, "loss.unimodal": 0.1})
    _, weights = production(recipe, small_data)
    model = start(recipe.restricted(left), small_data, seed=0).model
    warm_start(model, weights)
    parts = ("fusion.values.", "fusion.branches.", "fusion.factors.", "fusion.layers.0.", "unimodal.heads.")
    after, checked = model.state_dict(), set()
    for part in parts:
        for name in after:
            place, _, rest = name.removeprefix(part).partition(".")
            if name.startswith(part) and place.isdigit():
                here = [*left, "query"][int(place)]
                there = [*recipe.model.modalities, "query"].index(here)
                assert torch.equal(after[name], weights[f"{part}{there}.{rest}"]), name
                checked.add(part)
    assert len(checked) == 2


def test_a_job_of_a_run_starts_from_the_weights_that_the_run_keeps(small_data, tmp_path, monkeypatch):
    trained, weights = production(OWN, small_data)
    save_file(weights, tmp_path / "production.safetensors")
    checkpoints = tmp_path / "run" / "checkpoints"
    keep_start_weights(str(tmp_path / "production.safetensors"), checkpoints, OWN, small_data)
    assert load_file(checkpoints / START / START_FILE).keys() == weights.keys()
    assert len(described_start("production.safetensors", checkpoints)["sha256"]) == 64
    job = Job(trial_id="t0000", name="base", recipe=OWN.flat(), seed=0)
    from search.execution import file_transfer

    monkeypatch.setattr(file_transfer, "open_home", lambda: file_transfer.Home(node=None))
    config = {"job": job.plain(), "data": ticket_for(small_data), "checkpoints": str(checkpoints), "gpus": 0}
    state = JobTraining(config)._open(small_data)
    batch = small_data.gather(small_data.rows("train")[:4])
    assert torch.equal(state.model.eval()(batch).scores, trained.eval()(batch).scores)


def test_with_weights_the_structure_is_searched_no_longer():
    phase = RunOptions(phase="phase3", weights="production.pt").to_phase()
    assert phase.base.train.start == "weights"
    assert not {"model.variant", "model.layers", "model.text_tokens", "model.context"} & set(phase.ranges)
    assert {"model.dropout", "train.learning_rate", "loss.unimodal"} <= set(phase.ranges)
    assert own_model(TOWERS).kind == "ranker"
    own = RunOptions(phase="phase3", weights="production.pt", model=TOWERS).to_phase()
    assert {"own.width", "own.dropout"} <= set(own.ranges)


def test_a_file_that_is_not_there_deletes_nothing(tmp_path):
    folder = tmp_path / "phase3"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    gone = str(tmp_path / "typo.pt")
    for phase in ("phase3", "roadmap"):
        options = RunOptions(
            phase=phase, data="planted?queries=160&candidates=8", results=str(tmp_path), fresh=True, weights=gone
        )
        with pytest.raises(WeightsError, match="there is no such file"):
            (run_phase if phase == "phase3" else run_roadmap)(options, Console(quiet=True))
    assert (folder / "run.json").exists()
    assert not (tmp_path / "roadmap").exists()
