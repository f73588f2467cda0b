"""An always-valid interval that is exact: of a mean of units that lie in a known range, such as shares in [0, 1].

It needs no central limit, so it holds where events are rare or none was seen yet. It knows of no variance below that of
a coin of the same mean, so it is wide where units are shares of many things; `guardrails` reads it beside `sequential`.

References:
    Robbins 1970, "Statistical methods related to the law of the iterated logarithm" (mixtures); Howard, Ramdas,
    McAuliffe and Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences", proposition 6 (the
    two-sided beta-binomial mixture).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from search.experiment.estimate import Floats, check_alpha
from search.experiment.sequential import Moments, mixture_variance

HALVINGS = 40
"""Steps of the search for a limit: each halves what is unknown of it."""


def bounded_mean(
    units: npt.ArrayLike, mean: npt.ArrayLike, *, alpha: float = 0.05, tuned_for: float = 5_000.0
) -> tuple[Floats, Floats]:
    """Limits `[...]` of the mean of `units` values in [0, 1], valid at all looks together, from the first unit on.

    A mean p is left out where a bet against it has grown to 1 / alpha: the likelihood ratio of a beta mixture around
    p. For a value x in [0, 1], q^x (1-q)^(1-x) / (p^x (1-p)^(1-x)) is convex in x, so its expectation at mean p is at
    most 1: what holds for coins holds for shares.

    Args:
        tuned_for: units at which the limits are narrowest; any value keeps the promise.

    Raises ValueError where a mean is outside [0, 1].
    """
    check_alpha(alpha)
    count, middle = np.broadcast_arrays(np.asarray(units, np.float64), np.asarray(mean, np.float64))
    if not ((middle >= 0) & (middle <= 1)).all():
        raise ValueError(f"every mean must be in [0, 1], got {middle.min()} to {middle.max()}")
    weight = 1 / mixture_variance(alpha, tuned_for)
    inside, outside = np.stack([middle, middle]), np.stack([np.zeros(middle.shape), np.ones(middle.shape)])
    for _ in range(HALVINGS):
        tried = (inside + outside) / 2
        kept = _log_bet(count, middle, tried, weight) < -np.log(alpha)
        inside, outside = np.where(kept, tried, inside), np.where(kept, outside, tried)
    # the outer ends: what is between is not yet known to be left out
    return outside[0], outside[1]


def bounded_difference(
    treatment: Moments, control: Moments, *, upper: float = 1.0, alpha: float = 0.05, tuned_for: float = 10_000.0
) -> tuple[Floats, Floats]:
    """Limits `[...]` of a difference of means of values in [0, upper]: each arm's own limits at half of alpha.

    `tuned_for` counts both arms. Raises ValueError where a mean is outside [0, upper].
    """
    count = np.stack(np.broadcast_arrays(treatment.units, control.units))
    mean = np.stack(np.broadcast_arrays(treatment.mean, control.mean))
    low, high = bounded_mean(count, mean / upper, alpha=alpha / 2, tuned_for=tuned_for / 2)
    return upper * (low[0] - high[1]), upper * (high[0] - low[1])


def _log_bet(count: Floats, middle: Floats, p: Floats, weight: float) -> Floats:
    """Log of the beta-mixture likelihood ratio against the mean `p`, strictly between 0 and 1 or equal to `middle`."""
    p = np.clip(p, 1e-300, 1 - 1e-16)
    hits, misses = count * middle, count * (1 - middle)
    first, second = p * weight, (1 - p) * weight
    mixture = special.betaln(first + hits, second + misses) - special.betaln(first, second)
    return np.asarray(mixture - special.xlogy(hits, p) - special.xlog1py(misses, -p))
