"""Differences within strata: the days or stages of a ramp, over which the share under treatment changes.

Where a metric drifts and the share grows meanwhile, later days weigh more in the treatment's mean than in the
control's, and the drift looks like an effect (Simpson's paradox). A difference within each stratum knows of no drift.
Either read the last stage alone, or average the strata's differences, which is what these functions do.

References:
    Simpson 1951, "The interpretation of interaction in contingency tables"; Crook, Frasca, Kohavi and Longbotham 2009,
    "Seven pitfalls to avoid when running controlled experiments on the web" (ramps); Miratrix, Sekhon and Yu 2013,
    "Adjusting treatment effect estimates by post-stratification".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from search.experiment.estimate import Estimate, Floats, t_estimate, units
from search.experiment.sequential import BURN_IN, TUNED_FOR, Moments, always_valid, cautious_variance, common_variance

FEWEST = 2
"""Units that each arm of a stratum needs to say anything."""


class Contrast(NamedTuple):
    """The strata's differences of means, averaged; every field `[...]`."""

    value: Floats
    variance: Floats
    """With each arm's own variance in each stratum."""
    df: Floats
    """After Satterthwaite."""
    common: tuple[Floats, Floats]
    """What treatment's and control's units would add to `variance` if both arms had one variance in each stratum."""
    own: tuple[Floats, Floats]
    """What they add with their own; the two sum to `variance`."""
    clock: Floats
    """4 n_t n_c / (n_t + n_c) summed over strata: units of both arms at an even split that say as much."""
    control_mean: Floats
    """Averaged with the same weights."""
    weight: Floats
    """`[K, ...]`: of each stratum; 0 where it is left out."""
    used: tuple[tuple[Moments, ...], tuple[Moments, ...]]
    """Treatment's and control's moments, an entry a stratum, without units where a stratum is left out."""

    @property
    def units(self) -> tuple[Floats, Floats]:
        """Of treatment and of control in the strata that are compared."""
        return self._summed(0), self._summed(1)

    def _summed(self, arm: int) -> Floats:
        return np.asarray(np.sum([part.units for part in self.used[arm]], axis=0))


def moments(values: npt.ArrayLike) -> Moments:
    """Moments of one arm's units `[..., N]` in one stratum: `[...]`."""
    array = units(values, "values")
    count = np.full(array.shape[:-1], float(array.shape[-1]))
    return Moments(count, np.asarray(array.mean(-1)), np.asarray(array.var(-1, ddof=1)))


def pooled(parts: Sequence[Moments]) -> Moments:
    """Moments of all units of several parts of ONE arm, such as the days of one stage, with one share all along.

    Raises ValueError for no part.
    """
    if not parts:
        raise ValueError("expected the moments of at least one part")
    count = np.sum([part.units for part in parts], axis=0)
    # a part without units may have any mean
    mean = np.sum([np.where(p.units > 0, p.units * p.mean, 0.0) for p in parts], axis=0) / np.maximum(count, 1.0)
    squares = np.sum(
        [
            np.where(p.units > 1, (p.units - 1) * p.variance, 0.0)
            + np.where(p.units > 0, p.units * (p.mean - mean) ** 2, 0.0)
            for p in parts
        ],
        axis=0,
    )
    return Moments(np.asarray(count), np.asarray(mean), np.asarray(squares / np.maximum(count - 1, 1.0)))


def contrast(treatment: Sequence[Moments], control: Sequence[Moments]) -> Contrast:
    """The differences of K strata, weighted by n_t n_c / (n_t + n_c): narrowest where units are alike.

    Weights depend on sizes alone, never on outcomes. Strata with fewer than `FEWEST` units in an arm are left out.

    Raises ValueError where the arms have different numbers of strata, or no stratum.
    """
    if len(treatment) != len(control) or not treatment:
        raise ValueError(
            f"expected the same strata of both arms, at least one; got {len(treatment)} and {len(control)}"
        )
    t, c = _stacked(treatment), _stacked(control)
    used = np.minimum(t.units, c.units) >= FEWEST
    n_t, n_c = np.where(used, t.units, FEWEST), np.where(used, c.units, FEWEST)
    even = np.where(used, n_t * n_c / (n_t + n_c), 0.0)
    total = even.sum(0)
    weight = even / np.where(total > 0, total, 1.0)
    own_t, own_c = (weight**2 * np.where(used, arm.variance, 0.0) / n for arm, n in ((t, n_t), (c, n_c)))
    one = np.where(used, common_variance(Moments(n_t, t.mean, t.variance), Moments(n_c, c.mean, c.variance)), 0.0)
    variance = (own_t + own_c).sum(0)
    freedom = (own_t**2 / (n_t - 1) + own_c**2 / (n_c - 1)).sum(0)
    return Contrast(
        value=(weight * np.where(used, t.mean - c.mean, 0.0)).sum(0),
        variance=variance,
        df=np.where(freedom > 0, variance**2 / np.where(freedom > 0, freedom, 1.0), 1.0),
        common=((weight**2 * one / n_t).sum(0), (weight**2 * one / n_c).sum(0)),
        own=(own_t.sum(0), own_c.sum(0)),
        clock=4 * total,
        control_mean=(weight * np.where(used, c.mean, 0.0)).sum(0),
        weight=weight,
        used=(_kept(t, used), _kept(c, used)),
    )


def stratified_difference(treatment: Sequence[Moments], control: Sequence[Moments], *, alpha: float = 0.05) -> Estimate:
    """Treatment minus control within strata, for one look at the planned end; each list holds a stratum an entry.

    Raises ValueError as `contrast`, or where no stratum has `FEWEST` units in both arms.
    """
    found = contrast(treatment, control)
    if (found.clock <= 0).any():
        raise ValueError(f"no stratum has {FEWEST} units in each arm: nothing can be compared")
    return t_estimate(found.value, found.variance, found.df, alpha)


def always_valid_stratified(
    treatment: Sequence[Moments],
    control: Sequence[Moments],
    *,
    alpha: float = 0.05,
    tuned_for: float = TUNED_FOR,
    burn_in: float = BURN_IN,
) -> Estimate:
    """As `stratified_difference`, valid at all looks together: `always_valid_difference` over a ramp's stages or days.

    `burn_in` is of each arm over the strata that are compared. Raises ValueError as `contrast`.
    """
    found = contrast(treatment, control)
    return always_valid(
        found.value,
        cautious_variance(found.own, found.common, found.units, each_arm=False),
        np.maximum(found.clock, 1.0),
        early=(np.minimum(*found.units) < burn_in) | (found.common[0] + found.common[1] <= 0),
        alpha=alpha,
        tuned_for=tuned_for,
    )


def _kept(arm: Moments, used: npt.NDArray[np.bool_]) -> tuple[Moments, ...]:
    """Strata `[K, ...]` of one arm, an entry each, without units where they are not `used`."""
    return tuple(Moments(*(np.where(at, field[k], 0.0) for field in arm)) for k, at in enumerate(used))


def _stacked(parts: Sequence[Moments]) -> Moments:
    """K strata stacked in front: `[K, ...]`."""
    return Moments(*(np.stack([np.asarray(part[i], np.float64) for part in parts]) for i in range(3)))
