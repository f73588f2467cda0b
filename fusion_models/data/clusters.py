"""Clusters of a split's queries, for every interval: queries that share a word, or else a relevant item."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from fusion_models.data.dataset import RankingDataset

Clusters = npt.NDArray[np.int64]

COMMON = 0.1
"""A word that more than this share of the queries hold ("for", "the") says nothing of what they have in common."""
FEW = 10
"""And one that fewer hold is never common, however small the split."""


def query_clusters(data: RankingDataset, split: str) -> Clusters | None:
    """`[Q]`: a number a query of the split (rows ascending); queries of one number are resampled together.

    Queries that share words or items are no independent draws. Each goes to the most frequent of its words that is
    not common to all; without texts, to the most frequent of its relevant items. None where nobody shares anything.
    """
    rows = np.sort(data.rows(split))
    texts = data.query_text
    if texts is not None:
        held: list[Sequence[Hashable]] = [str(texts[row] or "").lower().split() for row in rows]
        most = max(FEW, int(COMMON * len(rows)))
    else:
        held, most = [relevant_items(data, row) for row in rows], len(rows)
    clusters = shared_clusters(held, most=most)
    return clusters if len(np.unique(clusters)) < len(clusters) else None


def shared_clusters(held: Sequence[Sequence[Hashable]], *, most: int) -> Clusters:
    """`[Q]` numbers: each query to the most frequent thing it holds, ties by the thing's text.

    Things that more than `most` queries hold count only where a query holds nothing else; one that holds nothing
    stands alone.
    """
    counts: dict[Hashable, int] = {}
    for thing in (thing for query in held for thing in set(query)):
        counts[thing] = counts.get(thing, 0) + 1

    def chosen(things: Iterable[Hashable], alone: int) -> tuple[str, str]:
        telling = [thing for thing in things if counts[thing] <= most] or list(things)
        best = max(telling, key=lambda thing: (counts[thing], str(thing)), default=None)
        return ("alone", str(alone)) if best is None else ("shared", str(best))

    names = [chosen(things, index) for index, things in enumerate(held)]
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def relevant_items(data: RankingDataset, row: int) -> list[int]:
    """Item rows of a query's documents with a label above 0."""
    judged = slice(int(data.offset[row]), int(data.offset[row + 1]))
    found: list[int] = data.judged_item[judged][data.labels[judged] > 0].tolist()
    return found
