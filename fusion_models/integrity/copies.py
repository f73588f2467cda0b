"""Held-out queries that are training queries in other words, with the same candidates.

A query is a copy where both its words and its candidates are those of a training query. The words alone prove nothing:
where lists are split by item, one query stands in both splits by right (`dog@train`, `dog@test`, with other items). Nor
do the candidates alone: a small catalogue has one list for many queries. A ranker knows the labels of a copy
beforehand.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusion_models.data import RankingDataset
from fusion_models.data.views.relabelled import normalised
from fusion_models.integrity.check import Check, check
from fusion_models.integrity.isolation import ISOLATED

SAME_CANDIDATES = 0.7
"""Jaccard index of two lists from which they are one."""
SAME_PLACE = 0.3
"""Squared distance of two lists' mean items, over what two independent draws of that spread would have: about the
share of the items that differ. Such lists are looked at item by item: they are one where `SAME_CANDIDATES` of the
items have a copy in the other list, under whatever id."""
SAME_ITEM = 0.02
"""Squared distance of two items' standardised features, over what two independent items have, up to which one is a
copy of the other."""
SAME_WORDS, SAME_LETTERS = 0.6, 0.6
"""Jaccard indices of words, and of runs of three letters, from which two texts say the same; a text whose words are all
in the other's does too."""
SAME_DIRECTION = 0.95
"""Cosine of centred query features from which two queries are alike."""
COMMON_LIST, FEW_LISTS = 0.02, 5
"""Where more than this share of the training queries (and more than so many) have one list, the list says nothing."""
FEWEST = 2
"""Candidates below which a list says nothing."""
PAIRS_AT_ONCE = 4_000_000

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def copies_check(data: RankingDataset, held_out: str, *, reported: bool = False) -> Check:
    """Share of the held-out queries that are no near-copy of a training query; at least 0.99 must not be.

    Labels are not read. `reported`: it cannot fail.
    """
    train, rows = data.rows("train"), data.rows(held_out)
    found = near_copies(data, train, rows)
    pairs = [f"{data.query_ids[row]} of {data.query_ids[known]}" for row, known in list(found.items())[:3]]
    said = f"{len(found)} of {len(rows)} queries: {', '.join(pairs)}" if found else f"{len(rows)} queries read"
    return check(
        f"isolation of {held_out}: near-copied queries",
        1.0 - len(found) / max(len(rows), 1),
        at_least=ISOLATED,
        reported=reported,
        detail=said,
    )


def near_copies(data: RankingDataset, train: Rows, rows: Rows) -> dict[int, int]:
    """Held-out query row -> the training query row that it is a copy of, by candidates and by the query together.

    Where a dataset has neither texts nor features of queries, candidates alone decide.
    """
    same: dict[int, set[int]] = {int(row): set() for row in rows}
    known, asked = _lists(data, train), _lists(data, rows)
    step = max(1, PAIRS_AT_ONCE // max(1, len(train)))
    for start in range(0, len(rows), step):
        for place, other in zip(*np.nonzero(_near(asked.part(slice(start, start + step)), known)), strict=True):
            row, copied = int(rows[start + place]), int(train[other])
            if _copied_items(data, row, copied) >= SAME_CANDIDATES:
                same[row].add(copied)
    for row, other in _shared_items(data, train, rows):
        same[row].add(other)
    alike, most = _Queries(data), max(FEW_LISTS, int(COMMON_LIST * len(train)))
    out = {}
    for row, others in same.items():
        found = [other for other in sorted(others) if alike(row, other)] if len(others) <= most else []
        if found:
            out[row] = found[0]
    return out


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
    means, spreads = [], []
    for row in rows:
        z = _items(data, row)
        means.append(z.mean(0))
        spreads.append(z.var(0, ddof=1).sum() / len(z) if len(z) >= FEWEST else 0.0)
    width = sum(data.schema.widths.values())
    return _Lists(np.array(means).reshape(-1, width), np.array(spreads))


def _items(data: RankingDataset, row: int) -> Floats:
    """`[L, D]` standardised features of a query's candidates."""
    items = np.asarray(data.judged_item[data.offset[row] : data.offset[row + 1]])
    parts = [
        (np.float64(data.item_features[m][items]) - data.statistics.mean[m]) / data.statistics.std[m]
        for m in data.schema.modalities
    ]
    return np.concatenate(parts, axis=1)


def _copied_items(data: RankingDataset, row: int, other: int) -> float:
    """Share of the longer list's items that have a copy in the other list."""
    left, right = _items(data, row), _items(data, other)
    squares = (left**2).sum(1)[:, None] + (right**2).sum(1) - 2 * left @ right.T
    limit = SAME_ITEM * (left.var(0, ddof=1).sum() + right.var(0, ddof=1).sum())
    found = squares <= limit
    return float(min(int(found.any(1).sum()), int(found.any(0).sum())) / max(found.shape))


def _near(asked: _Lists, known: _Lists) -> npt.NDArray[np.bool_]:
    """`[A, K]`: which lists hold the same items."""
    squares = (asked.mean**2).sum(1)[:, None] + (known.mean**2).sum(1) - 2 * asked.mean @ known.mean.T
    apart = asked.spread[:, None] + known.spread
    real = (asked.spread[:, None] > 0) & (known.spread > 0)
    return np.asarray(real & (squares <= SAME_PLACE * apart))


def _shared_items(data: RankingDataset, train: Rows, rows: Rows) -> list[tuple[int, int]]:
    """Held-out and training rows whose candidates are the same items by id, by and large."""
    holders: dict[int, list[int]] = {}
    for row in train:
        for item in data.judged_item[data.offset[row] : data.offset[row + 1]].tolist():
            holders.setdefault(item, []).append(int(row))
    out = []
    for row in rows:
        items = data.judged_item[data.offset[row] : data.offset[row + 1]].tolist()
        if len(items) < FEWEST:
            continue
        counts: dict[int, int] = {}
        for item in items:
            for other in holders.get(item, ()):
                counts[other] = counts.get(other, 0) + 1
        for other, shared in counts.items():
            if shared >= SAME_CANDIDATES * (len(items) + int(data.candidates[other]) - shared):
                out.append((int(row), other))
    return out


class _Queries:
    """Whether two queries say the same."""

    def __init__(self, data: RankingDataset) -> None:
        self._texts, features = data.query_text, data.query_features
        self._features = None if features is None else np.float64(features) - np.float64(features).mean(0)

    def __call__(self, row: int, other: int) -> bool:
        if self._texts is None and self._features is None:
            return True
        return self._same_text(row, other) or self._same_features(row, other)

    def _same_text(self, row: int, other: int) -> bool:
        if self._texts is None:
            return False
        left, right = (normalised(self._texts[r]) for r in (row, other))
        if not left or not right:
            return False
        words = set(left.split()), set(right.split())
        if words[0] <= words[1] or words[1] <= words[0]:
            return True
        return _jaccard(*words) >= SAME_WORDS or _jaccard(_trigrams(left), _trigrams(right)) >= SAME_LETTERS

    def _same_features(self, row: int, other: int) -> bool:
        if self._features is None:
            return False
        left, right = self._features[row], self._features[other]
        norms = np.linalg.norm(left) * np.linalg.norm(right)
        return bool(norms > 0 and left @ right >= SAME_DIRECTION * norms)


def _trigrams(text: str) -> set[str]:
    padded = f"  {text} "
    return {padded[i : i + 3] for i in range(len(padded) - 2)}


def _jaccard(left: AbstractSet[str], right: AbstractSet[str]) -> float:
    return len(left & right) / max(len(left | right), 1)
