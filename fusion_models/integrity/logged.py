"""Whether held-out labels were logged under V1: what V1 showed high was clicked more, whatever it was worth.

Such labels favour V1 and every ranker that resembles it. The data show it only in part, by the residual of V1's score:
the part that no feature predicts. The residual says nothing of relevance, unless V1 knows what the features do not. So
clean labels, given the features, do not depend on the residual; logged ones do. Where V1 is a function of the features
there is no residual, and only people can tell.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch

from fusion_models.data import RankingDataset
from fusion_models.integrity.check import Check, check, unmeasured
from fusion_models.integrity.documents import Documents, read_documents
from fusion_models.metrics import paired_bootstrap, standardise
from fusion_models.probes.columns import centred

QUERIES, FEWEST = 1_000, 20
FREE = 0.15
"""Share of V1's variance within queries that the features must leave, for its free part to be told from their noise."""
FOLLOWS = 0.08
"""Correlation of labels with V1's free part up to which they owe it nothing that matters. Clean planted labels give up
to 0.05, since no readout is perfect and what it leaves of both is alike; a lean of 0.3 V1 gives 0.24."""
RIDGE, ROUNDS = 0.1, 60

Values = npt.NDArray[np.float64]


def logged_check(data: RankingDataset, split: str, generator: np.random.Generator) -> Check:
    """Correlation within queries of the labels of `split` with that part of V1's score that no feature tells.

    Both are taken less their cross-fitted readout from all features. It passes where it is surely below 0.08. Else it
    is a warning: labels logged under V1 look like a V1 that knows what the features do not, and where V1 has no part
    of its own nothing can be seen; a person must say how the labels were made. It reads the labels of `split`.
    """
    name = f"labels of {split} logged under V1"
    if len(data.rows(split)) < FEWEST:
        said = f"{len(data.rows(split))} queries are too few to tell: say how the labels were made"
        return unmeasured(name, "warning", said)
    documents = read_documents(data, split, generator, queries=QUERIES)
    count = len(documents.valid)
    fold = generator.permutation(count) % 2
    label, v1 = (standardise(x, documents.valid)[documents.valid].numpy() for x in (documents.labels, documents.v1))
    query = documents.query.numpy()
    features = _features(documents)
    free = v1 - _readout(features, v1, fold[query])
    share = float(free.var() / v1.var()) if v1.var() > 0 else 0.0
    if share < FREE:
        said = f"the features tell {1 - share:.0%} of V1's score, so the data cannot say: a person must"
        return unmeasured(name, "warning", said)
    rest = label - _readout(features, label, fold[query])
    moments = np.stack([np.bincount(query, weights=w, minlength=count) for w in (free * rest, free**2, rest**2)])
    ab, aa, bb = moments
    scale = float(np.sqrt(aa.mean() * bb.mean()))
    correlation = float(ab.mean() / scale) if scale > 0 else 0.0
    influence = ab / scale - correlation * (aa / aa.mean() + bb / bb.mean()) / 2 if scale > 0 else ab
    spread = paired_bootstrap(influence + correlation, generator=generator)
    found = dataclasses.replace(spread, mean=correlation)
    said = f"{documents.said}; the features tell {1 - share:.0%} of V1's score"
    read = check(name, found, at_most=FOLLOWS, detail=said)
    if read.status == "pass":
        return read
    doubt = "labels follow V1 beyond the features" if found.low > FOLLOWS else "too few queries to tell"
    why = "logged under V1's ranking, or V1 knows more than the features; a person must say which"
    return dataclasses.replace(read, status="warning", detail=f"{said}; {doubt}: {why}")


def _features(documents: Documents) -> npt.NDArray[np.float32]:
    """`[N, D]` centred within queries, unit deviation."""
    raw = torch.cat(list(documents.blocks.values()), dim=-1)
    inner = centred(raw.double(), documents.query)
    deviation = inner.std(0)
    return (inner / torch.where(deviation > 1e-9, deviation, 1.0)).float().numpy()


def _readout(features: npt.NDArray[np.float32], target: Values, fold: npt.NDArray[np.integer]) -> Values:
    """Cross-fitted: a ridge readout, and trees on what it leaves."""
    import lightgbm

    out = np.zeros(len(target))
    for number in (0, 1):
        fit, read = fold != number, fold == number
        x = features[fit].astype(np.float64)
        weights = np.linalg.solve(x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]), x.T @ target[fit])
        options = {"objective": "regression", "num_leaves": 15, "learning_rate": 0.1, "feature_fraction": 0.5}
        quiet = {"max_bin": 63, "num_threads": 1, "deterministic": True, "seed": 0, "verbosity": -1}
        left = lightgbm.Dataset(features[fit], target[fit] - x @ weights)
        booster = lightgbm.train(options | quiet, left, num_boost_round=ROUNDS)
        out[read] = features[read] @ weights + booster.predict(features[read])
    return out
