"""Two arms compared once, at the sample size planned for: differences of means, CUPED, ratio metrics.

Every function takes one experiment `[N]` or a stack of them `[..., N]`, an entry a unit, and tests two-sided. For looks
before the planned end see `sequential`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from search.experiment.estimate import Estimate, Floats, skewed_difference, units


class Adjusted(NamedTuple):
    """A difference of means after CUPED."""

    estimate: Estimate
    theta: Floats
    """`[...]`: the coefficient, estimated on both arms together."""
    variance_removed: Floats
    """`[...]`: fraction of the difference's variance that the covariate took away."""


def difference_of_means(treatment: npt.ArrayLike, control: npt.ArrayLike, *, alpha: float = 0.05) -> Estimate:
    """Mean of `treatment` minus mean of `control`; variances and sizes may differ (`estimate.skewed_difference`).

    It is Welch's t test, corrected for skewness where units show one and arms differ in size.
    """
    return skewed_difference(units(treatment, "treatment"), units(control, "control"), alpha)


def cuped(
    treatment: npt.ArrayLike,
    control: npt.ArrayLike,
    treatment_before: npt.ArrayLike,
    control_before: npt.ArrayLike,
    *,
    alpha: float = 0.05,
) -> Adjusted:
    """Difference of means less what a covariate from *before* the experiment explains: `y - theta (x - mean(x))`.

    theta is estimated from both arms together, each about its own mean, which leaves the estimate consistent. The
    covariate must not be able to know the treatment: take it from before the assignment. A covariate that does not
    vary removes nothing.

    Raises ValueError where a covariate does not have its arm's shape.

    References: Deng, Xu, Kohavi and Walker 2013, "Improving the sensitivity of online controlled experiments (CUPED)".
    """
    treated, kept = units(treatment, "treatment"), units(control, "control")
    before_t, before_c = units(treatment_before, "treatment_before"), units(control_before, "control_before")
    if treated.shape != before_t.shape or kept.shape != before_c.shape:
        raise ValueError(
            f"covariates must line up with their arms: {before_t.shape} for {treated.shape}, "
            f"{before_c.shape} for {kept.shape}"
        )

    def within(x: Floats) -> Floats:
        return np.asarray(x - x.mean(-1, keepdims=True))

    covariance = (within(treated) * within(before_t)).sum(-1) + (within(kept) * within(before_c)).sum(-1)
    square = (within(before_t) ** 2).sum(-1) + (within(before_c) ** 2).sum(-1)
    theta = np.divide(covariance, square, out=np.zeros_like(covariance), where=square > 0)
    slope = theta[..., None]
    # the centre cancels in the difference
    adjusted_t, adjusted_c = treated - slope * before_t, kept - slope * before_c
    plain = treated.var(-1, ddof=1) / treated.shape[-1] + kept.var(-1, ddof=1) / kept.shape[-1]
    left = adjusted_t.var(-1, ddof=1) / treated.shape[-1] + adjusted_c.var(-1, ddof=1) / kept.shape[-1]
    removed = 1 - np.divide(left, plain, out=np.ones_like(plain), where=plain > 0)
    return Adjusted(difference_of_means(adjusted_t, adjusted_c, alpha=alpha), theta, removed)


def ratio_difference(
    treatment: tuple[npt.ArrayLike, npt.ArrayLike],
    control: tuple[npt.ArrayLike, npt.ArrayLike],
    *,
    alpha: float = 0.05,
) -> Estimate:
    """Difference of sum(numerator) / sum(denominator), such as clicks per query where the unit is a user.

    Each arm is (numerator, denominator). Queries of one user are not independent; the delta method counts users.

    Raises ValueError where shapes differ or a denominator's mean is not above 0.

    References: Deng, Knoblich and Lu 2018, "Applying the delta method in metric analytics".
    """
    return skewed_difference(_linear(treatment, "treatment"), _linear(control, "control"), alpha)


def _linear(arm: tuple[npt.ArrayLike, npt.ArrayLike], name: str) -> Floats:
    """Values a unit whose mean is the arm's ratio, and whose spread is the ratio's."""
    top, bottom = units(arm[0], f"{name}'s numerator"), units(arm[1], f"{name}'s denominator")
    if top.shape != bottom.shape:
        raise ValueError(f"{name}: numerator and denominator differ in shape: {top.shape} and {bottom.shape}")
    centre = bottom.mean(-1)
    if (centre <= 0).any():
        raise ValueError(f"{name}: the denominator's mean must be above 0, got {centre.min()}")
    ratio = np.asarray(top.mean(-1) / centre)[..., None]
    return np.asarray(ratio + (top - ratio * bottom) / np.asarray(centre)[..., None])
