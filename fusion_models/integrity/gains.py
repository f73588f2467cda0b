"""Whether one subdomain carries all of the gain: then the mean over queries says little of any other."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from fusion_models.integrity.check import Check, CheckStatus, check, unmeasured
from fusion_models.metrics import Interval
from fusion_models.metrics.intervals.query_intervals import Clusters, clusters_of, query_interval
from fusion_models.metrics.intervals.weights import counted, linearised, of_rows, weighted_mean

NAME = "gain beside its best subdomain"
SHARE = 0.25
"""Of the whole gain, which the other subdomains must keep: below it one carries nearly all."""
FEWEST_QUERIES = 10


def subdomain_check(
    gains: npt.ArrayLike,
    subdomains: npt.ArrayLike,
    *,
    clusters: Clusters = None,
    weights: npt.NDArray[np.float64] | None = None,
) -> Check:
    """Mean gain of the queries outside that subdomain without which it is the least.

    Fails where the whole gain is surely above 0 and that of the others surely below a quarter of it; passes where the
    others gain surely too. Between the two there are too few queries to tell: undecided where what the others gain is
    less than a quarter, so that one subdomain may carry all; a warning where it is more.

    Args:
        gains: `[Q]` nDCG gain over V1 (the mean over trainings); NaN without a relevant item.
        subdomains: `[Q]` names.
        clusters: which queries stand together, as `query_interval` takes it.
        weights: `[Q]`, what each query counts; None: all alike.
    """
    values, names = np.asarray(gains, dtype=np.float64), np.asarray(subdomains).astype(str)
    known = counted(values, weights)
    values, names, groups = values[known], names[known], clusters_of(clusters, known)
    weights = of_rows(weights, known)
    found = np.unique(names)
    if len(found) < 2:
        return unmeasured(NAME, "not applicable", "the data name one subdomain")
    whole = _mean(values, weights, groups)
    if whole.low <= 0:
        return unmeasured(NAME, "not applicable", "the whole gain is not surely above 0")
    sizes = {name: int((names != name).sum()) for name in found}
    beside = {
        name: weighted_mean(values[names != name], of_rows(weights, names != name))
        for name in found
        if sizes[name] >= FEWEST_QUERIES
    }
    if not beside:
        return unmeasured(NAME, "warning", "too few queries outside the largest subdomain to tell")
    best = min(beside, key=beside.__getitem__)
    others = names != best
    rest = _mean(values[others], of_rows(weights, others), clusters_of(groups, others))
    bar = SHARE * whole.mean
    said = f"without {best}: {int(others.sum())} of {len(values)} queries; all of them gain {whole.mean:+.4f}"
    read = check(NAME, rest, at_least=bar, detail=said)
    if rest.high < bar:
        return read
    if rest.low > 0 and len(beside) == len(found):
        return dataclasses.replace(read, status="pass")
    status: CheckStatus = "undecided" if rest.mean < bar else "warning"
    return dataclasses.replace(read, status=status, detail=f"{said}; too few queries to tell")


def _mean(values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64] | None, clusters: Clusters) -> Interval:
    """Of queries that all count, by their weights."""
    return query_interval(linearised(values, weights), clusters=clusters)
