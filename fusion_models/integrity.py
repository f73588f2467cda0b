"""Whether a result may be believed: isolation of the splits, features that leak, rankers trained on broken labels.

Every check gives one line of one table. What fails and what is only reported: docs/decisions (integrity checks).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from fusion_models.config import MODALITIES
from fusion_models.data import RankingDataset
from fusion_models.data.splits import assign_splits
from fusion_models.data.views.relabelled import normalised, query_content
from fusion_models.metrics import Interval, near_duplicates, overlap, split_auc, suspicious_features
from fusion_models.metrics.integrity import Overlap

CheckStatus = Literal["pass", "fail", "undecided", "warning", "reported", "not applicable", "not measured"]
"""`warning`: no leak, but a risk of the release that people must weigh; no verdict is kept back by it."""

ISOLATED = 0.99
"""1 - overlap from which a side (queries, or items) counts as unseen: 1 % of copies moves nDCG by a quarter of that."""
ISOLATED_TEXTS = 0.95
"""The same for items' texts, since short titles repeat by right."""
INDISTINGUISHABLE = 0.60
"""AUC of a classifier of training against held-out rows up to which the splits count as drawn alike."""
TELLING_LEVEL = 0.99
"""Level of the intervals around chance: a clean run is called broken once in 200."""
MOST_ABOVE_CHANCE = 0.05
"""nDCG above chance that broken labels must be shown not to reach."""
ROWS_AT_MOST = 1_500
FIRST_QUERIES, LEAK_QUERIES = 40, 400


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of integrity.csv."""

    name: str
    value: float
    ci_low: float
    ci_high: float
    threshold: float
    direction: Literal["at least", "at most"]
    status: CheckStatus
    detail: str = ""

    @property
    def counts(self) -> bool:
        """Whether a verdict reads it."""
        return self.status not in ("warning", "reported", "not applicable")


def check(
    name: str,
    value: Interval | float,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    reported: bool = False,
    detail: str = "",
) -> Check:
    """A check that passes where the whole interval (or the exact value) lies on the right side."""
    found = value if isinstance(value, Interval) else Interval(value, value, value)
    if at_least is not None:
        threshold, direction, low, high = at_least, "at least", found.low >= at_least, found.high < at_least
    else:
        assert at_most is not None
        threshold, direction, low, high = at_most, "at most", found.high <= at_most, found.low > at_most
    status: CheckStatus = "reported" if reported else "pass" if low else "fail" if high else "undecided"
    return Check(
        name=name,
        value=found.mean,
        ci_low=found.low,
        ci_high=found.high,
        threshold=threshold,
        direction=direction,  # type: ignore[arg-type]
        status=status,
        detail=detail,
    )


def unmeasured(name: str, status: CheckStatus, detail: str) -> Check:
    """A check without a value, and why."""
    return Check(
        name=name, value=nan, ci_low=nan, ci_high=nan, threshold=nan, direction="at most", status=status, detail=detail
    )


def isolation_checks(data: RankingDataset, held_out: str, *, reported: bool = False) -> list[Check]:
    """How much of `held_out` the training split has already: queries, items, pictures, texts, judged pairs.

    A ranker must meet new queries or new items; a dataset may be split by either. So the side by which it is split
    must be isolated, the other one is reported, and a pair of both must never recur. Items that are near-duplicates of
    each other are one item. `reported`: nothing of it can fail.
    """
    train, rows = data.rows("train"), data.rows(held_out)
    known_items, items = _items(data, train), _items(data, rows)
    contents = query_content(data)
    queries = overlap((contents[r] for r in train), (contents[r] for r in rows))
    shared = np.isin(items, known_items)
    pictures, texts = (shared | _copies(data, modality, known_items, items) for modality in ("visual", "text"))
    if data.has_titles:
        titles = {normalised(t) for t in data.titles(known_items)}
        texts = texts | np.array([normalised(t) in titles for t in data.titles(items)], dtype=np.bool_)
    if data.schema.thumbnail is not None:
        seen = {picture.numpy().tobytes() for picture in data.thumbnails(known_items)}
        again = [picture.numpy().tobytes() in seen for picture in data.thumbnails(items)]
        pictures = pictures | np.array(again, dtype=np.bool_)
    by_item = Overlap(int(pictures.sum()), len(items)).isolation >= queries.isolation
    side = "items" if by_item else "queries"
    said = f"the data are split by {side}" + ("" if reported else f"; {side} must be new")
    pairs = _pairs(data, train, rows, contents)
    parts = [
        ("queries", queries.isolation, ISOLATED, by_item),
        ("items", Overlap(int(shared.sum()), len(items)).isolation, ISOLATED, not by_item),
        ("pictures (near-duplicates)", Overlap(int(pictures.sum()), len(items)).isolation, ISOLATED, not by_item),
        ("texts (near-duplicates)", Overlap(int(texts.sum()), len(items)).isolation, ISOLATED_TEXTS, not by_item),
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
    columns = {m: [data.item_features[m][i] for i in sides] for m in MODALITIES}
    whole = [np.concatenate([columns[m][side] for m in MODALITIES], axis=1) for side in (0, 1)]
    out = [_auc(f"train against {held_out}: items", whole, sides, generator, brought, columns)]
    if data.query_features is not None:
        contents = query_content(data)
        number = {content: index for index, content in enumerate(dict.fromkeys(contents))}
        picked = [np.sort(_sample(r, generator)) for r in (train, rows)]
        groups = [np.array([number[contents[r]] for r in side], dtype=np.int64) for side in picked]
        features = [data.query_features[r] for r in picked]
        out.append(_auc(f"train against {held_out}: queries", features, groups, generator, brought))
    return out


def leak_check(data: RankingDataset, generator: np.random.Generator) -> Check:
    """Features of training candidates that are V1's score or the label, or order as they do, by name."""
    rows = generator.permutation(data.rows("train"))[:LEAK_QUERIES]
    name = "features equal to V1's score or the label"
    batch = data.gather(np.sort(rows))
    few = data.gather(np.sort(rows[:FIRST_QUERIES]))
    found = []
    for part in (*MODALITIES, "context"):
        whole, first = (b.context if part == "context" else b.features[part] for b in (batch, few))
        # a first glance at few queries leaves the few columns that deserve a long look
        doubtful = sorted({s.feature for s in suspicious_features(first, few.labels, few.v1, few.valid, share=0.8)})
        if not doubtful:
            continue
        for s in suspicious_features(whole[..., doubtful], batch.labels, batch.v1, batch.valid):
            target = "V1's score" if s.target == "v1" else "the label"
            how = "equals" if s.kind == "equal" else "orders as"
            found.append(f"{part}[{doubtful[s.feature]}] {how} {target}")
    return check(name, float(len(found)), at_most=0.0, detail="; ".join(found) or f"{len(rows)} training queries read")


