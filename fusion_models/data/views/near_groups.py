"""Groups of rows that are near-duplicates of one another, in little memory and the same on every machine.

Random trees (Dasgupta and Freund 2008) cut the rows' directions in two at medians of random projections until a leaf
holds few rows; inside a leaf every pair is compared. Two near rows part where a cut runs between them, so there are
several trees, and rows that are joined anywhere are one group (connected components). A pair exactly at the limit is
missed once in some ten thousand times; the nearer, the rarer. Up to `COMPARED` rows, every pair is compared.

No result hangs on the order in which a machine adds: directions are rounded to whole numbers so small that all sums of
their products are exact in float64.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

COSINE = 0.999
COMPARED = 2_048
LEAF, TREES, PROJECTIONS = 256, 6, 16
"""Rows of a leaf; trees; random projections among which each cut of a tree chooses the widest."""
SAMPLED = 4_096
"""Rows by which the widest is told."""
ROWS_AT_ONCE, LEAVES_AT_ONCE = 8_192, 32
BITS = 20

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Read = Callable[[Ints], Floats]
"""Rows -> their centred features `[n, D]`."""


def near_groups(read: Read, count: int, *, cosine: float = COSINE) -> Ints:
    """`[N]`: a number for each group of rows that a chain of cosines of at least `cosine` joins; `count` is N.

    A row of zeros has no direction and is near none. Time grows as N log N, memory as 200 bytes a row.
    """
    if count <= COMPARED:
        leaves: Iterator[Ints] = iter([np.arange(count)])
    else:
        places = _places(read, count)
        leaves = (leaf for tree in range(TREES) for leaf in _leaves(places[:, tree]))
    edges = []
    while some := list(itertools.islice(leaves, LEAVES_AT_ONCE)):
        edges.append(_joined(read, some, cosine))
    ends = np.concatenate([np.zeros((2, 0), dtype=np.int64), *edges], axis=1)
    return _components(ends, count)


def _components(ends: Ints, count: int) -> Ints:
    graph = coo_array((np.ones(ends.shape[1], dtype=np.bool_), (ends[0], ends[1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _whole(values: Floats) -> tuple[Floats, Floats]:
    """Rows as whole numbers in float64 `[n, D]`, each on a scale of its own, and their lengths `[n]`."""
    width = values.shape[1]
    bits = min(BITS, (52 - int(np.ceil(np.log2(max(width, 1))))) // 2)
    largest = np.abs(values).max(axis=1, initial=0.0)
    whole = np.rint(np.ldexp(values, bits - np.frexp(largest)[1][:, None]))
    return whole, np.sqrt((whole * whole).sum(axis=1))


def _places(read: Read, count: int) -> npt.NDArray[np.int16]:
    """`[N, trees, projections]`: where each row's direction lies along random ones, to 1/4096 of their deviation."""
    random = np.random.default_rng(0)
    out = np.empty((count, TREES, PROJECTIONS), dtype=np.int16)
    width = read(np.zeros(1, dtype=np.int64)).shape[1]
    signs = 2.0 * random.integers(0, 2, (width, TREES * PROJECTIONS)) - 1.0
    for start in range(0, count, ROWS_AT_ONCE):
        whole, length = _whole(read(np.arange(start, min(start + ROWS_AT_ONCE, count))))
        along = np.rint(4096.0 * (whole @ signs) / np.where(length > 0, length, 1.0)[:, None])
        out[start : start + len(whole)] = along.clip(-32767, 32767).reshape(-1, TREES, PROJECTIONS)
    return out


def _leaves(places: npt.NDArray[np.int16]) -> Iterator[Ints]:
    """Leaves of one tree over `places` `[N, projections]`: together they hold every row."""
    waiting = [np.arange(len(places))]
    while waiting:
        rows = waiting.pop()
        right = None if len(rows) <= LEAF else _cut(places, rows)
        if right is not None:
            waiting += [rows[right], rows[~right]]
        elif len(rows) <= LEAF:
            yield rows
        else:  # of one place: a chain of leaves, each of which shares a row with the next
            yield from (rows[start : start + LEAF] for start in range(0, len(rows) - 1, LEAF - 1))


def _cut(places: npt.NDArray[np.int16], rows: Ints) -> npt.NDArray[np.bool_] | None:
    """Which of `rows` lie on the upper side of a cut near the median; None where all have one place."""
    few = places[rows[:: -(-len(rows) // SAMPLED)]].astype(np.int64)
    spread = len(few) * (few**2).sum(axis=0) - few.sum(axis=0) ** 2
    for projection in np.argsort(-spread, kind="stable"):
        along = places[rows, projection]
        middle = np.partition(along, len(along) // 2)[len(along) // 2]
        right = along >= middle
        right = along > middle if right.all() else right
        if right.any():
            return np.asarray(right)
    return None


def _joined(read: Read, leaves: Sequence[Ints], cosine: float) -> Ints:
    """`[2, edges]`: edges that join the near ones within each leaf, at most one a row and leaf."""
    longest = max(len(leaf) for leaf in leaves)
    rows = np.stack([np.pad(leaf, (0, longest - len(leaf)), constant_values=-1) for leaf in leaves])
    real = rows >= 0
    whole, length = _whole(read(rows[real]))
    padded, lengths = np.zeros((*rows.shape, whole.shape[1])), np.zeros(rows.shape)
    padded[real], lengths[real] = whole, length
    directions = torch.from_numpy(padded)
    products = torch.bmm(directions, directions.mT).numpy()
    near = (products >= cosine * (lengths[:, :, None] * lengths[:, None])) & (products > 0)
    near[:, np.arange(longest), np.arange(longest)] = False
    place, left, right = np.nonzero(near)
    if not len(place):
        return np.zeros((2, 0), dtype=np.int64)
    group = _components(np.stack([place * longest + left, place * longest + right]), rows.size)
    first = np.unique(group, return_index=True)[1][group]
    linked = first != np.arange(rows.size)
    return np.stack([rows.flat[first[linked]], rows.flat[linked]])
