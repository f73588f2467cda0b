"""Weighted mean and deviation of features that stream past."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


class RunningMoments:
    """Mean and population deviation of `[n, D]` chunks with `[n]` weights, in float64 and one pass.

    Chunks are joined by the update of Chan, Golub and LeVeque (1983), so that no sum of squares cancels.
    """

    def __init__(self, width: int) -> None:
        self.weight = 0.0
        self._mean: Vector = np.zeros(width)
        self._squares: Vector = np.zeros(width)

    def update(self, values: npt.NDArray[np.floating], weights: npt.NDArray[np.floating | np.integer]) -> None:
        """Add a chunk; rows of weight 0 count for nothing."""
        used = weights > 0
        x, w = values[used].astype(np.float64), weights[used].astype(np.float64)[:, None]
        total = float(w.sum())
        if total == 0.0:
            return
        mean = (w * x).sum(axis=0) / total
        delta, joint = mean - self._mean, self.weight + total
        self._squares += (w * (x - mean) ** 2).sum(axis=0) + delta**2 * self.weight * total / joint
        self._mean = self._mean + delta * (total / joint)
        self.weight = joint

    @property
    def mean(self) -> Vector:
        """`[D]`; zeros where nothing was seen."""
        return self._mean

    @property
    def std(self) -> Vector:
        """`[D]`, > 0: 1 for a feature that is constant up to rounding."""
        std = np.sqrt(self._squares / max(self.weight, 1.0))
        return np.where(std <= 1e-13 * np.abs(self._mean) + 1e-20, 1.0, std)
