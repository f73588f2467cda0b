"""Experiments whose truth is known: how often each estimator errs, covers, and shows what is there.

For the tests and `benchmarks/experiment_simulation.py`, and for a team that wants to try a design before it runs it.
Every function runs R whole experiments side by side.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from search.experiment.analysis import cuped, difference_of_means, ratio_difference
from search.experiment.counterfactual import doubly_robust, importance_weights, ips, snips
from search.experiment.estimate import Estimate, Floats
from search.experiment.interleaving import preference, team_draft
from search.experiment.sample_ratio import ALPHA, always_valid_sample_ratio_p
from search.experiment.sequential import always_valid_difference, running_moments


class Rates(NamedTuple):
    """What happened in R simulated experiments; fractions."""

    shown: float
    """p <= alpha: type-I error where the truth is 0, power where it is not."""
    covered: float
    """The interval (every look's, where there are several) holds the truth."""
    width: float
    """Mean width of the (last) interval."""


def fixed_horizon(generator: np.random.Generator, *, runs: int, units: int, effect: float) -> dict[str, Rates]:
    """Skewed outcomes (log-normal, sd 1) with a covariate from before, and clicks per query with users as units."""
    base = generator.normal(size=(2, runs, units))
    before = np.exp(0.5 * base)
    spread = float(np.sqrt((np.exp(0.5) - 1) * np.exp(0.5)))
    after = np.exp(0.5 * (base + generator.normal(size=base.shape)))
    treated = after[0] / spread + effect
    kept = after[1] / spread
    queries = generator.poisson(4.0, (2, runs, units)) + 1
    taste = generator.beta(3.0, 7.0, (2, runs, units))  # a user's own rate: queries of one user are not independent
    chance = np.clip(taste + np.array([0.2 * effect, 0.0])[:, None, None], 0.0, 1.0)
    clicks = generator.binomial(queries, chance)
    truth = 0.2 * effect
    return {
        "difference of means": rates(difference_of_means(treated, kept), effect),
        "CUPED": rates(cuped(treated, kept, before[0], before[1]).estimate, effect),
        "ratio (clicks per query)": rates(ratio_difference((clicks[0], queries[0]), (clicks[1], queries[1])), truth),
    }


def peeking(
    generator: np.random.Generator, *, runs: int, units: int, every: int, effect: float, skewed: bool
) -> dict[str, Rates]:
    """Stop at the first significant look, by the fixed-horizon interval and by the always-valid one.

    Looks every `every` units of an arm, of `units` in all.
    """
    draws = generator.exponential(size=(2, runs, units)) if skewed else generator.normal(size=(2, runs, units))
    looks = np.arange(every, units + 1, every)
    treated, kept = running_moments(draws[0] + effect, looks), running_moments(draws[1], looks)
    value = treated.mean - kept.mean
    error = np.sqrt(treated.variance / treated.units + kept.variance / kept.units)
    half = stats.norm.ppf(0.975) * error
    fixed = Estimate(value, value - half, value + half, 2 * stats.norm.sf(np.abs(value) / error), 0.95)
    last = Estimate(fixed.value[:, -1], fixed.low[:, -1], fixed.high[:, -1], fixed.p[:, -1], 0.95)
    valid = always_valid_difference(treated, kept, tuned_for=2.0 * units)
    return {
        "fixed-horizon, one look": rates(last, effect),
        "fixed-horizon, every look": rates(fixed, effect),
        "always valid, every look": rates(valid, effect),
    }


def interleaved(
    generator: np.random.Generator, *, runs: int, queries: int, strength: float, candidates: int = 12, depth: int = 8
) -> Rates:
    """Two rankers that see relevance through equal noise, V2's share of the signal larger by `strength`.

    Clicks depend on relevance and position alone, so at strength 0 neither is wanted more. `covered` is of 0.
    """
    shape = runs * queries, candidates
    relevance = generator.normal(size=shape)
    v1 = np.argsort(-(relevance + generator.normal(size=shape)), axis=1)
    v2 = np.argsort(-((1 + strength) * relevance + generator.normal(size=shape)), axis=1)
    lists = team_draft(v1, v2, depth, generator)
    seen = np.take_along_axis(relevance, lists.shown, axis=1)
    chance = 0.6 / (1 + np.exp(-2 * seen)) / np.log2(np.arange(depth) + 2)
    clicked = generator.random(chance.shape) < chance
    found = preference(lists.team.reshape(runs, queries, depth), clicked.reshape(runs, queries, depth))
    return rates(found.estimate, 0.0)


def logged(generator: np.random.Generator, *, runs: int, decisions: int, actions: int = 4) -> dict[str, Rates]:
    """Another policy's value from a log: `shown` is how often the truth is rejected (type-I error)."""
    x = generator.normal(size=(runs, decisions))
    taste = np.linspace(-1.0, 1.0, actions)

    def policy(slope: float) -> Floats:
        scores = slope * x[..., None] * taste
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return np.asarray(weights / weights.sum(-1, keepdims=True))

    logging, target = policy(-0.4), policy(1.0)
    cumulative = logging.cumsum(-1)
    action = (generator.random((runs, decisions, 1)) > cumulative[..., :-1]).sum(-1)
    mean = 0.5 + 0.3 * np.tanh(x[..., None] * taste)
    model = 0.45 + 0.2 * x[..., None] * taste  # a reward model that is wrong

    def of(values: Floats) -> Floats:
        return np.asarray(np.take_along_axis(values, action[..., None], -1)[..., 0])

    reward = (generator.random((runs, decisions)) < of(mean)).astype(np.float64)
    weight = importance_weights(of(target), of(logging))
    truth = _policy_value(taste)
    found = {
        "IPS": ips(reward, weight),
        "SNIPS": snips(reward, weight),
        "doubly robust": doubly_robust(reward, weight, of(model), (target * model).sum(-1)),
        "IPS clipped at 2": ips(reward, weight, clip=2.0),
    }
    return {name: _rejected(each.estimate, truth) for name, each in found.items()}


def sample_ratios(generator: np.random.Generator, *, runs: int, days: int, daily: int, kept: float) -> Rates:
    """The always-valid sample-ratio alarm looked at daily, where a share `kept` of treatment's units is counted."""
    shares = np.array([0.05 * kept, 0.95])
    counts = generator.multinomial(daily, [*shares, 1 - shares.sum()], (runs, days))[..., :2].cumsum(-2)
    alarms = always_valid_sample_ratio_p(counts, (0.05, 0.95))[:, -1] <= ALPHA
    return Rates(float(alarms.mean()), float("nan"), float("nan"))


def _policy_value(taste: Floats) -> float:
    """The target policy's true mean reward, by quadrature over x."""
    x, mass = np.polynomial.hermite_e.hermegauss(80)
    weights = np.exp(x[:, None] * taste)
    chance = weights / weights.sum(-1, keepdims=True)
    return float(mass @ (chance * (0.5 + 0.3 * np.tanh(x[:, None] * taste))).sum(-1) / mass.sum())


def rates(found: Estimate, truth: float) -> Rates:
    """Over experiments `[R]`, or over all looks `[R, K]` of each."""
    looks = found.value.reshape(len(found.value), -1).shape
    shown = (found.p.reshape(looks) <= 1 - found.level).any(-1)
    missed = ((found.low > truth) | (found.high < truth)).reshape(looks).any(-1)
    width = (found.high - found.low).reshape(looks)[:, -1]
    return Rates(float(shown.mean()), float(1 - missed.mean()), float(width.mean()))


def _rejected(found: Estimate, truth: float) -> Rates:
    missed = (found.low > truth) | (found.high < truth)
    return Rates(float(missed.mean()), float(1 - missed.mean()), float((found.high - found.low).mean()))
