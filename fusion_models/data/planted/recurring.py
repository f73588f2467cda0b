"""What recurs in a planted world: words that queries share, items of many queries, queries that repeat one another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusion_models.data.planted.config import PlantedConfig
from fusion_models.data.planted.streams import random_stream
from fusion_models.data.splits import SPLITS

WORDS_A_QUERY = 2
ADDED_WORD = "please"
"""What the text of a repeated query has on top."""

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Lists:
    """Who judges what: Q queries, N documents grouped by query, M items that documents are drawn from."""

    sizes: Rows
    """`[Q]` documents."""
    query: Rows
    """`[N]` row of each document's query."""
    document: Rows
    """`[N]` the document whose draws each has: itself, or in a repeated query that of the original."""
    item: Rows
    """`[N]` row of each document's item."""
    drawn_as: Rows
    """`[M]` the row of the catalogue whose draws each item has."""
    moved: npt.NDArray[np.bool_]
    """`[M]` whether an item is a copy, under an id of its own, of another."""
    catalogue: int
    """Items that are drawn; those that nobody judges are left out of M."""


def repeated_queries(config: PlantedConfig, split: npt.NDArray[np.int8]) -> Rows:
    """`[Q]` the query that each repeats: itself, or for `near_copies` of the test queries one of training."""
    original = np.arange(len(split))
    test, train = (np.flatnonzero(split == SPLITS.index(name)) for name in ("test", "train"))
    random = random_stream(config, "near_copies")
    copies = random.permutation(test)[: round(config.near_copies * len(test))]
    original[copies] = random.choice(train, size=len(copies), replace=len(copies) > len(train))
    return original


def lists(config: PlantedConfig, sizes: Rows, original: Rows) -> Lists:
    """Documents and items of queries of these `sizes` `[Q]`, some of which repeat others."""
    sizes = sizes[original]
    query = np.repeat(np.arange(len(sizes)), sizes)
    first = np.cumsum(sizes) - sizes
    document = first[original[query]] + np.arange(len(query)) - first[query]
    drawn = _from_a_catalogue(config, sizes) if config.item_reuse > 1 else np.arange(len(query))
    drawn_as, item = np.unique(drawn[document], return_inverse=True)
    moved = np.zeros(len(drawn_as), dtype=np.bool_)
    if config.near_copy_shift > 0:
        copies = np.flatnonzero(document != np.arange(len(query)))
        item[copies] = len(drawn_as) + np.arange(len(copies))
        drawn_as = np.concatenate([drawn_as, drawn[document[copies]]])
        moved = np.concatenate([moved, np.ones(len(copies), dtype=np.bool_)])
    return Lists(sizes, query, document, item, drawn_as, moved, int(drawn.max()) + 1)


def _from_a_catalogue(config: PlantedConfig, sizes: Rows) -> Rows:
    """`[N]` items, none twice in one query, of a catalogue of N / item_reuse (at least what the longest list needs)."""
    items = max(round(sizes.sum() / config.item_reuse), int(sizes.max()))
    random = random_stream(config, "item_reuse")
    return np.concatenate([random.choice(items, size=size, replace=False) for size in sizes])


def words(config: PlantedConfig) -> Rows:
    """`[Q, 2]` each query's words, by their rank in the vocabulary; the rank of 0 is the most frequent."""
    chance = np.arange(1, config.shared_words + 1) ** -config.cluster_zipf
    random = random_stream(config, "shared_words")
    return random.choice(config.shared_words, size=(config.queries, WORDS_A_QUERY), p=chance / chance.sum())


def texts(held: Rows, original: Rows) -> list[str]:
    """`[Q]` texts of the words that queries hold; a repeated query has its original's and one more."""
    return [
        " ".join(f"word{word:04d}" for word in held[first]) + ("" if first == row else f" {ADDED_WORD}")
        for row, first in enumerate(original)
    ]


def visual_weight(config: PlantedConfig, held: Rows) -> Floats:
    """`[Q]` what the signal `visual` weighs in a query, of mean square 1: its words decide."""
    of_word = random_stream(config, "word_effect").standard_normal(config.shared_words)
    effect = config.word_effect * of_word[held].sum(axis=1) / np.sqrt(WORDS_A_QUERY)
    return np.asarray((1 + effect) / np.sqrt(1 + config.word_effect**2))
