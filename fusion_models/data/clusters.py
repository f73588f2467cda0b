"""Clusters of a split's queries, for every interval: queries that share a word, or else a relevant item."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from fusion_models.data.dataset import RankingDataset

Clusters = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int64]

COMMON = 0.1
"""A word that more than this share of the queries hold ("for", "the") says nothing of what they have in common."""
FEW = 10
"""And one that fewer hold is never common, however small the split."""


@dataclass(frozen=True, eq=False)
class Held:
    """What each of Q queries holds, each thing once: numbers, without an object of Python's for any of them."""

    starts: Ints
    """`[Q + 1]`: where each query's things begin."""
    things: Ints
    """`[held]`: numbers from 0 on, ascending in each query; ties between things go by them."""

    @staticmethod
    def of_pairs(rows: npt.ArrayLike, things: npt.ArrayLike, queries: int) -> Held:
        """From pairs of a query `[N]`, 0 to `queries` - 1, and a thing `[N]`; a pair may stand there twice."""
        row, thing = np.asarray(rows, dtype=np.int64), np.asarray(things, dtype=np.int64)
        width = int(thing.max(initial=-1)) + 1
        pairs = np.unique(row * width + thing)
        starts = np.searchsorted(pairs, np.arange(queries + 1) * width)
        return Held(starts.astype(np.int64), pairs % width if width else pairs)

    @staticmethod
    def of(held: Sequence[Sequence[Hashable]]) -> Held:
        """From a few lists in Python; things are numbered in the order of their texts."""
        number = {thing: n for n, thing in enumerate(sorted({t for query in held for t in query}, key=str))}
        rows = [row for row, query in enumerate(held) for _ in query]
        return Held.of_pairs(rows, [number[thing] for query in held for thing in query], len(held))

    def __len__(self) -> int:
        """Queries."""
        return len(self.starts) - 1

    @property
    def rows(self) -> Ints:
        """`[held]`: whose each thing is."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    @property
    def counts(self) -> Ints:
        """`[things]`: how many queries hold each."""
        return np.bincount(self.things).astype(np.int64)


def query_clusters(data: RankingDataset, split: str) -> Clusters | None:
    """`[Q]`: a number a query of the split (rows ascending); queries of one number are resampled together.

    Queries that share words or items are no independent draws. Each goes to the most frequent of its words that is
    not common to all; without texts, to the most frequent of its relevant items. None where nobody shares anything.
    """
    rows = np.sort(data.rows(split))
    held = query_words(data, rows)
    most = max(FEW, int(COMMON * len(rows))) if held is not None else len(rows)
    clusters = shared_clusters(relevant_items(data, rows) if held is None else held, most=most)
    return clusters if len(np.unique(clusters)) < len(clusters) else None


def shared_clusters(held: Held, *, most: int) -> Clusters:
    """`[Q]` numbers: each query to the most frequent thing it holds, ties by the thing's number.

    Things that more than `most` queries hold count only where a query holds nothing else; one that holds nothing
    stands alone.
    """
    counts = held.counts
    order = np.lexsort((np.arange(len(counts)), counts, counts <= most))
    rank = np.empty(len(counts), dtype=np.int64)
    rank[order] = np.arange(len(counts))
    best = np.full(len(held), -1, dtype=np.int64)
    np.maximum.at(best, held.rows, rank[held.things])
    alone = np.flatnonzero(best < 0)
    clusters = np.empty(len(held), dtype=np.int64)
    clusters[alone[np.argsort(alone.astype(str), kind="stable")]] = np.arange(len(alone))
    clusters[best >= 0] = len(alone) + np.unique(order[best[best >= 0]], return_inverse=True)[1]
    return clusters


def query_words(data: RankingDataset, rows: Ints) -> Held | None:
    """The words of the texts of some queries `[Q]`, in small letters, numbered in their order; None without texts."""
    texts = data.query_texts(rows)
    if texts is None:
        return None
    split = pc.utf8_split_whitespace(texts).combine_chunks()
    row, word = pc.list_parent_indices(split), pc.list_flatten(split)
    real = pc.not_equal(word, "")
    coded = pc.dictionary_encode(word.filter(real))
    known = [text.lower() for text in coded.dictionary.to_pylist()]  # Arrow knows no final sigma
    number = np.unique(np.array(known, dtype=np.dtypes.StringDType()), return_inverse=True)[1]
    return Held.of_pairs(row.filter(real).to_numpy(), number[coded.indices.to_numpy()], len(rows))


def relevant_items(data: RankingDataset, rows: Ints) -> Held:
    """Of each query row `[Q]` the items with a label above 0, numbered in the order of their texts."""
    places, row = data.documents(rows), np.repeat(np.arange(len(rows)), data.candidates[rows])
    relevant = np.asarray(data.labels)[places] > 0
    items, number = np.unique(np.asarray(data.judged_item)[places[relevant]], return_inverse=True)
    by_text = np.empty(len(items), dtype=np.int64)
    by_text[np.argsort(items.astype(str), kind="stable")] = np.arange(len(items))
    return Held.of_pairs(row[relevant], by_text[number], len(rows))
