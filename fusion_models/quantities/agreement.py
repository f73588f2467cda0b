"""How alike the ranker and V1 order the same lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from fusion_models.metrics import (
    centred_moments,
    kendall_tau_b,
    mean_rank_change,
    rank_biased_overlap,
    spearman,
    top1_stability,
)
from fusion_models.metrics.intervals.weights import linearised, uneven
from fusion_models.quantities.outputs import Outputs, Values, tensor
from fusion_models.quantities.quantity import Quantity, Terms


def quantities(modalities: Sequence[str]) -> list[Quantity]:
    """Everything of this file."""
    return [
        Quantity(
            name="v1_correlation",
            unit="correlation",
            direction="lower",
            terms=_centred,
            value=lambda m: m[..., 0] / (m[..., 1] * m[..., 2]).sqrt(),
            epochs=True,
        ),
        Quantity(name="v1_correlation_pooled", unit="correlation", direction="lower", terms=_pooled, value=_pearson),
        _mean("v1_spearman_mean", "correlation", "lower", spearman),
        _Median(name="v1_spearman", unit="correlation", direction="lower", terms=_by_query(spearman)),
        _Median(name="v1_kendall", unit="correlation", direction="lower", terms=_by_query(kendall_tau_b)),
        _mean("top1_stability", "fraction", "neither", top1_stability),
        _mean("v1_rank_change", "places", "neither", mean_rank_change),
        _mean("v1_rank_biased_overlap", "fraction", "neither", rank_biased_overlap),
    ]


Measure = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class _Median(Quantity):
    """The median over queries; its influence by the density there (Gaussian kernel, Silverman 1986, eq. 3.31)."""

    def estimate(self, outputs: Outputs) -> float:
        values, weights = self._known(outputs)
        return _weighted_median(values, weights) if len(values) else float("nan")

    def influence(self, outputs: Outputs) -> Values | None:
        terms = self.terms(outputs)
        if terms is None or not terms.counted().any():
            return None
        values, median = terms.values[:, 0], self.estimate(outputs)
        known, weights = values[terms.counted()], terms.weights[terms.counted()]
        quarters = np.quantile(known, [0.25, 0.75])
        spread = min(float(known.std()), float(quarters[1] - quarters[0]) / 1.34)
        width = max(0.9 * spread * len(known) ** -0.2, 1e-3)
        near = np.average(np.exp(-0.5 * ((known - median) / width) ** 2), weights=weights)
        density = float(near) / (width * np.sqrt(2.0 * np.pi))
        moved = (0.5 - (known < median) - 0.5 * (known == median)) / density
        out = np.full(len(values), np.nan)
        out[terms.counted()] = median + linearised(moved - np.average(moved, weights=weights), uneven(weights))
        return out

    def replicates(self, outputs: Outputs, drawn: Values) -> Values:
        terms = self.terms(outputs)
        assert terms is not None
        counted = terms.counted()
        values, weights = terms.values[counted, 0], drawn[:, counted] * terms.weights[counted]
        return np.array([_weighted_median(values, row) for row in weights])

    def _known(self, outputs: Outputs) -> tuple[Values, Values]:
        terms = self.terms(outputs)
        assert terms is not None
        return terms.values[terms.counted(), 0], terms.weights[terms.counted()]


def _weighted_median(values: Values, weights: Values) -> float:
    """The middle value; of an even number of equal weights the mean of the middle two."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    last = len(values) - 1
    low, high = (values[order[min(int(np.searchsorted(reached, at)), last)]] for at in (0.5 - 1e-12, 0.5 + 1e-12))
    return float((low + high) / 2.0)


def _mean(name: str, unit: str, direction: str, measure: Measure) -> Quantity:
    return Quantity(name=name, unit=unit, direction=direction, terms=_by_query(measure))  # type: ignore[arg-type]


def _by_query(measure: Measure) -> Callable[[Outputs], Terms]:
    def terms(outputs: Outputs) -> Terms:
        found = measure(*_tensors(outputs)).numpy()
        return Terms(found[:, None], outputs.lists.weights)

    return terms


def _tensors(outputs: Outputs) -> tuple[Tensor, Tensor, Tensor]:
    lists = outputs.lists
    return tensor(outputs.scores), tensor(lists.v1), tensor(lists.valid)


def _centred(outputs: Outputs) -> Terms:
    """Sums of `a b`, `a a`, `b b` of each query, centred within it."""
    return Terms(centred_moments(*_tensors(outputs)).numpy(), outputs.lists.weights)


def _pooled(outputs: Outputs) -> Terms:
    """Documents, then sums of a, b, ab, aa, bb of each query; both centred overall, so that squares stay exact."""
    lists = outputs.lists
    a, b = (np.where(lists.valid, x - x[lists.valid].mean(), 0.0) for x in (outputs.scores, lists.v1))
    columns = [lists.documents, a.sum(1), b.sum(1), (a * b).sum(1), (a * a).sum(1), (b * b).sum(1)]
    return Terms(np.stack(columns, axis=1), lists.weights)


def _pearson(m: Tensor) -> Tensor:
    count, a, b, ab, aa, bb = m.unbind(-1)
    return (ab - a * b / count) / ((aa - a * a / count) * (bb - b * b / count)).sqrt()
