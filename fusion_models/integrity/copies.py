"""Held-out queries that are training queries in other words, with the same candidates, or with some of them.

A query is a copy where both its words and its candidates are those of a training query. The words alone prove nothing:
where lists are split by item, one query stands in both splits by right (`dog@train`, `dog@test`, with other items). Nor
do the candidates alone: a small catalogue has one list for many queries. A ranker knows the labels of a copy
beforehand.

Items are compared by `same_items`: one under two ids is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from fusion_models.data import RankingDataset
from fusion_models.data.clusters import Held
from fusion_models.data.views.alike import same_items
from fusion_models.integrity.alike_queries import AlikeQueries
from fusion_models.integrity.check import ISOLATED, Check, check

SAME_CANDIDATES = 0.7
"""Jaccard index of two lists from which they are one; share of a held-out list's items in the list of a training query
that says the same from which it is a part of that list."""
SAME_PAIRS = 0.5
"""Such a share from which the pairs of a held-out query and its items recur, although under another query."""
SAME_PLACE = 0.3
"""Squared distance of two lists' mean items, over what two independent draws of that spread would have: about the
share of the items that differ. Such lists are looked at item by item: they are one where `SAME_CANDIDATES` of the
items have a copy in the other list, under whatever id."""
SAME_ITEM = 0.02
"""Squared distance of two items' standardised features, over what two independent items have, up to which one is a
copy of the other."""
COMMON_LIST, FEW_LISTS = 0.02, 5
"""Where more than this share of the training queries (and more than so many), alike ones apart, have one list, the list
says nothing."""
FEWEST = 2
"""Candidates below which a list says nothing."""
PAIRS_AT_ONCE, LISTS_AT_ONCE, TRAINING_AT_ONCE = 4_000_000, 256, 16_384
LISTS_COMPARED = 10_000
"""Held-out lists that are compared with every training list: of more, so many are drawn."""

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def copies_check(data: RankingDataset, held_out: str, *, reported: bool = False) -> Check:
    """Share of the held-out queries that are no near-copy of a training query; at least 0.99 must not be.

    Labels are not read. `reported`: it cannot fail.
    """
    train, every = data.rows("train"), data.rows(held_out)
    rows = compared(every)
    found = near_copies(data, train, rows)
    pairs = [f"{data.query_ids[row]} of {data.query_ids[known]}" for row, known in list(found.items())[:3]]
    said = f"{len(found)} of {len(rows)} queries: {', '.join(pairs)}" if found else f"{len(rows)} queries read"
    said += f" of {len(every):,}" if len(rows) < len(every) else ""
    return check(
        f"isolation of {held_out}: near-copied queries",
        1.0 - len(found) / max(len(rows), 1),
        at_least=ISOLATED,
        reported=reported,
        detail=said,
    )


def compared(rows: Rows) -> Rows:
    """Those of a split's queries that are compared with training: all of them, or `LISTS_COMPARED`, drawn."""
    return np.sort(np.random.default_rng(0).permutation(rows)[:LISTS_COMPARED])


