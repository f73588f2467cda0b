"""All the ways in which queries of a split stand together: by every telling word, and by every relevant item."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from fusion_models.data.clusters import COMMON, FEW, relevant_items
from fusion_models.data.dataset import RankingDataset

Numbers = npt.NDArray[np.int64]


def crossed_clusters(data: RankingDataset, split: str) -> Numbers | None:
    """`[Q, W]`: the words and relevant items of each query (rows ascending), numbered apart; -1 fills up.

    Two queries stand together where they have a number in common (`fusion_models.metrics.query_interval` reads it so).
    A query of two words stands with those of either, which one number a query cannot say. Words that more than COMMON
    of the queries hold tell nothing, and what one query alone holds joins nobody: both are left out. None where no two
    queries share anything.
    """
    rows = np.sort(data.rows(split))
    texts = data.query_text
    words = [sorted(set(str(texts[row] or "").lower().split())) for row in rows] if texts is not None else []
    items = [relevant_items(data, int(row)) for row in rows]
    ways = [shared_numbers(words, most=max(FEW, int(COMMON * len(rows))))] if words else []
    ways.append(shared_numbers(items, most=len(rows)))
    start, columns = 0, []
    for way in ways:
        columns.append(np.where(way >= 0, way + start, -1))
        start += int(way.max(initial=-1)) + 1
    found = np.concatenate(columns, axis=1)
    return found if found.shape[1] > 0 else None


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
