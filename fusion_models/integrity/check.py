"""One line of integrity.csv, and how a value becomes one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from fusion_models.metrics import Interval

CheckStatus = Literal["pass", "fail", "undecided", "warning", "reported", "not applicable", "not measured"]
"""`warning`: no leak, but a risk of the release that people must weigh; no verdict is kept back by it."""

ISOLATED = 0.99
"""1 - overlap from which a side (queries, or items) counts as unseen: 1 % of copies moves nDCG by a quarter of that."""
TELLING_LEVEL = 0.99
"""Level of the intervals around chance: a clean run is called broken once in 200."""
MOST_ABOVE_CHANCE = 0.05
"""nDCG above chance that broken labels must be shown not to reach."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of integrity.csv."""

    name: str
    value: float
    ci_low: float
    ci_high: float
    threshold: float
    direction: Literal["at least", "at most"]
    status: CheckStatus
    detail: str = ""

    @property
    def counts(self) -> bool:
        """Whether a verdict reads it."""
        return self.status not in ("warning", "reported", "not applicable")


def check(
    name: str,
    value: Interval | float,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    reported: bool = False,
    detail: str = "",
) -> Check:
    """A check that passes where the whole interval (or the exact value) lies on the right side."""
    found = value if isinstance(value, Interval) else Interval(value, value, value)
    if at_least is not None:
        threshold, direction, low, high = at_least, "at least", found.low >= at_least, found.high < at_least
    else:
        assert at_most is not None
        threshold, direction, low, high = at_most, "at most", found.high <= at_most, found.low > at_most
    status: CheckStatus = "reported" if reported else "pass" if low else "fail" if high else "undecided"
    return Check(
        name=name,
        value=found.mean,
        ci_low=found.low,
        ci_high=found.high,
        threshold=threshold,
        direction=direction,  # type: ignore[arg-type]
        status=status,
        detail=detail,
    )


def unmeasured(name: str, status: CheckStatus, detail: str) -> Check:
    """A check without a value, and why."""
    return Check(
        name=name, value=nan, ci_low=nan, ci_high=nan, threshold=nan, direction="at most", status=status, detail=detail
    )


def chance_check(name: str, ndcg: Sequence[npt.ArrayLike], chance: Sequence[npt.ArrayLike]) -> Check:
    """Rankers trained on broken labels: their nDCG on held-out queries less what chance earns there.

    `ndcg`, `chance`: `[Q]` a training, on its own labels; NaN where a query has no relevant item. Fails where the
    whole interval lies above 0, passes where it reaches 0 and stays below `MOST_ABOVE_CHANCE`; where it is wider,
    more queries are needed to tell.
    """
    gains = [np.asarray(n, dtype=np.float64) - np.asarray(c) for n, c in zip(ndcg, chance, strict=True)]
    values = np.concatenate(gains) if gains else np.zeros(0)
    values = values[np.isfinite(values)]
    if len(gains) < 2 or len(values) < 4:
        return unmeasured(name, "not measured", f"{len(gains)} trainings, {len(values)} lists: two and four are needed")
    # each training drew labels of its own, so its lists are as good as new ones
    limits = stats.ttest_1samp(values, 0.0).confidence_interval(TELLING_LEVEL)
    found = Interval(float(values.mean()), float(limits.low), float(limits.high), TELLING_LEVEL)
    read = check(name, found, at_most=MOST_ABOVE_CHANCE)
    status: CheckStatus = "fail" if found.low > 0.0 else "pass" if found.high <= MOST_ABOVE_CHANCE else "undecided"
    said = f"nDCG above chance, {len(gains)} trainings, {len(values)} held-back lists, CI99"
    return dataclasses.replace(read, status=status, detail=said)
