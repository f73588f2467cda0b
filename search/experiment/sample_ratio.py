"""Sample-ratio mismatch: arms of other sizes than assigned say that units were lost or counted twice in one of them.

Whatever else such an experiment says is not to be believed, however small its p-value.

References:
    Fabijan and others 2019, "Diagnosing sample ratio mismatch in online controlled experiments"; Lindon and Malek 2022,
    "Anytime-valid inference for multinomial count data" (the sequential test).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from search.experiment.estimate import Floats

ALPHA = 0.001
"""Level of the alarm: it is looked at often, and a true mismatch is soon far below it."""


@dataclass(frozen=True)
class SampleRatio:
    """One look at the arms' sizes."""

    counts: tuple[int, ...]
    expected: tuple[float, ...]
    p: float
    mismatch: bool


def sample_ratio(counts: Sequence[int], shares: Sequence[float], *, alpha: float = ALPHA) -> SampleRatio:
    """Chi-square test of the arms' sizes against the shares that were assigned; for one look.

    Raises ValueError where the shares are not above 0 or do not sum to 1, or fewer than 5 units are expected in an arm.
    """
    observed, wanted = np.asarray(counts, dtype=np.float64), _shares(shares, len(counts))
    expected = wanted * observed.sum()
    if expected.min() < 5:
        raise ValueError(f"chi-square needs 5 expected units in each arm, got {expected.round(1).tolist()}: wait")
    p = float(stats.chisquare(observed, expected).pvalue)
    return SampleRatio(tuple(int(c) for c in counts), tuple(float(e) for e in expected), p, p < alpha)


def always_valid_sample_ratio_p(counts: npt.ArrayLike, shares: Sequence[float]) -> Floats:
    """p of a mismatch that holds at all looks together: counts `[..., K, A]` at K looks -> `[..., K]`, never rising.

    One over the running maximum of the Bayes factor of a Dirichlet (flat, so weak at small departures) against the
    assigned shares.
    """
    observed = np.asarray(counts, dtype=np.float64)
    wanted = _shares(shares, observed.shape[-1])
    arms, total = observed.shape[-1], observed.sum(-1)
    flat = special.gammaln(arms) - special.gammaln(total + arms) + special.gammaln(observed + 1).sum(-1)
    log_factor = flat - (observed * np.log(wanted)).sum(-1)
    return np.exp(-np.maximum(np.maximum.accumulate(log_factor, axis=-1), 0.0))


def _shares(shares: Sequence[float], arms: int) -> Floats:
    wanted = np.asarray(shares, dtype=np.float64)
    if wanted.shape != (arms,) or (wanted <= 0).any() or abs(wanted.sum() - 1) > 1e-9:
        raise ValueError(f"expected {arms} shares above 0 that sum to 1, got {list(shares)}")
    return wanted
