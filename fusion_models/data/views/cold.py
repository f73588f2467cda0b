"""Cold items: items that every deciding training leaves out, chosen by a stable hash, where test items are not new.

Where items recur in training and test, a ranker may use the image (or whatever the suspect is) only to recognise an
item whose worth it has learnt by heart. That does not help on items that no training has seen, so the gain must show
there too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.data.dataset import RankingDataset
from fusion_models.data.splits import hash_fraction
from fusion_models.data.views.alike import alike_items
from fusion_models.data.views.lists import take_lists
from fusion_models.modalities import SUSPECT

COLD_SHARE = 0.2
ISOLATED = 0.99
"""Share of new items among a held-out split's from which there are no cold lists to be made."""
SHORTEST = 4
"""Candidates of a cold list at the least, with two different labels among them."""
SALT = "cold item/"

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ColdLists:
    """The cold candidates of some of a split's queries, as places in `[Q, L]` arrays of that split (rows ascending)."""

    kept: npt.NDArray[np.int64]
    """`[C]`: which of the split's Q queries have a cold list, ascending."""
    position: Tensor
    """`[C, K]` int64: places of the cold candidates in the query's list; 0 where padded."""
    valid: Tensor
    """`[C, K]` bool: a real document."""
    queries: int
    """Q."""

    def take(self, values: Tensor) -> Tensor:
        """`[..., Q, L]` -> `[..., C, K]`: scores, labels or V1's scores of the cold lists; 0 where padded.

        Raises ValueError for values of another number of queries.
        """
        if values.shape[-2] != self.queries:
            raise ValueError(f"cold lists of {self.queries} queries were given values of shape {tuple(values.shape)}")
        mine = values[..., torch.from_numpy(self.kept), :]
        index = self.position.expand(*mine.shape[:-1], self.position.shape[1])
        return mine.gather(-1, index) * self.valid


def cold_items(data: RankingDataset, share: float = COLD_SHARE, suspect: str = SUSPECT) -> Mask:
    """`[items]`: whether an item is cold. Its id alone decides; items alike in the suspect go by the first id.

    Raises ValueError for a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of cold items must lie between 0 and 1, got {share}")
    ids = data.item_ids
    return np.array(
        [hash_fraction(str(ids[first]), salt=SALT) < share for first in alike_items(data, suspect)], dtype=np.bool_
    )


def item_isolation(data: RankingDataset, split: str, suspect: str = SUSPECT) -> float:
    """Share of the items judged in `split`, alike ones counted once, that no training query judges."""
    alike = alike_items(data, suspect)
    known, found = (np.unique(alike[_judged(data, rows)]) for rows in (data.rows("train"), data.rows(split)))
    return 1.0 - float(np.isin(found, known).mean()) if len(found) else 1.0


def needs_cold_lists(data: RankingDataset, split: str, suspect: str = SUSPECT) -> bool:
    """Whether the items of `split` are so little new that a gain must show on cold lists too."""
    return item_isolation(data, split, suspect) < ISOLATED


def cold_lists(data: RankingDataset, split: str, cold: Mask | None = None) -> ColdLists:
    """Of each query of `split` its candidates among the cold items, where there are enough to rank.

    A query is left out with fewer than four, or where all of them have one label. `cold`: `[items]`, by default
    `cold_items(data)`.
    """
    cold = cold_items(data) if cold is None else cold
    rows = data.rows(split)
    kept, places = [], []
    for number, row in enumerate(rows):
        judged = slice(int(data.offset[row]), int(data.offset[row + 1]))
        place = np.flatnonzero(cold[data.judged_item[judged]])
        if len(place) >= SHORTEST and len(np.unique(data.labels[judged][place])) > 1:
            kept.append(number)
            places.append(place)
    longest = max((len(place) for place in places), default=0)
    position, valid = np.zeros((len(kept), longest), dtype=np.int64), np.zeros((len(kept), longest), dtype=np.bool_)
    for number, place in enumerate(places):
        position[number, : len(place)], valid[number, : len(place)] = place, True
    return ColdLists(
        kept=np.array(kept, dtype=np.int64),
        position=torch.from_numpy(position),
        valid=torch.from_numpy(valid),
        queries=len(rows),
    )


class WithoutColdDataset(RankingDataset):
    """The same data; lists of the training split lack the cold items. Reads like any dataset."""

    def __init__(self, base: RankingDataset, share: float, suspect: str) -> None:
        """See `without_cold`."""
        super().__init__(base.folder, source=base.source, location=base.location, fingerprint=base.fingerprint)
        take_lists(self, base)
        query = np.repeat(np.arange(len(base.candidates)), base.candidates)
        training = np.asarray(base.split)[query] == base.splits.index("train")
        kept = np.flatnonzero(~(training & cold_items(base, share, suspect)[base.judged_item]))
        self.judged_item = base.judged_item[kept]
        self.labels, self.v1 = base.labels[kept], base.v1[kept]
        self.candidates = np.bincount(query[kept], minlength=len(base.candidates))
        self.offset = np.concatenate([[0], np.cumsum(self.candidates)]).astype(np.int64)
        if base.v1_input is not None:
            self.v1_input = base.v1_input[kept]
        if base.pair_features is not None:
            self._pair_features = base.pair_features[kept]
        self._made_of = (base, share, suspect)

    @property
    def identity(self) -> str:
        """See `RankingDataset.identity`: other lists, other trees."""
        base, share, suspect = self._made_of
        by = "" if suspect == SUSPECT else f" by their {suspect}"
        return f"{base.identity} without {share:g} of the items{by}"

    def halved(self) -> RankingDataset:
        """See `RankingDataset.halved`; the training lists stay without the cold items."""
        base, share, suspect = self._made_of
        return WithoutColdDataset(base.halved(), share, suspect)

    def __reduce__(self) -> tuple[Any, ...]:
        return WithoutColdDataset, self._made_of


def without_cold(data: RankingDataset, share: float = COLD_SHARE, suspect: str = SUSPECT) -> RankingDataset:
    """`data` with the cold items taken out of the training lists; validation and test lists stay whole.

    Features of items are not copied, those of pairs are. A training query whose candidates are all cold has none left,
    and `rows` leaves it out. Training statistics (means, deviations) stay those of the whole training split.
    Raises ValueError for a share outside (0, 1), or where no training query keeps a candidate.
    """
    found = WithoutColdDataset(data, share, suspect)
    if len(found.rows("train")) == 0:
        raise ValueError(f"{data.source}: every training candidate is a cold item; a smaller share leaves some")
    return found


def _judged(data: RankingDataset, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.unique(np.asarray(data.judged_item)[data.documents(rows)])
