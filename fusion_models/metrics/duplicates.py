"""Rows that are copies of others: equal up to rounding, or in nearly one direction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from fusion_models.metrics.intervals.interval import Floats

Keys = npt.NDArray[np.uint64]

PAIRS_AT_ONCE = 4_000_000
NARROW = 8
"""Columns below which a direction says nothing: of one column all cosines are 1 or -1, of three one in 2,000 rows lies
beside any other."""
ROUNDING, NARROW_ROUNDING = 1e-3, 1e-6
"""Deviations within which two values of a feature are equal; of few columns, where many rows come near by chance."""


def rounded(features: npt.ArrayLike, std: npt.ArrayLike) -> Floats:
    """`[..., D]` float64 in whole numbers of `ROUNDING` deviations: equal values have equal bytes, on any scale.

    `std` `[D]` > 0. Of fewer than `NARROW` columns: of `NARROW_ROUNDING` deviations.
    """
    values = np.asarray(features, dtype=np.float64)
    unit = np.asarray(std, dtype=np.float64) * (NARROW_ROUNDING if values.shape[-1] < NARROW else ROUNDING)
    return np.asarray(np.rint(values / unit) + 0.0)  # makes -0.0 the same bytes as 0.0


def digests(contents: Iterable[bytes]) -> Keys:
    """`[n]`: 64 bits of each content's BLAKE2b; equal contents have equal ones, others but for 1 pair in 2^64."""
    found = bytearray().join(hashlib.blake2b(content, digest_size=8).digest() for content in contents)
    return np.frombuffer(found, dtype="<u8").astype(np.uint64)


def near_duplicates(
    train: npt.ArrayLike, held_out: npt.ArrayLike, *, std: npt.ArrayLike = 1.0, cosine: float = 0.999
) -> npt.NDArray[np.bool_]:
    """Which held-out rows have a near-duplicate among the training rows: `[N, D]`, `[M, D]` -> `[M]`.

    Near: equal up to rounding (`rounded` by `std`, `[D]` or one for all), or at a cosine of at least `cosine`. Zeros
    have no direction, and of fewer than `NARROW` columns it says nothing. Columns far from 0 make cosines high for
    rows that are not alike: hand in centred features.
    """
    left, right = np.asarray(train, dtype=np.float64), np.asarray(held_out, dtype=np.float64)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise ValueError(f"expected [N, D] and [M, D], got {left.shape} and {right.shape}")
    known, mine = (digests(row.tobytes() for row in rounded(side, std)) for side in (left, right))
    found = np.isin(mine, known)
    if left.shape[1] < NARROW or not len(left):
        return found
    directions, queries = _directions(left), _directions(right)
    step = max(1, PAIRS_AT_ONCE // len(left))
    for start in range(0, len(right), step):
        block = slice(start, start + step)
        found[block] |= (queries[block] @ directions.T).max(1) >= cosine
    return found


def _directions(rows: Floats) -> Floats:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1.0)