def chance_check(name: str, ndcg: Sequence[npt.ArrayLike], chance: Sequence[npt.ArrayLike]) -> Check:
    """Rankers trained on broken labels: their nDCG on held-out queries less what chance earns there.

    `ndcg`, `chance`: `[Q]` a training, on its own labels; NaN where a query has no relevant item. Fails where the
    whole interval lies above 0, passes where it reaches 0 and stays below `MOST_ABOVE_CHANCE`; where it is wider,
    more queries are needed to tell.
    """
    gains = [np.asarray(n, dtype=np.float64) - np.asarray(c) for n, c in zip(ndcg, chance, strict=True)]
    values = np.concatenate(gains) if gains else np.zeros(0)
    values = values[np.isfinite(values)]
    if len(gains) < 2 or len(values) < 4:
        return unmeasured(name, "not measured", f"{len(gains)} trainings, {len(values)} lists: two and four are needed")
    # each training drew labels of its own, so its lists are as good as new ones
    limits = stats.ttest_1samp(values, 0.0).confidence_interval(TELLING_LEVEL)
    found = Interval(float(values.mean()), float(limits.low), float(limits.high), TELLING_LEVEL)
    read = check(name, found, at_most=MOST_ABOVE_CHANCE)
    status: CheckStatus = "fail" if found.low > 0.0 else "pass" if found.high <= MOST_ABOVE_CHANCE else "undecided"
    said = f"nDCG above chance, {len(gains)} trainings, {len(values)} held-back lists, CI99"
    return dataclasses.replace(read, status=status, detail=said)


def _items(data: RankingDataset, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    parts = [np.asarray(data.judged_item[data.offset[r] : data.offset[r + 1]]) for r in rows]
    return np.unique(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int64)


def _copies(
    data: RankingDataset, modality: str, known: npt.NDArray[np.int64], items: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    features = data.item_features[modality]
    mean = data.statistics.mean[modality]
    return near_duplicates(features[known] - mean, features[items] - mean)


def _pairs(
    data: RankingDataset, train: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], contents: Sequence[bytes]
) -> Overlap:
    def of(side: npt.NDArray[np.int64]) -> list[tuple[bytes, int]]:
        return [
            (contents[r], int(item))
            for r in side
            for item in first[data.judged_item[data.offset[r] : data.offset[r + 1]]]
        ]

    first = _first_alike(data)
    return overlap(of(train), of(rows))


def _first_alike(data: RankingDataset) -> npt.NDArray[np.int64]:
    """`[items]`: for each item the first one with the same features, rounded."""
    place: dict[bytes, int] = {}
    out = np.zeros(data.counts["items"], dtype=np.int64)
    for row in range(len(out)):
        key = b"".join((np.round(np.float64(data.item_features[m][row]), 4) + 0.0).tobytes() for m in MODALITIES)
        out[row] = place.setdefault(key, row)
    return out


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
