"""Cross-fitting folds of the training split: which judgements are held out together.

Trees that score a held-out judgement know as little of its query and its item as they will know of new lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusion_models.data.clusters import query_clusters
from fusion_models.data.dataset import RankingDataset
from fusion_models.data.views.alike import alike_items
from fusion_models.modalities import usual_suspect

QUERY_FOLDS = 5
"""Where queries alone are held out."""
SIDE_FOLDS = 3
"""Folds of the queries, and as many of the items, where both are held out: nine fits. Each fit sees four ninths of the
judgements, so the nine cost as much as five fits on 80 %."""
MOSTLY_NEW = 0.5
"""Share of the validation documents whose item training has not, from which new lists count as lists of new items."""

ACCIDENTS = 0.01
"""Share of the training documents that may show an earlier one's picture under another id before items count as
recurring."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Folds:
    """A fold of every training query, and of every item."""

    rows: Ints
    """`[Q]`: the training queries, ascending."""
    query: Ints
    """`[Q]`: their folds."""
    item: Ints | None
    """`[items]`: the items' folds; None where items are not held out."""

    def __iter__(self) -> Iterator[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_] | None]]:
        """Of each pair of folds: the queries held out `[Q]`, and the items held out `[items]` (None: all are)."""
        for fold in np.unique(self.query):
            if self.item is None:
                yield self.query == fold, None
            else:
                for part in np.unique(self.item):
                    yield self.query == fold, self.item == part


def training_folds(data: RankingDataset) -> Folds:
    """Folds of the training split; queries that share words or items stand in one (`query_clusters`).

    Where training items recur from list to list while validation's are new, an item's label in one list would give away
    its label in another. New lists have no such help, so there items are held out too, and a list is scored in parts.
    Items of one picture (of the usual suspect's features, see `alike_items`) are one item. Needs two queries at least.
    """
    rows = np.sort(data.rows("train"))
    alike = alike_items(data, usual_suspect(data.schema.modalities))
    by_item = _items_recur(data, rows, alike) and _validation_items_are_new(data, rows, alike)
    count = SIDE_FOLDS if by_item else QUERY_FOLDS
    item = (np.random.default_rng(0).permutation(data.counts["items"]) % count)[alike] if by_item else None
    return Folds(rows=rows, query=_query_folds(data, rows, count), item=item)


def _query_folds(data: RankingDataset, rows: Ints, count: int) -> Ints:
    """The largest groups are dealt out first, each to the fold with the fewest documents.

    Where all queries share something they are dealt out one by one: there is no other way to hold one out.
    """
    groups = query_clusters(data, "train")
    if groups is None or len(np.unique(groups)) < 2:
        groups = np.arange(len(rows))
    names, place = np.unique(groups, return_inverse=True)
    documents = np.bincount(place, weights=data.candidates[rows])
    held = np.zeros(min(count, len(names)))
    fold = np.zeros(len(names), dtype=np.int64)
    for group in np.argsort(-documents, kind="stable"):
        fold[group] = held.argmin()
        held[fold[group]] += documents[group]
    chosen: Ints = fold[place]
    return chosen


def _items_recur(data: RankingDataset, rows: Ints, alike: Ints) -> bool:
    """By id once is enough; a few pictures under two ids are an accident."""
    judged = judged_items(data, rows)
    pictures = alike[judged]
    recurs = len(np.unique(judged)) < len(judged)
    return recurs or len(np.unique(pictures)) < (1.0 - ACCIDENTS) * len(pictures)


def _validation_items_are_new(data: RankingDataset, rows: Ints, alike: Ints) -> bool:
    """Halves of validation count together, so that a halved dataset has the folds of the whole one."""
    other = np.concatenate([data.rows(split) for split in data.splits if split not in ("train", "test")])
    return bool(np.mean(~np.isin(alike[judged_items(data, other)], alike[judged_items(data, rows)])) >= MOSTLY_NEW)


def judged_items(data: RankingDataset, rows: Ints) -> Ints:
    """Which items the lists of the query rows `rows` `[Q]` hold, one list after another: `[documents]`."""
    found: Ints = np.asarray(data.judged_item)[data.documents(rows)]
    return found
