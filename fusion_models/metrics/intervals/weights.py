"""Means in which queries count by their weights, and their intervals.

A weighted mean is written as a plain mean of other values (its influence function), so that everything that knows the
spread of a plain mean knows this one's: clusters, training seeds, differences.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def uneven(weights: npt.ArrayLike | None) -> Floats | None:
    """`[Q]` weights, or None where all queries count alike: plain means then, to the last digit.

    Raises ValueError for weights that are negative, not finite or all 0.
    """
    if weights is None:
        return None
    array = np.asarray(weights, dtype=np.float64)
    if array.size and not (np.isfinite(array).all() and (array >= 0).all() and array.sum() > 0):
        raise ValueError(f"weights must be finite, not negative and not all 0, got {array[:5]} ...")
    return None if array.size == 0 or (array == array[0]).all() else array


def weighted_mean(values: npt.ArrayLike, weights: Floats | None = None) -> float:
    """Mean of the finite ones of `values` `[Q]`; NaN where none of them has a weight."""
    array = np.asarray(values, dtype=np.float64)
    known = np.isfinite(array)
    if weights is None:
        return float(array[known].mean()) if known.any() else float("nan")
    total = float(weights[known].sum())
    return float((array[known] * weights[known]).sum()) / total if total > 0 else float("nan")


def linearised(values: npt.ArrayLike, weights: Floats | None = None) -> Floats:
    """Values `[..., Q]` whose plain mean is the weighted mean of those given, and whose spread is that mean's.

    With weights of mean 1, w: mean + w (value - mean). Linear in the values, so a difference of two is the same
    before and after. `values` without NaN; `weights` `[Q]`.

    References: Hampel 1974 (influence functions); Hájek 1971 (the weighted mean as a ratio).
    """
    array = np.asarray(values, dtype=np.float64)
    if weights is None:
        return array
    relative = weights * (len(weights) / weights.sum())
    centre = (array * relative).mean(axis=-1, keepdims=True)
    return np.asarray(centre + relative * (array - centre))


def of_rows(weights: Floats | None, rows: npt.NDArray[np.bool_]) -> Floats | None:
    """The weights of some queries."""
    return None if weights is None else weights[rows]


def counted(values: npt.ArrayLike, weights: Floats | None = None) -> npt.NDArray[np.bool_]:
    """`[Q]`: queries with a finite value and, where there are weights, one above 0."""
    known = np.isfinite(np.asarray(values, dtype=np.float64))
    return known if weights is None else known & (weights > 0)
