"""evidence.json's subdomains: p and interval of one test, and what cannot be tested is left out."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from search.evidence import subdomains

from fusion_models.data import RankingDataset
from fusion_models.metrics.subdomains import subdomain_gains


def runs(gains: Any, rows: Any) -> list[Any]:
    return [{"rows": rows, "ndcg": 0.5 + gain, "v1_ndcg": np.full(len(gain), 0.5)} for gain in gains]


def test_seeds_that_were_lucky_together_are_in_the_p_of_a_subdomain() -> None:
    generator = np.random.default_rng(0)
    names = [*np.array(["b", "a"])[np.arange(81) % 2].tolist(), "once"]
    rows = generator.permutation(82)
    data = cast("RankingDataset", SimpleNamespace(subdomain=names))
    luck = np.array([0.09, -0.02, 0.05, 0.01, 0.07])
    gains = luck[:, None] + 0.05 * generator.normal(size=(1, 82)) + 0.01 * generator.normal(size=(5, 82))
    gains[2, 7] = np.nan  # a query without a relevant document
    found = subdomains(data, runs(gains, rows), None)
    assert [entry["subdomain"] for entry in found] == ["a", "b"]
    known = np.isfinite(gains).all(0)
    expected = subdomain_gains(gains[:, known], np.asarray(names)[rows][known])
    for entry, each in zip(found, expected, strict=False):
        assert (entry["p"], entry["p_holm"]) == pytest.approx((each.p, each.p_holm))
        assert entry["queries"] == each.queries
        # seeds alone: 0.04 with a deviation of 0.044 over five of them, no gain beyond their luck
        assert 0.05 < entry["p"] < 0.3
        assert entry["ci_low"] < 0 < entry["ci_high"]
    assert subdomains(data, runs(gains[:1], rows), None) == []
