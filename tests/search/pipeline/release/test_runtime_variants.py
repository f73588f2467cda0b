"""Runtime variants of a real ranker: every one built, timed and read as the gate reads it."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from run_context import run_in
from safetensors.torch import save_file

from fusion_models.config import Recipe
from fusion_models.evaluation import score, split_lists
from fusion_models.export import TOLERANCE
from fusion_models.metrics import Interval
from fusion_models.models import build_ranker
from fusion_models.tuned_v1 import equip
from search.analysis.archive import RELEASE_RULE_LEVEL
from search.options import RunOptions
from search.pipeline.release import rungs, runtime_variants
from search.pipeline.release.rungs import V1_SUM
from search.pipeline.release.runtime_variants import TimingSize, fastest, measure_variants, quantiles, released
from search.pipeline.release.variant_quality import own_quality, variant_outputs
from search.run_store.artifacts import RECIPE, WEIGHTS, load_ranker, write_ensemble
from search.run_store.folder import RunFolder
from spaces import PHASE4


def save_ranker(place, data, seed, **changes):
    """Weights of an untrained ranker, as a training leaves them."""
    recipe = Recipe.from_flat({"model.width": 16, "model.layers": 1, "model.heads": 2} | changes)
    torch.manual_seed(seed)
    model = build_ranker(recipe, data.schema, data.statistics)
    equip(model, data)
    place.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, place / WEIGHTS)
    (place / RECIPE).write_text(json.dumps({"recipe": recipe.flat(), "seed": seed, "numbers": {}}))
    return sum(p.numel() for p in model.parameters())


@pytest.fixture(scope="module")
def measured(small_data, tmp_path_factory):
    """Runtime variants of one ranker and of two smaller ones on the front; and the run folder."""
    folder = RunFolder(tmp_path_factory.mktemp("variants"))
    size = save_ranker(folder.checkpoints / "chosen", small_data, 0)
    front = []
    for seed, width in ((1, 8), (2, 12), (3, 12), (4, 32)):
        parameters = save_ranker(folder.checkpoints / f"t{seed}", small_data, seed, **{"model.width": width})
        front.append({"trial_id": f"t{seed}", "parameters": parameters, "ndcg": 0.5 + 0.01 * seed})
    pd.DataFrame(front).to_csv(folder.path / "pareto.csv", index=False)
    options = RunOptions(phase="phase4", data=small_data.source, results=str(folder.path))
    run = run_in(folder, options, PHASE4, small_data)
    threads = torch.get_num_threads()
    asked = TimingSize(compiled=False, requests=60, candidates=(4,), batches=(1, 3))
    variants = measure_variants(run, "chosen", folder, asked)
    assert torch.get_num_threads() == threads
    return variants, folder, size


def test_every_rung_is_timed_on_the_judged_lists_and_some_over_the_grid(measured):
    variants, folder, size = measured
    table = variants.table
    written = pd.read_csv(folder.path / "latency.csv")
    numbers = ["p50_ms", "p95_ms", "p99_ms", "ndcg", "ndcg_cost", "largest_difference", "requests_per_second"]
    np.testing.assert_allclose(written[numbers], table[numbers].astype(float))
    assert set(table["status"]) == {"measured"}
    judged = table[table["candidates"] == "as judged"]
    mine = judged[judged["ranker"] == "chosen"]
    assert list(mine["runtime"]) == ["eager", "torch.export", "onnxruntime", "onnxruntime, dynamic int8"]
    assert set(mine["parameters"]) == {float(size)}
    # the smallest of the front, and the better one of the others that are smaller than the finalist
    assert list(dict.fromkeys(judged["ranker"])) == ["chosen", "t1", "t3", V1_SUM]
    grid = table[table["candidates"] != "as judged"]
    assert set(grid["runtime"]) == {"eager", "onnxruntime", "torch"}
    assert set(grid["batch"]) == {1, 3}
    timed = table[["p50_ms", "p95_ms", "p99_ms", "worst_ms"]].to_numpy()
    assert (np.diff(timed, axis=1) >= 0).all()
    assert (table["p95_ms_ci_low"] <= table["p95_ms"]).all()
    assert (table["p95_ms_ci_high"] >= table["p95_ms"]).all()
    # one schedule for all rungs of a cell
    assert judged["requests_per_second"].nunique() == 1


def test_what_a_rung_costs_is_its_ndcg_against_the_eager_finalist(measured, small_data):
    variants, folder, _ = measured
    judged = variants.table[variants.table["candidates"] == "as judged"].set_index(["ranker", "runtime"])
    for name in ("chosen", "t3"):
        ranker = load_ranker(folder.checkpoints / name, small_data)
        truth = float(np.nanmean(score(ranker, small_data, "validation").ndcg()))
        assert judged.loc[(name, "eager"), "ndcg"] == pytest.approx(truth, abs=1e-6)
        assert judged.loc[(name, "onnxruntime"), "ndcg"] == pytest.approx(truth, abs=1e-3)
    base = judged.loc[("chosen", "eager"), "ndcg"]
    assert (base - judged["ndcg"] - judged["ndcg_cost"]).dropna().abs().max() < 1e-12
    exact = judged.loc["chosen"]["largest_difference"]
    assert exact["eager"] == 0.0
    assert exact[["torch.export", "onnxruntime"]].max() <= TOLERANCE
    assert exact["onnxruntime, dynamic int8"] > 0.0
    assert np.isnan(judged.loc[("t3", "eager"), "largest_difference"])  # another ranker is no copy of the finalist
    assert np.isnan(judged.loc[(V1_SUM, "torch"), "ndcg"])


def test_an_ensemble_with_a_tuned_v1_has_every_rung(small_data, tmp_path):
    folder = RunFolder(tmp_path)
    changes = {"model.width": 8, "model.context": "tuned_v1"}
    for seed in (0, 1):
        save_ranker(folder.checkpoints / f"s{seed}", small_data, seed, **changes)
    write_ensemble(folder.checkpoints / "chosen", [folder.checkpoints / f"s{seed}" for seed in (0, 1)])
    options = RunOptions(phase="phase4", data=small_data.source, results=str(folder.path))
    run = run_in(folder, options, PHASE4, small_data)
    found = measure_variants(
        run, "chosen", folder, TimingSize(compiled=False, requests=60, candidates=(4,), batches=(3,))
    )
    mine = found.table[found.table["ranker"] == "chosen"]
    assert set(mine["status"]) == {"measured"}
    exact = mine[mine["runtime"] != "onnxruntime, dynamic int8"]
    assert exact["largest_difference"].max() <= TOLERANCE
    assert found.released is not None
    said = json.loads((folder.path / "export" / "inputs.json").read_text())
    assert said["rows"] == "lists"
    assert said["inputs"] == list(said["columns"]) == ["visual", "text", "metadata", "v1", "valid"]


class Broken(Exception):
    """No exception that the code knows."""


def breaking(*_, **__):
    raise Broken("here")


def answers_few(scorer, most):
    """A scorer that fails on more than `most` candidates."""

    def scores(batch):
        return scorer(batch) if batch.v1.shape[1] <= most else breaking()

    return scores


def not_finite(batch):
    return torch.full(batch.v1.shape, torch.nan)


BROKEN = {
    "torch.export.save": ("torch.export.save", breaking, ["torch.export"], ["ranker.pt2"]),
    "the exporter": (
        "fusion_models.export.export_program",
        breaking,
        ["torch.export", "onnxruntime"],
        ["ranker.pt2", "ranker.onnx"],
    ),
    "onnxruntime's session": (
        "onnxruntime.InferenceSession",
        breaking,
        ["onnxruntime", "onnxruntime, dynamic int8"],
        ["ranker.onnx", "ranker-int8.onnx", "t1.onnx"],
    ),
    "rounding": (
        "onnxruntime.quantization.quantize_dynamic",
        breaking,
        ["onnxruntime, dynamic int8"],
        ["ranker-int8.onnx"],
    ),
    "a scorer": ("fusion_models.export.onnx_scorer", lambda *_: breaking, ["onnxruntime"], ["ranker.onnx"]),
    "its scores": ("fusion_models.export.program_scorer", lambda *_: not_finite, ["torch.export"], ["ranker.pt2"]),
    "a smaller ranker": ("search.pipeline.release.rungs.load_ranker", breaking, [], []),
    "the front's table": ("search.pipeline.release.rungs.pd.read_csv", breaking, [], []),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_rung_that_fails_costs_itself(name, small_data, tmp_path, monkeypatch):
    where, instead, runtimes, files = BROKEN[name]
    folder = RunFolder(tmp_path)
    quick = {"model.variant": "late_sum", "model.width": 8}
    save_ranker(folder.checkpoints / "chosen", small_data, 0, **quick)
    small = save_ranker(folder.checkpoints / "t1", small_data, 1, **quick | {"model.width": 4})
    pd.DataFrame([{"trial_id": "t1", "parameters": small, "ndcg": 0.5}]).to_csv(tmp_path / "pareto.csv", index=False)
    run = run_in(folder, RunOptions(phase="phase4", data=small_data.source, results=str(tmp_path)), PHASE4, small_data)
    (tmp_path / "export").mkdir()
    for file in ("ranker.pt2", "ranker.onnx", "ranker-int8.onnx", "t1.onnx", "t9.onnx"):
        (tmp_path / "export" / file).write_text("of a run that was interrupted")
    monkeypatch.setattr(where, instead)
    if not any("onnx" in runtime for runtime in runtimes):  # then ONNX, which takes longest, need not work either
        monkeypatch.setattr("fusion_models.export.require_onnx", breaking)
    found = measure_variants(run, "chosen", folder, TimingSize(compiled=False, requests=60, candidates=()))
    mine = found.table[found.table["ranker"] == "chosen"].set_index("runtime")
    assert mine.loc["eager", "status"] == "measured"
    for runtime in runtimes:
        assert mine.loc[runtime, "status"] == "not measured", runtime
        assert np.isnan(mine.loc[runtime, "p95_ms"])
        assert mine.loc[runtime, "note"]
    if not runtimes:
        others = found.table[~found.table["ranker"].isin(["chosen", V1_SUM])]
        assert list(others["status"]) == ["not measured"]
    left = {path.name for path in (tmp_path / "export").iterdir()}
    assert not left & {*files, "t9.onnx"}
    assert "inputs.json" in left
    assert found.released is not None


def only_torch(tmp_path, small_data, monkeypatch):
    """A run whose finalist has two rungs, eager and torch.export."""
    folder = RunFolder(tmp_path)
    save_ranker(folder.checkpoints / "chosen", small_data, 0, **{"model.variant": "late_sum", "model.width": 8})
    monkeypatch.setattr("fusion_models.export.require_onnx", breaking)
    options = RunOptions(phase="phase4", data=small_data.source, results=str(tmp_path))
    return folder, run_in(folder, options, PHASE4, small_data)


@pytest.mark.parametrize("where", ["fusion_models.export.described_inputs", "search.pipeline.release.rungs.json_text"])
def test_inputs_that_cannot_be_described_cost_their_file_alone(where, small_data, tmp_path, monkeypatch):
    folder, run = only_torch(tmp_path, small_data, monkeypatch)
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "inputs.json").write_text("of another finalist")
    monkeypatch.setattr(where, breaking)
    table = measure_variants(run, "chosen", folder, TimingSize(compiled=False, requests=60, candidates=())).table
    assert set(table[table["runtime"].isin(["eager", "torch.export"])]["status"]) == {"measured"}
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["ranker.pt2"]


def test_without_a_folder_for_exports_the_eager_ranker_is_timed(small_data, tmp_path, monkeypatch):
    folder, run = only_torch(tmp_path, small_data, monkeypatch)
    (tmp_path / "export").write_text("no folder")
    found = measure_variants(run, "chosen", folder, TimingSize(compiled=False, requests=60, candidates=()))
    status = found.table.set_index("runtime")["status"]
    assert (status["eager"], status["torch.export"]) == ("measured", "not measured")
    assert found.released is not None


def test_a_rung_that_fails_on_the_judged_lists_leaves_no_file_and_is_timed_no_more(small_data, tmp_path, monkeypatch):
    folder, run = only_torch(tmp_path, small_data, monkeypatch)
    program, answerer = rungs.export.program_scorer, runtime_variants.latency.answerer
    made = []

    def kept(*given):
        made.append(program(*given))
        return made[0]

    monkeypatch.setattr("fusion_models.export.program_scorer", kept)
    monkeypatch.setattr(
        runtime_variants.latency, "answerer", lambda s, *more: breaking() if s in made else answerer(s, *more)
    )
    table = measure_variants(run, "chosen", folder, TimingSize(compiled=False, requests=60, candidates=())).table
    assert table.set_index("runtime").loc["torch.export", ["status", "note"]].tolist() == [
        "not measured",
        "Broken: here",
    ]
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["inputs.json"]


def test_a_cell_that_a_rung_cannot_answer_is_not_measured(small_data, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    save_ranker(folder.checkpoints / "chosen", small_data, 0, **{"model.width": 8})
    run = run_in(folder, RunOptions(phase="phase4", data=small_data.source, results=str(tmp_path)), PHASE4, small_data)
    longest, eager, v1 = 40, rungs.export.eager_scorer, rungs.v1_rung
    monkeypatch.setattr("fusion_models.export.eager_scorer", lambda ranker: answers_few(eager(ranker), longest))
    monkeypatch.setattr("fusion_models.export.require_onnx", breaking)

    def fewer(data, reads):
        whole = v1(data, reads)
        return dataclasses.replace(whole, scorer=answers_few(whole.scorer, 20))

    monkeypatch.setattr(runtime_variants, "v1_rung", fewer)
    asked = TimingSize(compiled=False, requests=60, candidates=(4, 30, 50), batches=(1,))
    table = measure_variants(run, "chosen", folder, asked).table.set_index(["runtime", "candidates"])
    assert table.loc["eager", "status"].to_dict() == {
        "as judged": "measured",
        4: "measured",
        30: "measured",
        50: "not measured",
    }
    assert table.loc[("torch", 4), "status"] == "measured"
    assert table.loc[("torch", 30), "note"] == "Broken: here"
    assert "the eager ranker failed here" in table.loc[("torch", 50), "note"]


def rung(ranker="chosen", p50=1.0, p95=2.0, difference=0.0, candidates="as judged"):
    row = {"ranker": ranker, "candidates": candidates, "p50_ms": p50, "p95_ms": p95, "largest_difference": difference}
    row |= {"p95_ms_ci_low": 0.9 * p95, "p95_ms_ci_high": 1.1 * p95}
    return row | {"p95_ms_rule_low": 0.8 * p95, "p95_ms_rule_high": 1.2 * p95}


def test_the_gate_reads_an_exact_rung_and_the_archive_rule_any():
    table = pd.DataFrame(
        [
            rung(p50=9.0, p95=10.0),
            rung(p50=5.0, p95=20.0, difference=1e-6),
            rung(p50=1.0, p95=3.0, difference=1e-2),
            rung("t1", p50=0.5, p95=2.0, difference=np.nan),
            rung(V1_SUM, p50=0.1, p95=0.2, difference=np.nan),
            rung(p50=0.01, p95=0.02, candidates="20"),
            rung(p50=0.01, p95=np.nan),
        ]
    )
    assert released(table) == Interval(20.0, pytest.approx(18.0), pytest.approx(22.0))
    assert fastest(table) == Interval(2.0, pytest.approx(1.6), pytest.approx(2.4), RELEASE_RULE_LEVEL)
    lossy = table.assign(largest_difference=0.5)
    assert released(lossy) is None
    assert fastest(table.assign(p95_ms=np.nan)) is None


def test_a_variant_saves_time_only_where_its_own_gain_and_drop_do_not_fail():
    table = pd.DataFrame([rung(p95=300.0), rung(p95=3.0, difference=0.1), rung("t1", p95=2.0, difference=np.nan)])
    assert fastest(table.assign(quality=["exact", "holds", "holds"])).mean == 2.0
    assert fastest(table.assign(quality=["exact", "holds", "fails"])).mean == 3.0
    slow = fastest(table.assign(quality=["exact", "fails", "fails"]))
    assert (slow.mean, slow.low) == (300.0, pytest.approx(240.0))


def test_the_own_quality_of_a_variant_is_its_gain_and_its_drop(small_data):
    lists = split_lists(small_data, "validation")

    def like(labels, blinded):
        def scorer(batch):
            seen = bool((batch.features["visual"] != 0).any())
            return batch.labels * (labels if seen else blinded) + (0 if seen or blinded else batch.v1)

        return variant_outputs(scorer, small_data, "validation", "visual")

    good = own_quality(PHASE4, like(1.0, 0.0), None)
    assert good["ndcg_gain"] == pytest.approx(1.0 - np.nanmean(lists.v1_ndcg))
    assert good["quality"] == "holds"
    assert good["visual_masking_drop"] > 0.05
    unmoved = own_quality(PHASE4, like(1.0, 1.0), None)
    assert (unmoved["visual_masking_drop"], unmoved["quality"]) == (0.0, "fails")
    assert unmoved["fails_in"] == "visual_masking_drop"
    worse = own_quality(PHASE4, like(-1.0, -1.0), None)
    assert (worse["quality"], worse["fails_in"]) == ("fails", "ndcg_gain, visual_masking_drop")
    assert good["fails_in"] == ""
    assert worse["ndcg_gain_ci_low"] < worse["ndcg_gain"] < worse["ndcg_gain_ci_high"] < 0


def test_rungs_that_are_no_copy_have_a_gain_and_a_drop_of_their_own(measured):
    table = measured[0].table
    judged = table[table["candidates"] == "as judged"].set_index(["ranker", "runtime"])
    own = judged[["ndcg_gain", "ndcg_gain_ci_low", "ndcg_gain_ci_high", "visual_masking_drop"]].notna().all(axis=1)
    copies = judged["largest_difference"] <= TOLERANCE
    assert (judged.loc[copies, "quality"] == "exact").all()
    others = judged.index.get_level_values("ranker") != V1_SUM
    assert (own == (others & ~copies)).all()
    assert judged.loc[own, "quality"].isin(["holds", "fails"]).all()
    assert (judged.loc[own, "fails_in"].ne("") == (judged.loc[own, "quality"] == "fails")).all()
    assert (table["p95_ms_rule_low"] <= table["p95_ms_ci_low"]).all()


def test_a_row_s_quantiles_are_order_statistics_with_an_interval_around_p95():
    values = np.random.default_rng(0).permutation(np.arange(1.0, 401.0))
    found = quantiles(values, np.random.default_rng(1))
    assert (found["requests"], found["p50_ms"], found["p95_ms"], found["p99_ms"]) == (400, 200.0, 380.0, 396.0)
    assert found["worst_ms"] == 400.0
    assert found["p95_ms_ci_low"] <= 371.0  # the order statistics of independent requests, or wider
    assert found["p95_ms_ci_high"] >= 389.0
