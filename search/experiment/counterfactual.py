"""What another policy would have earned, from logs of the one that ran.

The logging policy must have had some chance of every action that the other one takes, and the chance must be in the
log. A deterministic V1 tells nothing here: log with some randomness (swap neighbours, say) if you want to use this.

Shapes: `[..., N]`, one entry a logged decision. References: Dudik, Langford and Li 2011, "Doubly robust policy
evaluation and learning"; Swaminathan and Joachims 2015 (SNIPS); Kish 1965 (effective sample size).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from search.experiment.estimate import Estimate, Floats, skewed_mean, t_estimate, units


class Counterfactual(NamedTuple):
    """The other policy's mean reward, and how much of the log speaks of it; every number `[...]`."""

    estimate: Estimate
    effective: Floats
    """Effective sample size, (sum w)^2 / sum w^2: below a few hundred, do not believe the interval."""
    largest: Floats
    """The largest weight before clipping."""
    clipped: Floats
    """Fraction of the weights that were cut: each cut biases the estimate towards what the log holds."""


def importance_weights(target: npt.ArrayLike, logging: npt.ArrayLike) -> Floats:
    """Chance of the logged action under the target policy over its chance when it was logged.

    Raises ValueError for a logging chance outside (0, 1] (a logged action cannot have been impossible) or a target
    chance outside [0, 1].
    """
    wanted, logged = units(target, "target chances", 1), units(logging, "logging chances", 1)
    if wanted.shape != logged.shape:
        raise ValueError(f"chances must line up, got {wanted.shape} and {logged.shape}")
    if ((logged <= 0) | (logged > 1)).any():
        raise ValueError("every logging chance must be in (0, 1]: what was logged cannot have been impossible")
    if ((wanted < 0) | (wanted > 1)).any():
        raise ValueError("every target chance must be in [0, 1]")
    return wanted / logged


def ips(
    reward: npt.ArrayLike, weight: npt.ArrayLike, *, clip: float | None = None, alpha: float = 0.05
) -> Counterfactual:
    """Inverse propensity score: mean of w r. Unbiased without `clip`, which cuts the weights at a maximum.

    w r is skewed, and Student's limits miss too often where large weights are: these are Hall's (`skewed_mean`).
    """
    gained, weights, facts = _prepared(reward, weight, clip)
    return Counterfactual(skewed_mean(weights * gained, alpha), *facts)


def snips(
    reward: npt.ArrayLike, weight: npt.ArrayLike, *, clip: float | None = None, alpha: float = 0.05
) -> Counterfactual:
    """Self-normalised: sum(w r) / sum(w), by the delta method. Consistent; unmoved by a constant added to all rewards.

    Raises ValueError where all weights are 0.
    """
    gained, weights, facts = _prepared(reward, weight, clip)
    centre = weights.mean(-1)
    if (centre <= 0).any():
        raise ValueError("all weights are 0: the log holds no action that the target policy would take")
    value = (weights * gained).mean(-1) / centre
    linear = weights * (gained - value[..., None]) / centre[..., None]
    count = gained.shape[-1]
    return Counterfactual(t_estimate(value, linear.var(-1, ddof=1) / count, count - 1, alpha), *facts)


def doubly_robust(
    reward: npt.ArrayLike,
    weight: npt.ArrayLike,
    predicted: npt.ArrayLike,
    expected: npt.ArrayLike,
    *,
    clip: float | None = None,
    alpha: float = 0.05,
) -> Counterfactual:
    """Mean of `expected + w (r - predicted)`: right where the chances are, or the reward model is.

    Args:
        predicted: the model's reward of the logged action. expected: its mean reward under the target policy. The
            model must have been fitted on other decisions than these.
    """
    gained, weights, facts = _prepared(reward, weight, clip)
    model, policy = units(predicted, "predicted"), units(expected, "expected")
    if model.shape != gained.shape or policy.shape != gained.shape:
        raise ValueError(f"predictions must line up with rewards {gained.shape}, got {model.shape} and {policy.shape}")
    found = policy + weights * (gained - model)
    count = found.shape[-1]
    return Counterfactual(t_estimate(found.mean(-1), found.var(-1, ddof=1) / count, count - 1, alpha), *facts)


def _prepared(
    reward: npt.ArrayLike, weight: npt.ArrayLike, clip: float | None
) -> tuple[Floats, Floats, tuple[Floats, Floats, Floats]]:
    gained, weights = units(reward, "reward"), units(weight, "weight")
    if gained.shape != weights.shape:
        raise ValueError(f"rewards and weights must line up, got {gained.shape} and {weights.shape}")
    if (weights < 0).any():
        raise ValueError("a weight is below 0")
    if clip is not None and clip <= 0:
        raise ValueError(f"clip must be above 0, got {clip}")
    largest = weights.max(-1)
    clipped = np.zeros(largest.shape) if clip is None else (weights > clip).mean(-1)
    used = weights if clip is None else np.minimum(weights, clip)
    squares = (used**2).sum(-1)
    effective = np.divide(used.sum(-1) ** 2, squares, out=np.zeros_like(squares), where=squares > 0)
    return gained, used, (effective, largest, clipped)
