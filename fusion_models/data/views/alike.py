"""Which items are one: the same picture, or all the same features, under several ids or encoded anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fusion_models.data.arrays.cache import build_once
from fusion_models.data.dataset import RankingDataset
from fusion_models.data.errors import DataError
from fusion_models.data.views.near_groups import COMPARED, near_groups
from fusion_models.metrics.duplicates import NARROW, digests, rounded
from fusion_models.modalities import SUSPECT

COMMON_PICTURE, FEW_ALIKE = 0.001, 30
"""A picture of more than this share of the items, and of more than so many, is a blank one."""
ITEMS_AT_ONCE = 4_096
KEPT = COMPARED
"""Items up to which the answer is made anew each time, in a moment; above, it is kept beside the arrays."""
FORMAT = 1
"""Of what is kept: another rule has another number."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def alike_items(data: RankingDataset, suspect: str = SUSPECT) -> Ints:
    """`[items]`: for each item the row of the one with the first id, in text order, among those of the same picture
    (near-duplicates in the suspect).

    Near: a cosine of centred features of at least 0.999, or equal up to rounding; groups are chains of such pairs. Of
    separate quantities and of fewer than `NARROW` columns only equal ones are alike. An item that stands in the table
    under two ids (`i1@train`, `i1@test`), or whose picture was encoded again, is one. A picture that many items have
    stands for none (a blank one), and so does what only stands in for a vector: those are alike where all of their
    modalities are (`same_items`).
    """
    return _kept(data, f"alike-{suspect}", partial(_alike, data, suspect))


def same_items(data: RankingDataset) -> Ints:
    """`[items]`: as `alike_items`, of items that are near-duplicates in every modality; quantities too, in deviations.

    Groups of more items than a picture may have are those that are equal in all features.
    """
    return _kept(data, "same", partial(_same, data))


def _alike(data: RankingDataset, suspect: str) -> Ints:
    blank = data.stands_in(suspect)
    groups = np.full(len(blank), -1, dtype=np.int64)
    for place, level in enumerate(_levels(data, suspect, near=suspect not in data.schema.quantities)):
        fits = (groups < 0) & ~blank & (_size(level) <= _most(data))
        groups[fits] = place * len(blank) + level[fits]
    rest = groups < 0
    if rest.any():
        groups[rest] = 2 * len(blank) + same_items(data)[rest]
    return _by_first_id(data, groups)


def _same(data: RankingDataset) -> Ints:
    levels = [_levels(data, m, near=True) for m in data.schema.modalities]
    near, equal = (_joint([level[place] for level in levels]) for place in (0, 1))
    return _by_first_id(data, np.where(_size(near) <= _most(data), near, data.counts["items"] + equal))


def _levels(data: RankingDataset, modality: str, *, near: bool) -> tuple[Ints, Ints]:
    """`[items]` numbers of the groups that are near in a modality, and of those that are equal there up to rounding.

    The near ones may be chains through many items, and then say nothing.
    """
    equal, first = _equal(data, modality)
    if not near or data.schema.width(modality) < NARROW:
        return equal, equal
    return near_groups(lambda rows: _centred(data, modality, first[rows]), len(first))[equal], equal


def _joint(groups: Sequence[Ints]) -> Ints:
    """`[items]`: numbers of the groups whose items are together in all groupings."""
    return np.unique(np.stack(groups, axis=1), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _most(data: RankingDataset) -> int:
    return max(FEW_ALIKE, int(COMMON_PICTURE * data.counts["items"]))


def _size(groups: Ints) -> Ints:
    """`[items]`: how many items each one's group has."""
    _, place, count = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(count[place])


def _by_first_id(data: RankingDataset, groups: Ints) -> Ints:
    _, group = np.unique(groups, return_inverse=True)
    by_id = np.argsort(data.item_ids, kind="stable")
    first = np.zeros(group.max() + 1, dtype=np.int64)
    first[group[by_id[::-1]]] = by_id[::-1]
    return np.asarray(first[group])


def _centred(data: RankingDataset, modality: str, rows: Ints) -> Floats:
    """`[n, D]`: less the training mean; quantities in training deviations, since each has a scale of its own."""
    centred = np.float64(data.item_features[modality][rows]) - np.float64(data.statistics.mean[modality])
    return np.asarray(centred / data.statistics.std[modality] if modality in data.schema.quantities else centred)


def _equal(data: RankingDataset, modality: str) -> tuple[Ints, Ints]:
    """`[items]` numbers of the groups that are equal up to rounding, and the first item of each group."""
    keys = np.empty(data.counts["items"], dtype=np.uint64)
    for start in range(0, len(keys), ITEMS_AT_ONCE):
        block = slice(start, start + ITEMS_AT_ONCE)
        rows = rounded(data.item_features[modality][block], data.statistics.std[modality])
        keys[block] = digests(row.tobytes() for row in rows)
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    return group.astype(np.int64), first.astype(np.int64)


def _kept(data: RankingDataset, name: str, make: Callable[[], Ints]) -> Ints:
    """What `make` makes, once a node where there are many items; where nothing can be kept, every time."""
    if data.counts["items"] <= KEPT:
        return make()

    def build(out: Path) -> None:
        np.save(out / "first.npy", make())

    try:
        folder = build_once(data.folder.with_name(f"{data.folder.name}-{name}-{FORMAT}"), build)
    except DataError:  # a full disk, or one that may only be read
        return make()
    found: Ints = np.load(folder / "first.npy")
    return found
