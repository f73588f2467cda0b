"""Phase 4 as a whole on real Ray, from an empty results folder: it runs phase 3 first, and ends in a verdict."""

import io
import json
import os
import re

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from rich.console import Console
from roadmap_run import SET

from fusion_models.data import open_dataset
from fusion_models.export import input_names
from search.options import RunOptions
from search.pipeline.release.production import run_production
from search.pipeline.release.rungs import V1_SUM
from search.pipeline.release.runtime_variants import TimingSize
from search.report import ReportOptions, report
from search.run_store.artifacts import load_ranker, ranker_files
from search.run_store.folder import RunFolder, RunFolderError
from search.shadow import finalist_checkpoint

DATA = "planted:healthy?queries=160&candidates=8&validation_fraction=0.25&test_fraction=0.35"
QUICK = TimingSize(compiled=False, requests=40, candidates=(20,), batches=(1,))


def asked(results, **changes):
    return RunOptions(
        phase="phase4",
        data=DATA,
        trials=2,
        epochs=2,
        set=SET,
        scheduler="none",
        confirm_seeds=2,
        results=str(results),
        **changes,
    )


pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
"""The run is made within the first test that reads it."""


@pytest.fixture(scope="module")
def validated(shared_ray, tmp_path_factory):
    """The results folder of a phase 4 that began with nothing, and what it printed."""
    results = tmp_path_factory.mktemp("phase4")
    console = Console(file=io.StringIO(), width=200)
    folder = run_production(asked(results), console, timing=QUICK)
    return folder.path, console.file.getvalue()


def table(path, name):
    return pd.read_csv(path / f"{name}.csv")


def decision_of(path):
    return json.loads((path / "decision.json").read_text())


def test_phase_three_is_run_first_and_its_finalist_is_validated(validated):
    path, said = validated
    assert "holds no finished phase 3: it is run first" in said
    third, fourth = decision_of(path.parent / "phase3"), decision_of(path)
    assert fourth["finalist"] == third["finalist"] is not None
    assert fourth["look"] == third["look"] | {"by": "phase3"}
    assert "look 1 (of phase3) at practice data" in said
    assert "look 1 (of phase3) at practice data" in (path / "decision.md").read_text()
    gates = {g["name"]: g["status"] for g in fourth["gates"]}
    assert gates["phase 3 said GO"] == ("pass" if third["verdict"] == "GO" else "fail")
    assert gates["resume: v1 stable (business fact)"] == "not measured"
    assert fourth["verdict"] != "GO"  # nobody has answered the business facts
    assert {"integrity checks that do not pass", "latency_p95_ms", "components whose ablation is missing"} <= set(gates)
    assert fourth["verdict"] in said.replace(" ", "_")


def test_phase_three_s_measurements_are_read_and_not_made_again(validated):
    path, _ = validated
    earlier = path.parent / "phase3"
    finalist = json.loads((path / "finalist.json").read_text())
    kept = sorted((path / "checkpoints").glob("finalist-*/test.npz"))
    assert len(kept) == len(finalist["seeds"]) == 2
    for values in kept:
        assert os.path.samefile(values, earlier / values.relative_to(path))
    trials = table(path, "trials")
    taken = trials[trials["stage"] == "deciding"]
    assert list(taken["seed"]) == finalist["seeds"]
    assert taken["taken_over"].str.startswith("phase3, trial ").all()
    for name in ("judged.json", "evidence.json", "confirmed.csv", "baselines.csv"):
        assert (path / name).read_bytes() == (earlier / name).read_bytes()
    assert set(trials["state"]) == {"finished"}
    # phase 3 had measured the removal of every component with every seed, so nothing is ablated again
    assert set(trials["stage"]) == {"deciding", "integrity"}
    assert (path / "ablation.csv").read_bytes() == (earlier / "ablation.csv").read_bytes()


