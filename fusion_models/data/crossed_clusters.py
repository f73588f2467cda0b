"""Crossed clusters of a split's queries: by each word that few of them share, and by relevant items in common."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from fusion_models.data.clusters import COMMON, FEW, Held, query_words, relevant_items
from fusion_models.data.dataset import RankingDataset
from fusion_models.metrics.intervals.query_intervals import Ties

ALIKE = 0.1
"""Cosine of two queries' sets of relevant items from which they stand together (docs/decisions/021).

A query's value hangs on each of its relevant items by one part in their number. One item in common of 26 and 20 tells
nothing; joining such pairs made intervals of `clipart` up to three times as wide as their errors.
"""
ROWS_AT_ONCE = 2_000
MOST_PAIRS = 3e7
"""Of queries that have a thing in common, counted once for each thing: some 1 GB of memory at the most."""
TOLERANCE = 1e-9


def crossed_clusters(data: RankingDataset, split: str) -> Ties | None:
    """Which queries of the split (rows ascending) stand together; None where no two do.

    Two queries stand together where they share a word, or enough of their relevant items (`ALIKE`). A query of two
    words stands with those of either, which one number a query cannot say. Words that more than COMMON of the queries
    hold tell nothing. The main clusters are those of each query's most frequent telling word.
    """
    rows = np.sort(data.rows(split))
    held = query_words(data, rows)
    main, pairs = np.full(len(rows), -1, dtype=np.int64), sparse.csr_array((len(rows), len(rows)))
    if held is not None:
        shared = shared_things(held, most=max(FEW, int(COMMON * len(rows))))
        holds = np.diff(shared.starts) > 0
        main[holds] = shared.things[shared.starts[:-1][holds]]
        pairs = alike(few_pairs(shared))
    pairs = sparse.csr_array(pairs + alike(few_pairs(relevant_items(data, rows)), ALIKE))
    pairs.setdiag(0.0)
    pairs.eliminate_zeros()
    if pairs.nnz == 0:
        return None
    pairs.data[:] = 1.0
    return Ties(main, pairs)


def shared_things(held: Held, *, most: int) -> Held:
    """Of each query the things that at least 2 and at most `most` queries hold, numbered by how many do, falling."""
    counts = held.counts
    order = np.lexsort((np.arange(len(counts)), -counts))
    number = np.empty(len(counts), dtype=np.int64)
    number[order] = np.arange(len(counts))
    kept = (counts[held.things] >= 2) & (counts[held.things] <= most)
    return Held.of_pairs(held.rows[kept], number[held.things[kept]], len(held))


def few_pairs(held: Held) -> Held:
    """Without the things that the most queries hold, as far as all pairs of queries with one in common are too many.

    What is left out of a verdict is a tie by one frequent word beside the main clusters, which keep it.
    """
    counts = held.counts
    order = np.argsort(counts, kind="stable")
    kept = np.empty(len(counts), dtype=np.bool_)
    kept[order] = np.cumsum(counts[order].astype(np.float64) ** 2) <= MOST_PAIRS
    mine = kept[held.things]
    return held if mine.all() else Held.of_pairs(held.rows[mine], held.things[mine], len(held))


def alike(held: Held, least: float = 0.0) -> sparse.csr_array:
    """`[Q, Q]`: the cosine of two queries' sets of things, where it is above 0 and at least `least`."""
    sizes = np.diff(held.starts)
    weight = np.repeat(1.0 / np.sqrt(np.maximum(sizes, 1)), sizes)
    width = int(held.things.max(initial=0)) + 1
    unit = sparse.csr_array((weight, held.things, held.starts), shape=(len(held), width))
    blocks = []
    for start in range(0, len(held), ROWS_AT_ONCE):
        block = sparse.csr_array(unit[start : start + ROWS_AT_ONCE] @ unit.T)
        block.data[block.data < least - TOLERANCE] = 0.0
        block.eliminate_zeros()
        blocks.append(block)
    return sparse.csr_array(sparse.vstack(blocks))
