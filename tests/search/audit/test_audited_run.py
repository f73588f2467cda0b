"""A run's own artefact, audited from its export and from a table of its scores: the numbers of the run, once more."""

import json

import numpy as np
import pandas as pd
import pytest

from fusion_models import export
from search.api import audit, load

SHARES = ("attention", "cka", "effective_rank")
"""What neither a graph nor a table of scores tells."""


def evidence(folder):
    return json.loads((folder / "evidence.json").read_text())


def score_table(run):
    """What a team would write: every judged pair scored, and scored with each modality at zero."""
    ranker = load(run)
    data = ranker.data
    query = np.repeat(data.query_ids, data.candidates)
    pairs = pd.DataFrame({"query_id": query, "item_id": data.item_ids[data.judged_item], "v1_score": np.array(data.v1)})
    table = pairs[["query_id", "item_id"]].assign(v2_score=ranker.score(pairs))
    for modality, features in data.item_features.items():
        blank = pairs.assign(**{modality: [np.zeros(features.shape[1])] * len(pairs)})
        table[f"v2_score.without_{modality}"] = ranker.score(blank)
    return table.sample(frac=1.0, random_state=0)


@pytest.fixture(scope="module")
def audits(run_of_four, tmp_path_factory):
    """The run, and its artefact's audits as an ONNX file and as a table."""
    place = tmp_path_factory.mktemp("audits")
    described = json.loads((run_of_four / "run.json").read_text())
    loaded = load(run_of_four)
    path = export.export_onnx(loaded.ranker, place / "v2.onnx")
    said = export.described_inputs(loaded.ranker, loaded.data.schema, loaded.data.statistics)
    (place / "inputs.json").write_text(json.dumps(said))
    asked = {"data": described["data"], "phase": "phase3", "suspect": "clicks", "results": place}
    model = audit(model=str(path), name="model", **asked)
    scores = audit(scores=score_table(run_of_four), name="scores", **asked)
    return {"run": run_of_four, "model": model.path, "scores": scores.path}


@pytest.mark.parametrize("form", ["model", "scores"])
def test_an_audit_of_the_artefact_has_the_numbers_of_the_run(audits, form):
    run, audited = evidence(audits["run"]), evidence(audits[form])
    shared = run["quantities"].keys() & audited["quantities"].keys()
    assert {"ndcg_gain", "v1_correlation", "v1_spearman_mean", "top1_stability"} <= shared
    assert {f"{m}_masking_drop" for m in run["modalities"]} <= shared
    for name in shared - {"latency_p95_ms"}:
        if not name.startswith(SHARES):
            mean = run["quantities"][name]["mean"]
            assert audited["quantities"][name]["mean"] == pytest.approx(mean, abs=1e-6), name
    for one, other in zip(run["subdomains"], audited["subdomains"], strict=True):
        for what in ("mean", "queries", "p"):
            assert one[what] == pytest.approx(other[what], abs=1e-6), (one["subdomain"], what)
    agreements = [pd.read_csv(audits[name] / "agreement.csv") for name in ("run", form)]
    pd.testing.assert_frame_equal(*agreements)


def test_the_model_s_own_process_scored_as_the_ranker_scores(audits):
    """Blanks of all four kinds, and what its modalities are worth together."""
    run, audited = evidence(audits["run"]), evidence(audits["model"])
    kinds = ("", "_mean", "_shuffle_within", "_shuffle_across")
    assert {f"clicks_masking_drop{kind}" for kind in kinds} <= audited["quantities"].keys()
    for what in ("masked_values", "masked_shapley"):
        assert audited[what] == pytest.approx(run[what], abs=1e-6)
