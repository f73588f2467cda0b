"""Quality and agreement in a monitored log: by the run's metric, in the precision that scores were served in."""

import json
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from fusion_models.metrics.ranking_metric import NDCG_10, RankingMetric
from search.run_store.artefact import ARTEFACT
from search.run_store.folder import FORMAT
from search.serving.journal import SCHEMA, write_decisions
from search.serving.monitor import decisions_by_row, psi
from search.serving.reference import (
    DESCRIPTION,
    centred,
    metric_of_log,
    read_description,
    read_reference,
    training_reference,
    write_reference,
)
from search.serving.request import Catalogue
from search.shadow import _metric, main
from spaces import PHASES, phase_to_plain

METRICS = [NDCG_10, RankingMetric("ndcg", 3), RankingMetric("mrr", 10), RankingMetric("mrr", 1)]


def logged(request, v1, v2=None):
    """The table of one decision with these scores."""
    candidates = [c | {"v1_score": s} for c, s in zip(request["candidates"], v1, strict=True)]
    row = {
        "at": np.datetime64("2026-01-01T00:00:00", "us").astype(object),
        "request_id": "r0",
        "unit": "user-0",
        "query_id": request["query"]["id"],
        "items": [c["item"] for c in candidates],
        "v1_scores": v1,
        "v1_order": list(np.argsort(-np.array(v1), kind="stable")),
        "answer_ms": 2.0,
        "v2_status": "absent" if v2 is None else "scored",
        "v2_scores": v2,
        "request": json.dumps(request | {"candidates": candidates}),
    }
    return pa.Table.from_pylist([row], schema=SCHEMA)


def judged(small_data, request_of, row=0):
    """A request, and its labels with ties broken by place: the order that is right."""
    request = request_of(row)
    labels = np.array(Catalogue(small_data).labels(Catalogue(small_data).parse(json.dumps(request))))
    return request, labels - 1e-3 * np.arange(len(labels))


@pytest.mark.parametrize("offset", [0.0, 1.7e9, -1e12])
@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_what_v1_told_apart_is_no_tie(small_data, request_of, offset, metric):
    request, right = judged(small_data, request_of)
    places = np.argsort(np.argsort(right)).astype(float)
    catalogue = Catalogue(small_data.measured_by(metric))
    found = decisions_by_row(logged(request, (offset + places).tolist(), places.tolist()), catalogue).iloc[0]
    assert found["v1_ndcg"] == found["v2_ndcg"] == pytest.approx(1.0)
    assert found["kendall"] == pytest.approx(1.0)
    assert found["same_top"] == 1.0


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_log_is_monitored_by_the_metric_that_it_names(small_data, request_of, tmp_path, metric):
    request, right = judged(small_data, request_of)
    wrong = (-right).tolist()
    write_reference(tmp_path, small_data.measured_by(metric), None, training_reference(small_data, None))
    write_decisions(logged(request, wrong), tmp_path / "0-a.parquet")
    assert main(["monitor", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "monitor.json").read_text())
    labels = torch.tensor(np.round(right + 1e-3 * np.arange(len(right))))[None]
    expected = float(metric(torch.tensor(wrong)[None], labels, torch.ones_like(labels, dtype=torch.bool)))
    assert report["judged"]["metric"] == report["experiment"]["metric"] == metric.name
    assert report["judged"]["v1_ndcg"] == report["experiment"]["baseline_mean"] == pytest.approx(expected)


def test_a_log_that_names_no_metric_is_read_by_the_usual_one(small_data, tmp_path):
    write_reference(tmp_path, small_data, None, training_reference(small_data, None))
    said = read_description(tmp_path)
    assert said.pop("metric") == asdict(NDCG_10)
    (tmp_path / DESCRIPTION).write_text(json.dumps(said))
    assert metric_of_log(read_description(tmp_path)) == NDCG_10


def test_weights_are_judged_as_the_run_that_they_lie_in(tmp_path):
    run = tmp_path / "phase3"
    weights = run / "checkpoints" / "trial-7"
    weights.mkdir(parents=True)
    phase = replace(PHASES["phase3"], metric=RankingMetric("mrr", 5))
    (run / "run.json").write_text(
        json.dumps({"format": FORMAT, "phase": "phase3", "definition": phase_to_plain(phase)})
    )
    assert _metric(run, None) == _metric(None, weights) == phase.metric
    assert _metric(None, tmp_path) == _metric(None, None) == NDCG_10
    (run / "run.json").write_text(json.dumps({"format": 1}))
    assert _metric(None, weights) == NDCG_10


def test_weights_beside_a_roadmap_are_judged_as_the_run_that_they_lie_in(tmp_path):
    roadmap, phase = tmp_path / "all", replace(PHASES["phase3"], metric=RankingMetric("mrr", 5))
    weights = roadmap / "phase3" / "checkpoints" / ARTEFACT
    weights.mkdir(parents=True)
    (roadmap / "run.json").write_text(json.dumps({"format": FORMAT, "phase": "roadmap"}))
    assert _metric(roadmap, None) == _metric(roadmap, tmp_path) == NDCG_10
    said = {"format": FORMAT, "phase": "phase3", "definition": phase_to_plain(phase)}
    (roadmap / "phase3" / "run.json").write_text(json.dumps(said))
    assert _metric(roadmap, weights) == phase.metric
    (weights / "recipe.json").write_text("{}")
    assert _metric(roadmap, None) == phase.metric


def test_the_reference_keeps_scores_as_they_were(small_data, tmp_path):
    """In half the precision, scores that recur fell into the bin beside their own."""
    reference = training_reference(small_data, None)
    score = centred(np.tile([0.1, 0.2, 0.3, 0.7], 500), [4] * 500)
    write_reference(tmp_path, small_data, None, reference | {"v1_score": score})
    kept = read_reference(tmp_path)
    np.testing.assert_array_equal(kept["v1_score"], score)
    assert psi(kept["v1_score"], score) == 0.0
    assert all((kept[name] == column).all() for name, column in reference.items() if name != "v1_score")