def near_copies(data: RankingDataset, train: Rows, rows: Rows) -> dict[int, int]:
    """Held-out query row -> the training query row that it is a copy of, by candidates and by the query together.

    Where a pair of queries has neither texts nor features, candidates alone decide.
    """
    near: dict[int, dict[int, Likeness]] = {}
    asked = _lists(data, rows)
    for first in range(0, len(train), TRAINING_AT_ONCE):
        some = train[first : first + TRAINING_AT_ONCE]
        known, step = _lists(data, some), max(1, PAIRS_AT_ONCE // len(some))
        for start in range(0, len(rows), step):
            for place, other in zip(*np.nonzero(_near(asked.part(slice(start, start + step)), known)), strict=True):
                row, copied = int(rows[start + place]), int(some[other])
                near.setdefault(row, {})[copied] = _copied_items(data, row, copied)
    alike, most = AlikeQueries(data), max(FEW_LISTS, int(COMMON_LIST * len(train)))
    out: dict[int, int] = {}
    for row, shared in _shared_items(data, train, rows):
        found = dict(shared)
        for other, likeness in near.get(row, {}).items():
            by_id = found.get(other, likeness)
            found[other] = Likeness(max(by_id.part, likeness.part), max(by_id.one, likeness.one))
        one = _holders(row, {o for o, likeness in found.items() if likeness.one >= SAME_CANDIDATES}, alike, most)
        parts = _holders(row, {o for o, likeness in found.items() if likeness.part >= SAME_CANDIDATES}, alike, most)
        sources = {o for o, answer in one.items() if answer is not False} | {o for o, answer in parts.items() if answer}
        if sources:
            out[row] = min(sources)
    return out


def recurring_pairs(data: RankingDataset, train: Rows, rows: Rows) -> set[tuple[int, int]]:
    """Pairs of held-out query row and item (by `same_items`) that a training query judges which says the same.

    Only where that query judges half of the held-out list: an item that is found by a word of both is no secret.
    """
    first, alike, most = same_items(data), AlikeQueries(data), max(FEW_LISTS, int(COMMON_LIST * len(train)))
    out: set[tuple[int, int]] = set()
    for row, shared in _shared_items(data, train, rows):
        holders = {other for other, likeness in shared.items() if likeness.part >= SAME_PAIRS}
        mine = _of(first, data, row)
        for other, answer in _holders(row, holders, alike, most).items():
            if answer:
                out.update((row, int(item)) for item in np.intersect1d(mine, _of(first, data, other)))
    return out


class Likeness(NamedTuple):
    """Of a held-out list and a training list."""

    part: float
    """Share of the held-out list's items that the other one has."""
    one: float
    """Share of all items of both that both have (of the longer list's, where copies are counted)."""


def _holders(row: int, others: AbstractSet[int], alike: AlikeQueries, most: int) -> dict[int, bool | None]:
    """Of each query with the list of `row` whether it says the same; none at all where too many others have it."""
    answers: dict[int, bool | None] = {}
    strangers = 0
    for other in sorted(others):
        answers[other] = alike(row, other)
        strangers += answers[other] is not True
        if strangers > most:
            return {}
    return answers


def _of(first: Rows, data: RankingDataset, row: int) -> Rows:
    return np.unique(first[data.judged_item[data.offset[row] : data.offset[row + 1]]])


@dataclass(frozen=True)
class _Lists:
    """Q lists: the mean of their items' standardised features, and the squared deviation that this mean would have."""

    mean: Floats
    """`[Q, D]`."""
    spread: Floats
    """`[Q]`: items' variance about the mean, summed over features, over the number of items; 0 for too few items."""

    def part(self, block: slice) -> _Lists:
        return _Lists(self.mean[block], self.spread[block])


def _lists(data: RankingDataset, rows: Rows) -> _Lists:
    mean, spread = np.zeros((len(rows), sum(data.schema.widths.values()))), np.zeros(len(rows))
    for place, row in enumerate(rows):
        z = _items(data, row)
        mean[place] = z.mean(0)
        spread[place] = z.var(0, ddof=1).sum() / len(z) if len(z) >= FEWEST else 0.0
    return _Lists(mean, spread)


def _items(data: RankingDataset, row: int) -> Floats:
    """`[L, D]` standardised features of a query's candidates."""
    items = np.asarray(data.judged_item[data.offset[row] : data.offset[row + 1]])
    parts = [
        (np.float64(data.item_features[m][items]) - data.statistics.mean[m]) / data.statistics.std[m]
        for m in data.schema.modalities
    ]
    return np.concatenate(parts, axis=1)


def _copied_items(data: RankingDataset, row: int, other: int) -> Likeness:
    """How many items of two lists are copies of one another's, by their features."""
    left, right = _items(data, row), _items(data, other)
    squares = (left**2).sum(1)[:, None] + (right**2).sum(1) - 2 * left @ right.T
    limit = SAME_ITEM * (left.var(0, ddof=1).sum() + right.var(0, ddof=1).sum())
    found = squares <= limit
    mine, its = int(found.any(1).sum()), int(found.any(0).sum())
    return Likeness(mine / len(left), min(mine, its) / max(found.shape))


def _near(asked: _Lists, known: _Lists) -> npt.NDArray[np.bool_]:
    """`[A, K]`: which lists hold the same items."""
    squares = (asked.mean**2).sum(1)[:, None] + (known.mean**2).sum(1) - 2 * asked.mean @ known.mean.T
    apart = asked.spread[:, None] + known.spread
    real = (asked.spread[:, None] > 0) & (known.spread > 0)
    return np.asarray(real & (squares <= SAME_PLACE * apart))


def _shared_items(data: RankingDataset, train: Rows, rows: Rows) -> Iterator[tuple[int, dict[int, Likeness]]]:
    """Of each held-out row the training rows that have half of its items, and how alike their lists are."""
    first = same_items(data)
    known, asked = _judged(first, data, train), _judged(first, data, rows)
    lengths, mine = known.sum(axis=1), asked.sum(axis=1)
    for start in range(0, len(rows), LISTS_AT_ONCE):
        block = (asked[start : start + LISTS_AT_ONCE] @ known.T).tocsr()
        for place in range(block.shape[0]):
            row, total = int(rows[start + place]), int(mine[start + place])
            at = slice(block.indptr[place], block.indptr[place + 1])
            other, shared = block.indices[at], block.data[at]
            kept = (shared >= SAME_PAIRS * total) & (total >= FEWEST)
            other, shared = other[kept], shared[kept]
            one = shared / (total + lengths[other] - shared)
            yield (
                row,
                dict(
                    zip(
                        train[other].tolist(),
                        map(Likeness, (shared / max(total, 1)).tolist(), one.tolist()),
                        strict=True,
                    )
                ),
            )


def _judged(first: Rows, data: RankingDataset, rows: Rows) -> Any:
    """`[Q, items]` sparse: 1 where a list has an item."""
    held = Held.of_pairs(
        np.repeat(np.arange(len(rows)), data.candidates[rows]),
        first[np.asarray(data.judged_item)[data.documents(rows)]],
        len(rows),
    )
    return csr_array(
        (np.ones(len(held.things), dtype=np.int64), held.things, held.starts), shape=(len(rows), len(first))
    )
