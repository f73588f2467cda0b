"""An interval: an estimate with its confidence limits, and what its width is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, nan

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SeedPart:
    """What the trainings of one arm add to the variance of an estimate."""

    variance: float
    """Of the estimate, from the trainings drawn; what they share with the queries is in it."""
    shared: float
    """Of that: what the queries' part holds too. Both are estimates, so it may be the larger."""
    trainings: int

    @property
    def net(self) -> float:
        """What the queries' part does not hold; below 0 by chance, where trainings hardly differ."""
        return self.variance - self.shared

    @property
    def uncertain(self) -> float:
        """What counts against the degrees of freedom: known from the trainings alone.

        All of `variance` makes differences of recipes whose trainings hardly differ cover 98.6 %, `net` alone 94.4 %:
        half of what many queries tell as well is the middle (docs/evidence.md, "Level and coverage").
        """
        return max(self.variance - self.shared / 2, 0.0)

    @property
    def df(self) -> int:
        """Degrees of freedom of `variance`."""
        return self.trainings - 1


@dataclass(frozen=True)
class Variance:
    """What an interval's width is made of, kept so that `more_needed` can say what would narrow it."""

    query: float = nan
    """Variance of the mean that comes from the queries drawn."""
    query_df: float = nan
    queries: int = 0
    seed: float = 0.0
    """Variance of the mean that comes from the training seeds drawn; 0 where one given model is the subject."""
    seed_df: float = inf
    seeds: int = 1
    """Trainings; of the arm with the fewest, where there are two."""
    arms: tuple[SeedPart, ...] = ()
    """The seeds' part arm by arm, where the trainings are not paired."""
    skew: float = 0.0
    """Third cumulant of the mean over the queries drawn; 0 where the limits do not read it."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence limits; the limits are infinite where the data cannot bound it."""

    mean: float
    low: float
    high: float
    level: float = 0.95
    variance: Variance = field(default_factory=Variance, repr=False)

    @property
    def standard_error(self) -> float:
        """Of the estimate, from queries and seeds together; NaN where it is not known."""
        return float(np.sqrt(self.variance.query + self.variance.seed))
