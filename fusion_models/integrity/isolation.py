"""How much of a held-out split the training split has already, and whether a classifier tells the two apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fusion_models.data import RankingDataset
from fusion_models.data.splits import assign_splits
from fusion_models.data.views.alike import same_items
from fusion_models.data.views.relabelled import normalised, query_keys
from fusion_models.integrity.check import ISOLATED, Check, check, unmeasured
from fusion_models.integrity.copies import compared, recurring_pairs
from fusion_models.metrics import Interval, blank_pictures, near_duplicates, overlap, split_auc
from fusion_models.metrics.duplicates import Keys, digests
from fusion_models.metrics.integrity import Overlap
from fusion_models.modalities import PICTURED, TITLED

ISOLATED_TEXTS = 0.95
"""The same for items' texts, since short titles repeat by right."""
INDISTINGUISHABLE = 0.60
"""AUC of a classifier of training against held-out rows up to which the splits count as drawn alike."""
ROWS_AT_MOST = 1_500
ITEMS_COMPARED, ITEMS_AT_ONCE = 10_000, 16_384
"""Held-out items of which copies are looked for among all training items: of more, so many are drawn. Shares of 1 % are
then known to a tenth of that."""

Ints = npt.NDArray[np.int64]


def isolation_checks(data: RankingDataset, held_out: str, *, reported: bool = False) -> list[Check]:
    """How much of `held_out` the training split has already: queries, items, what each modality shows, judged pairs.

    A ranker must meet new queries or new items; a dataset may be split by either. So the side by which it is split
    must be isolated, the other one is reported, and a pair of both must never recur. Items that are near-duplicates of
    each other are one item; separate quantities (prices, counts) may be alike by right. `reported`: nothing can fail.
    """
    train, rows = data.rows("train"), data.rows(held_out)
    known_items, every = _items(data, train), _items(data, rows)
    items = np.sort(np.random.default_rng(0).permutation(every)[:ITEMS_COMPARED])
    contents = query_keys(data)
    queries = overlap(contents[train], contents[rows])
    shared = np.isin(items, known_items)
    copies = {
        m: shared | _copies(data, m, known_items, items)
        for m in data.schema.modalities
        if m not in data.schema.quantities
    }
    pictured, titled = data.schema.pictured, data.schema.titled
    if data.has_titles and titled in copies:
        silent = data.stands_in(titled)
        said_again = np.isin(_title_keys(data, items), _title_keys(data, known_items[~silent[known_items]]))
        copies[titled] |= said_again & ~silent[items]
    if data.schema.thumbnail is not None and pictured in copies:
        blank = data.stands_in(pictured)
        again = np.isin(_picture_keys(data, items), _picture_keys(data, known_items[~blank[known_items]]))
        copies[pictured] |= again & ~blank[items] & ~blank_pictures(data.thumbnails(items)).numpy()
    strictest = next(iter(copies.values()), shared) if pictured not in copies else copies[pictured]
    by_item = Overlap(int(strictest.sum()), len(items)).isolation >= queries.isolation
    side = "items" if by_item else "queries"
    called = {PICTURED: "pictures", TITLED: "texts"}
    said = f"the data are split by {side}" + ("" if reported else f"; {side} must be new")
    said += f"; {len(items):,} of {len(every):,} items compared" if len(items) < len(every) else ""
    pairs = _pairs(data, train, compared(rows), contents)
    parts = [
        ("queries", queries.isolation, ISOLATED, by_item),
        ("items", overlap(known_items, every).isolation, ISOLATED, not by_item),
        *(
            (
                f"{called.get(modality, modality)} (near-duplicates)",
                Overlap(int(found.sum()), len(items)).isolation,
                ISOLATED_TEXTS if modality == titled else ISOLATED,
                not by_item,
            )
            for modality, found in copies.items()
        ),
        ("judged pairs", pairs.isolation, ISOLATED, False),
    ]
    return [
        check(f"isolation of {held_out}: {name}", value, at_least=bar, reported=reported or free, detail=said)
        for name, value, bar, free in parts
    ]


