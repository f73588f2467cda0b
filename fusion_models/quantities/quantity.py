"""A quantity: a number of one ranker on one split, with all that intervals and comparisons need to know of it.

Every quantity here is a smooth function of weighted means over queries. So one definition gives its estimate, its
influence function (hence intervals, paired differences and the effects of an ablation) and its replicates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.quantities.outputs import Outputs

Values = npt.NDArray[np.float64]
Direction = Literal["higher", "lower", "neither"]
Unit = Literal["nDCG", "fraction", "correlation", "places", "SSIM", "ms", "count"]


class Terms(NamedTuple):
    """What a quantity averages: values `[Q, P]` (NaN where the query does not count) and weights `[Q]`."""

    values: Values
    weights: Values

    def means(self) -> Values:
        """`[P]`: weighted means over the queries that count."""
        counted = self.counted()
        return np.asarray(np.average(self.values[counted], axis=0, weights=self.weights[counted]), dtype=np.float64)

    def counted(self) -> npt.NDArray[np.bool_]:
        """`[Q]`: queries that have every value and a weight above 0."""
        return np.asarray(np.isfinite(self.values).all(axis=1) & (self.weights > 0))


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number of a ranker."""

    name: str
    unit: Unit
    direction: Direction
    """Which way is better; neither, where that depends."""
    terms: Callable[[Outputs], Terms | None]
    """None where these outputs do not tell."""
    value: Callable[[Tensor], Tensor] = lambda means: means[..., 0]
    """From means `[..., P]` to the number `[...]`, in torch, so that its gradient is known."""
    epochs: bool = False
    """Whether every epoch of a training measures it."""
    searched: bool = True
    """Whether every training of a search ends with it, whatever its recipe and the data: what an objective must be."""

    def estimate(self, outputs: Outputs) -> float:
        """The number; NaN where it cannot be told."""
        terms = self.terms(outputs)
        if terms is None or not terms.counted().any():
            return float("nan")
        return float(self.value(torch.from_numpy(terms.means())))

    def influence(self, outputs: Outputs) -> Values | None:
        """`[Q]`: values whose mean is the estimate and whose spread is that of it; NaN for queries that do not count.

        References: Hampel 1974 (influence functions); the delta method.
        """
        terms = self.terms(outputs)
        if terms is None or not terms.counted().any():
            return None
        means = torch.from_numpy(terms.means()).requires_grad_(True)
        value = self.value(means)
        (gradient,) = torch.autograd.grad(value, means)
        counted = terms.counted()
        weights = np.where(counted, terms.weights, 0.0)
        relative = weights * counted.sum() / weights.sum()
        number = float(value.detach())
        if not np.isfinite(number):
            return None
        deviations = (terms.values - means.detach().numpy()) @ gradient.numpy()
        return np.asarray(np.where(counted, number + relative * deviations, np.nan), dtype=np.float64)

    def replicates(self, outputs: Outputs, drawn: Values) -> Values:
        """`[R]`: the number on samples of the queries; `drawn` `[R, Q]` says how often each query was drawn."""
        terms = self.terms(outputs)
        if terms is None:
            return np.full(len(drawn), np.nan)
        weights = drawn * np.where(terms.counted(), terms.weights, 0.0)
        means = (weights @ np.nan_to_num(terms.values)) / weights.sum(axis=1, keepdims=True)
        return np.asarray(self.value(torch.from_numpy(means)).numpy(), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class MeasuredBeside:
    """A number that no outputs tell: of several trainings, of a clock, or a count. Gates may name it."""

    name: str
    unit: Unit
    direction: Direction
