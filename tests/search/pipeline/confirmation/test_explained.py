"""evidence.json's subdomains: p and interval of one test, and what cannot be tested is left out."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from outputs import random_lists, random_outputs
from scipy import stats

from fusion_models.data import RankingDataset
from fusion_models.metrics import holm
from fusion_models.quantities import Outputs, ensemble
from search.analysis.judged import ArchiveEvidence, Evidence
from search.pipeline.confirmation import explained
from search.pipeline.confirmation.explained import subdomain_gains

QUERIES, EMPTY = 122, 7


def artefact(**changes: Any) -> Outputs:
    """Three members that know the labels; query 7 has no relevant document."""
    lists = random_lists(queries=QUERIES, empty=(EMPTY,))
    return ensemble([random_outputs(lists, seed=seed, **changes) for seed in range(3)])


def named(*names: str) -> RankingDataset:
    return cast("RankingDataset", SimpleNamespace(subdomain=list(names)))


def test_p_and_interval_of_a_subdomain_are_those_of_its_queries_under_the_artefact() -> None:
    ranker = artefact(noise=2.0)
    names = np.array(["b", "a", "c"])[np.arange(QUERIES - 1) % 3].tolist()
    found = subdomain_gains(named(*names, "once"), ranker, clusters=None)
    assert [entry["subdomain"] for entry in found] == ["a", "b", "c"]  # one query has no spread
    gain = ranker.ndcg - ranker.lists.v1_ndcg
    assert np.isnan(gain[EMPTY])
    for entry in found:
        mine = gain[(np.array([*names, "once"]) == entry["subdomain"]) & np.isfinite(gain)]
        assert entry["queries"] == len(mine)
        assert entry["mean"] == pytest.approx(mine.mean())
        assert entry["ci_low"] < entry["mean"] < entry["ci_high"]
        assert (entry["p"] < 0.05) == (entry["ci_low"] > 0 or entry["ci_high"] < 0)  # one test says both
        assert entry["p"] == pytest.approx(stats.ttest_1samp(mine, 0.0).pvalue, abs=0.02)
    assert [e["p_holm"] for e in found] == pytest.approx(list(holm([e["p"] for e in found])))
    assert any(e["p_holm"] > e["p"] for e in found)


def test_queries_that_stand_together_count_once() -> None:
    """Every list of a subdomain four times over: the spread of its mean is that of the lists, not of the copies."""
    lists = random_lists(queries=30, empty=())
    ranker = ensemble([random_outputs(lists, seed=seed, noise=2.0) for seed in range(3)])
    again, groups = np.tile(np.arange(30), 4), np.tile(np.arange(30), 4)
    copied = ranker.subset(again)
    data = named(*["a"] * 30)
    (alone,) = subdomain_gains(data, ranker, clusters=np.arange(30))
    (together,) = subdomain_gains(data, copied, clusters=groups)
    (fooled,) = subdomain_gains(data, copied, clusters=None)
    assert together["queries"] == 120
    width = {name: e["ci_high"] - e["ci_low"] for name, e in (("one", alone), ("all", together), ("fooled", fooled))}
    assert width["all"] == pytest.approx(width["one"], rel=0.05)
    assert width["fooled"] < 0.6 * width["one"]


def test_without_two_queries_of_one_subdomain_nothing_is_said() -> None:
    lists = random_lists(queries=3, empty=())
    assert subdomain_gains(named("a", "b", "c"), random_outputs(lists), clusters=None) == []


def test_evidence_is_written_without_what_could_not_be_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranker = artefact()
    for name in ("refit_values", "refit_shapley", "fusion_gains"):
        monkeypatch.setattr(explained, name, lambda *_, **__: {})
    data = named(*["a"] * QUERIES)
    run = SimpleNamespace(deciding="test", data=data, folder=SimpleNamespace(path=tmp_path))
    whole = SimpleNamespace(artefact=ranker, members=3, trained={}, clusters=None)
    whole.plan = SimpleNamespace(whole=SimpleNamespace(modalities=("visual", "text")))
    evidence = Evidence(quantities={}, refit_gain={}, archive=ArchiveEvidence())
    explained.write_evidence(cast("Any", run), cast("Any", whole), evidence, None, chance=np.zeros(QUERIES), level=0.95)
    said = json.loads((tmp_path / "evidence.json").read_text())
    assert (said["masked_values"], said["interaction_gain"], said["ssim"]) == ({}, None, None)
    assert [entry["subdomain"] for entry in said["subdomains"]] == ["a"]