def separability_checks(data: RankingDataset, held_out: str, generator: np.random.Generator) -> list[Check]:
    """Whether a classifier tells training from `held_out`: by the items, and by the queries' features.

    Splits that the hash of the query's id assigned are drawn alike, so a difference means that something else told
    them apart, and fails. Splits that the dataset brings may differ on purpose (by time, by author): there it is a
    warning, with the AUC of each modality alone, so that a person can tell a shift of the world from a broken pipeline.
    """
    brought = not np.array_equal(data.split, assign_splits(data.query_ids))
    train, rows = data.rows("train"), data.rows(held_out)
    sides = [np.sort(_sample(_items(data, r), generator)) for r in (train, rows)]
    columns = {m: [data.item_features[m][i] for i in sides] for m in data.schema.modalities}
    whole = [np.concatenate([columns[m][side] for m in columns], axis=1) for side in (0, 1)]
    out = [_auc(f"train against {held_out}: items", whole, sides, generator, brought, columns)]
    if data.query_features is not None:
        contents = query_keys(data)
        first, number = np.unique(contents, return_index=True, return_inverse=True)[1:]
        number = first[number]  # in the order of the table, not of the hashes
        picked = [np.sort(_sample(r, generator)) for r in (train, rows)]
        groups = [number[side] for side in picked]
        features = [data.query_features[r] for r in picked]
        out.append(_auc(f"train against {held_out}: queries", features, groups, generator, brought))
    return out


def _items(data: RankingDataset, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.unique(np.asarray(data.judged_item)[data.documents(rows)])


def _copies(
    data: RankingDataset, modality: str, known: npt.NDArray[np.int64], items: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Which of `items` are near-duplicates of a known one. What only stands in for a vector is nobody's copy."""
    features, absent = data.item_features[modality], data.stands_in(modality)
    mean = data.statistics.mean[modality]
    found = np.zeros(len(items), dtype=np.bool_)
    real, known = ~absent[items], known[~absent[known]]
    if real.any():
        asked = features[items[real]] - mean
        for start in range(0, len(known), ITEMS_AT_ONCE):
            block = features[known[start : start + ITEMS_AT_ONCE]] - mean
            found[real] |= near_duplicates(block, asked, std=data.statistics.std[modality])
    return found


def _title_keys(data: RankingDataset, items: Ints) -> Keys:
    return _keys(items, lambda some: (normalised(title).encode() for title in data.titles(some)))


def _picture_keys(data: RankingDataset, items: Ints) -> Keys:
    return _keys(items, lambda some: (picture.numpy().tobytes() for picture in data.thumbnails(some)))


def _keys(items: Ints, contents: Callable[[Ints], Iterable[bytes]]) -> Keys:
    """`[n]` numbers of what some items hold, read a block at a time."""
    blocks = (items[start : start + ITEMS_AT_ONCE] for start in range(0, len(items), ITEMS_AT_ONCE))
    return np.concatenate([np.zeros(0, dtype=np.uint64), *(digests(contents(block)) for block in blocks)])


def _pairs(data: RankingDataset, train: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], contents: Keys) -> Overlap:
    """Held-out pairs of query and item that training judges too, for the same query or for one that says the same."""
    first, query = same_items(data), np.unique(contents, return_inverse=True)[1]

    def of(rows: Ints) -> Ints:
        item = first[np.asarray(data.judged_item)[data.documents(rows)]]
        return np.asarray(np.repeat(query[rows], data.candidates[rows]) * len(first) + item)

    recurring = np.array(sorted(recurring_pairs(data, train, rows)), dtype=np.int64).reshape(-1, 2)
    again = query[recurring[:, 0]] * len(first) + recurring[:, 1]
    return overlap(np.concatenate([of(train), again]), of(rows))


def _sample(rows: npt.NDArray[np.int64], generator: np.random.Generator) -> npt.NDArray[np.int64]:
    return generator.permutation(rows)[:ROWS_AT_MOST]


def _auc(
    name: str,
    features: Sequence[npt.NDArray[np.float32]],
    groups: Sequence[npt.NDArray[np.int64]],
    generator: np.random.Generator,
    brought: bool,
    parts: Mapping[str, Sequence[npt.NDArray[np.float32]]] | None = None,
) -> Check:
    def measured(sides: Sequence[npt.NDArray[np.float32]]) -> Interval:
        left, right = groups
        return split_auc(sides[0], sides[1], generator=generator, train_groups=left, held_out_groups=right)

    said = "cross-validated AUC; 0.5: cannot be told apart"
    try:
        read = check(name, measured(features), at_most=INDISTINGUISHABLE, detail=said)
        if read.status == "pass":
            return read
        alone = {part: measured(sides).mean for part, sides in (parts or {}).items()}
    except ValueError as error:
        return unmeasured(name, "not measured", str(error))
    if alone:
        said += f" ({', '.join(f'{part} alone {value:.2f}' for part, value in alone.items())})"
    if not brought:
        return dataclasses.replace(read, detail=f"{said}; the splits were drawn by a hash and must be alike")
    shift = (
        "the dataset's own splits differ: make sure that it is the world's doing and not a pipeline's, and that the "
    )
    return dataclasses.replace(read, status="warning", detail=f"{said}; {shift}test queries stand for production's")
