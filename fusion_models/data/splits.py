"""Train, validation and test: read from the table, or assigned by a stable hash of the query's id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

SPLITS: tuple[str, ...] = ("train", "validation", "test")
DECIDING = "deciding"
"""The half of a halved validation split that no search reads."""
FRACTIONS: tuple[float, ...] = (0.7, 0.1, 0.2)
"""Of the queries, where the table names no split."""


def hash_fraction(query_id: str, salt: str = "") -> float:
    """A number in [0, 1) that only the id (and the salt) decides: the same on every machine, in every version.

    The first 8 bytes of SHA-256 of `salt + query_id` in UTF-8, over 2^64. Halves of a split that must not follow
    the split itself pass a salt of their own.
    """
    digest = hashlib.sha256((salt + query_id).encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def assign_splits(query_ids: Iterable[str]) -> npt.NDArray[np.int8]:
    """`[Q]` codes into SPLITS, 70/10/20 by `hash_fraction`; a query keeps its split when others come and go."""
    edges = np.cumsum(FRACTIONS)[:-1]
    fractions = np.array([hash_fraction(query_id) for query_id in query_ids], dtype=np.float64)
    return np.searchsorted(edges, fractions, side="right").astype(np.int8)


def halve_validation(split: npt.NDArray[np.int8], query_ids: Iterable[str]) -> npt.NDArray[np.int8]:
    """`[Q]` codes into (*SPLITS, DECIDING): a stable hash of its id moves half of the validation queries to DECIDING.

    The hash has a salt of its own: where the splits themselves were hashed, an unsalted one would cut at their edges.
    """
    validation = SPLITS.index("validation")
    moved = np.array([hash_fraction(query_id, salt="deciding half/") >= 0.5 for query_id in query_ids], dtype=np.bool_)
    return np.where((split == validation) & moved, len(SPLITS), split).astype(np.int8)
