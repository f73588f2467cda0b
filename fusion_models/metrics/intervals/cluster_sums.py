"""Values by query, checked and summed by the clusters in which queries stand together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fusion_models.metrics.intervals.interval import Floats


def checked(values: npt.ArrayLike, dimensions: int) -> Floats:
    """The values as an array of `dimensions` dimensions. Raises ValueError where it is empty, NaN or infinite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"expected a non-empty array of {dimensions} dimensions, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(
            f"{int((~np.isfinite(array)).sum())} of {array.size} values are NaN or infinite; leave out the queries "
            "without a relevant document, on both sides alike"
        )
    return array


def cluster_sums(values: Floats, clusters: npt.ArrayLike | None) -> tuple[Floats, Floats]:
    """Sum and size of each cluster `[C]`, of values `[Q]`; every query is its own where no clusters are given.

    Raises ValueError for clusters that are not `[Q]` integers.
    """
    if clusters is None:
        return values, np.ones(len(values))
    ids = np.asarray(clusters)
    if ids.shape != values.shape or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"clusters must be {values.shape} integers, got {ids.shape} {ids.dtype}")
    _, index = np.unique(ids, return_inverse=True)
    return np.bincount(index, weights=values).astype(np.float64), np.bincount(index).astype(np.float64)


def effective_number(sizes: Floats) -> float:
    """Kish's effective number of clusters; the number itself where all are of one size."""
    return float(sizes.sum() ** 2 / (sizes**2).sum())
