"""Two arms compared once, at the sample size planned for: differences of means, CUPED, ratio metrics.

Every function takes one experiment `[N]` or a stack of them `[..., N]`, an entry a unit, and tests two-sided. For looks
before the planned end see `sequential`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from search.experiment.estimate import Estimate, Floats, check_alpha, t_estimate, units


class Adjusted(NamedTuple):
    """A difference of means after CUPED."""

    estimate: Estimate
    theta: Floats
    """`[...]`: the coefficient, estimated on both arms together."""
    variance_removed: Floats
    """`[...]`: fraction of the difference's variance that the covariate took away."""


def difference_of_means(treatment: npt.ArrayLike, control: npt.ArrayLike, *, alpha: float = 0.05) -> Estimate:
    """Mean of `treatment` minus mean of `control`, by Welch's t test: variances may differ."""
    check_alpha(alpha)
    treated, kept = units(treatment, "treatment"), units(control, "control")
    found = stats.ttest_ind(treated, kept, axis=-1, equal_var=False)
    limits = found.confidence_interval(1 - alpha)
    value = treated.mean(-1) - kept.mean(-1)
    # two constant arms have no t statistic: certain where they differ, certainly equal where they do not
    certain = (treated.std(-1) == 0) & (kept.std(-1) == 0)
    return Estimate(
        np.asarray(value),
        np.where(certain, value, limits.low),
        np.where(certain, value, limits.high),
        np.where(certain, np.where(value == 0, 1.0, 0.0), found.pvalue),
        1 - alpha,
    )


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
    ratio_t, variance_t, count_t = _ratio(treatment, "treatment")
    ratio_c, variance_c, count_c = _ratio(control, "control")
    total = variance_t + variance_c
    with np.errstate(divide="ignore", invalid="ignore"):
        df = total**2 / (variance_t**2 / (count_t - 1) + variance_c**2 / (count_c - 1))
    return t_estimate(ratio_t - ratio_c, total, np.where(np.isfinite(df), df, 1.0), alpha)


def _ratio(arm: tuple[npt.ArrayLike, npt.ArrayLike], name: str) -> tuple[Floats, Floats, int]:
    top, bottom = units(arm[0], f"{name}'s numerator"), units(arm[1], f"{name}'s denominator")
    if top.shape != bottom.shape:
        raise ValueError(f"{name}: numerator and denominator differ in shape: {top.shape} and {bottom.shape}")
    centre = bottom.mean(-1)
    if (centre <= 0).any():
        raise ValueError(f"{name}: the denominator's mean must be above 0, got {centre.min()}")
    ratio = top.mean(-1) / centre
    linear = (top - ratio[..., None] * bottom) / centre[..., None]
    return ratio, linear.var(-1, ddof=1) / top.shape[-1], top.shape[-1]
