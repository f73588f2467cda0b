"""Integrity of the splits that a V2 is audited on: what phase 4 checks, but for what needs V2 retrained."""

from __future__ import annotations

import numpy as np

from fusion_models.data import RankingDataset
from fusion_models.data.crossed_clusters import crossed_clusters
from fusion_models.integrity import (
    Check,
    check,
    copies_check,
    isolation_checks,
    leak_check,
    leak_probe_checks,
    logged_check,
    order_check,
    separability_checks,
    subdomain_check,
    unmeasured,
)
from fusion_models.metrics.intervals.weights import weighted_mean
from fusion_models.quantities import Outputs
from search.pipeline.release.integrity import BROKEN
from search.run_store.looks import DECIDING_SPLIT

ANSWERS = "V2's scores are not the labels (its nDCG)"
HIGHEST_NDCG = 0.999
"""Of an honest ranker on a whole test split."""


def split_checks(data: RankingDataset, artefact: Outputs, *, seed: int) -> list[Check]:
    """Isolation, copies, separability, logging, leaks, order, one subdomain that carries the gain, and V2's scores."""
    generator = np.random.default_rng(seed)
    why = "an audit retrains nothing: train your V2 on labels permuted within queries, and on random ones, yourself"
    gain = artefact.ndcg - artefact.lists.v1_ndcg
    return [
        *isolation_checks(data, DECIDING_SPLIT),
        copies_check(data, DECIDING_SPLIT),
        *separability_checks(data, DECIDING_SPLIT, generator),
        logged_check(data, DECIDING_SPLIT, generator),
        *(unmeasured(name, "not measured", why) for name in BROKEN.values()),
        leak_check(data, generator),
        *leak_probe_checks(data, generator),
        order_check(data, generator),
        subdomain_check(
            gain,
            data.subdomain[artefact.lists.rows],
            clusters=crossed_clusters(data, DECIDING_SPLIT),
            weights=artefact.lists.uneven,
        ),
        answers_check(artefact),
    ]


def answers_check(artefact: Outputs) -> Check:
    """Whether V2's scores may be the labels: no ranker that did not see them orders all of them."""
    found = weighted_mean(artefact.ndcg, artefact.lists.uneven)
    said = "what orders every label saw it: a label is among V2's inputs, or its scores were made of them"
    return check(ANSWERS, found, at_most=HIGHEST_NDCG, detail=said if found > HIGHEST_NDCG else "")
