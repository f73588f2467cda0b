"""Crossed clusters of a split's queries: by each word that few of them share, and by relevant items in common."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from fusion_models.data.clusters import COMMON, FEW, relevant_items
from fusion_models.data.dataset import RankingDataset
from fusion_models.metrics.intervals.query_intervals import Ties

Numbers = npt.NDArray[np.int64]

ALIKE = 0.1
"""Cosine of two queries' sets of relevant items from which they stand together (docs/decisions/021).

A query's value hangs on each of its relevant items by one part in their number. One item in common of 26 and 20 tells
nothing; joining such pairs made intervals of `clipart` up to three times as wide as their errors.
"""
ROWS_AT_ONCE = 2_000
TOLERANCE = 1e-9


def crossed_clusters(data: RankingDataset, split: str) -> Ties | None:
    """Which queries of the split (rows ascending) stand together; None where no two do.

    Two queries stand together where they share a word, or enough of their relevant items (`ALIKE`). A query of two
    words stands with those of either, which one number a query cannot say. Words that more than COMMON of the queries
    hold tell nothing. The main clusters are those of each query's most frequent telling word.
    """
    rows = np.sort(data.rows(split))
    texts = data.query_text
    words = [sorted(set(str(texts[row] or "").lower().split())) for row in rows] if texts is not None else []
    shared = (
        shared_numbers(words, most=max(FEW, int(COMMON * len(rows)))) if words else np.zeros((len(rows), 0), np.int64)
    )
    main = shared[:, 0] if shared.shape[1] else np.full(len(rows), -1, dtype=np.int64)
    pairs = sparse.csr_array(alike(shared) + alike([relevant_items(data, int(row)) for row in rows], ALIKE))
    pairs.setdiag(0.0)
    pairs.eliminate_zeros()
    if pairs.nnz == 0:
        return None
    pairs.data[:] = 1.0
    return Ties(main, pairs)


def shared_numbers(held: Sequence[Sequence[Hashable]], *, most: int) -> Numbers:
    """`[Q, W]`: a number for each thing that at least 2 and at most `most` queries hold, the most frequent first.

    W is the most that one query has of them; rows with fewer end in -1.
    """
    counts: dict[Hashable, int] = {}
    for thing in (thing for query in held for thing in set(query)):
        counts[thing] = counts.get(thing, 0) + 1
    telling = sorted((t for t, n in counts.items() if 2 <= n <= most), key=lambda t: (-counts[t], str(t)))
    numbers = {thing: number for number, thing in enumerate(telling)}
    kept = [sorted(numbers[thing] for thing in set(query) if thing in numbers) for query in held]
    out = np.full((len(held), max(map(len, kept), default=0)), -1, dtype=np.int64)
    for row, own in enumerate(kept):
        out[row, : len(own)] = own
    return out


def alike(held: Sequence[Sequence[int]] | Numbers, least: float = 0.0) -> sparse.csr_array:
    """`[Q, Q]`: the cosine of two queries' sets of things, where it is above 0 and at least `least`.

    `held`: numbers of the things of each query; negative ones are none.
    """
    sets = [np.unique(numbers[numbers >= 0]) for numbers in (np.asarray(row, dtype=np.int64) for row in held)]
    indices = np.concatenate([*sets, np.empty(0, np.int64)])
    starts = np.concatenate([[0], np.cumsum([len(numbers) for numbers in sets])])
    sizes = np.array([max(len(numbers), 1) for numbers in sets], dtype=np.float64)
    unit = sparse.csr_array(
        (np.repeat(1.0 / np.sqrt(sizes), np.diff(starts)), indices, starts),
        shape=(len(sets), int(indices.max(initial=0)) + 1),
    )
    blocks = []
    for start in range(0, len(sets), ROWS_AT_ONCE):
        block = sparse.csr_array(unit[start : start + ROWS_AT_ONCE] @ unit.T)
        block.data[block.data < least - TOLERANCE] = 0.0
        block.eliminate_zeros()
        blocks.append(block)
    return sparse.csr_array(sparse.vstack(blocks))