def test_every_check_component_and_rung_is_measured(validated):
    path, _ = validated
    checks = table(path, "integrity")
    for part in (
        "isolation of test",
        "train against test",
        "labels permuted",
        "random labels",
        "V1's score",
        "untouched",
    ):
        assert checks["name"].str.contains(part).any(), part
    untouched = checks[checks["name"].str.contains("untouched")].iloc[0]
    assert untouched["status"] == "pass", untouched["detail"]
    ablation = table(path, "ablation")
    assert set(ablation["status"]) == {"measured"}
    assert set(ablation["split"]) == {"test"}
    latency = table(path, "latency")
    judged = latency[latency["candidates"] == "as judged"]
    assert {"eager", "torch.export", "onnxruntime", "onnxruntime, dynamic int8"} <= set(judged["runtime"])
    assert set(judged["status"]) == {"measured"}, judged[["runtime", "note"]]
    exact = judged[judged["runtime"].isin(["torch.export", "onnxruntime"]) & judged["largest_difference"].notna()]
    assert (exact["largest_difference"] <= 1e-5).all()
    assert V1_SUM in set(judged["ranker"])


def test_the_latency_gate_reads_the_exact_rung_with_the_smallest_median(validated):
    path, _ = validated
    latency = table(path, "latency")
    exact = latency[(latency["candidates"] == "as judged") & (latency["largest_difference"] <= 1e-5)]
    best = exact.loc[exact["p50_ms"].idxmin()]
    gate = next(g for g in decision_of(path)["gates"] if g["name"] == "latency_p95_ms")
    assert (gate["value"], gate["ci_low"]) == pytest.approx((best["p95_ms"], best["p95_ms_ci_low"]))
    high = best["p95_ms_ci_high"]  # so few requests may give no upper limit, which JSON cannot say
    assert gate["ci_high"] == (pytest.approx(high) if np.isfinite(high) else None)


def test_the_exported_ranker_scores_as_the_finalist(validated):
    path, _ = validated
    data = open_dataset(DATA)
    place = finalist_checkpoint(path)
    assert place == path / "checkpoints" / "artefact"
    for name in ranker_files(place):
        assert (place / name).read_bytes() == (path.parent / "phase3" / "checkpoints" / "artefact" / name).read_bytes()
    ranker = load_ranker(place, data)
    said = json.loads((path / "export" / "inputs.json").read_text())
    assert said["inputs"] == list(input_names(ranker))
    assert said["rows"] == "lists"  # the artefact is an ensemble, which standardises within a query
    batch = data.gather(data.rows("validation")[:5])
    parts = {**batch.features, "context": batch.context, "v1": batch.v1.unsqueeze(-1), "valid": batch.valid}
    session = onnxruntime.InferenceSession(str(path / "export" / "ranker.onnx"))
    (scores,) = session.run([said["output"]], {name: parts[name].numpy() for name in said["inputs"]})
    valid = batch.valid.numpy()
    with torch.no_grad():
        truth = ranker(ranker.complete(batch)).scores.numpy()
    assert scores[valid] == pytest.approx(truth[valid], abs=1e-5)


def test_decision_and_report_hold_the_tables_and_the_rollout(validated, console):
    path, said = validated
    text = (path / "decision.md").read_text()
    for part in ("## Integrity", "## Latency", "## Rollout", "| 5% |", "guardrail slow answers"):
        assert part in text, part
    plan = json.loads((path / "rollout.json").read_text())
    assert [stage["share"] for stage in plan["stages"]][:1] == [0.05]
    page = (path / "report.html").read_text()
    for name in ("verdict", "gates", "flip", "integrity", "rollout", "latency", "ablation", "contribution", "trials"):
        assert f'id="{name}"' in page, name
    assert "Production validation" in page
    plain = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!#|data:)', plain)
    for check in table(path, "integrity")["name"]:
        assert check.replace("'", "&#39;") in page
    assert (path / "figures" / "latency-rungs.png").read_bytes().startswith(b"\x89PNG")
    assert "could not be built" not in said
    (path / "report.html").unlink()
    report(ReportOptions(run=str(path)), console)
    assert (path / "report.html").read_text() == page


def test_run_again_it_changes_nothing_and_other_data_are_refused(validated, console, tmp_path):
    path, _ = validated
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file()}
    run_production(asked(path.parent), console, timing=QUICK)
    assert "holds a finished run; nothing was changed" in console.file.getvalue()
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file()} == before
    other = RunOptions(phase="phase4", data="planted?queries=160&candidates=8", results=str(tmp_path))
    with pytest.raises(RunFolderError, match="is other data: give --data"):
        run_production(other, console, source=RunFolder(path.parent / "phase3"), timing=QUICK)
