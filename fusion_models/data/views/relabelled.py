"""A dataset with permuted or random labels. A ranker trained on it must learn nothing; if it does, something leaks."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fusion_models.data.dataset import RankingDataset
from fusion_models.data.views.alike import same_items
from fusion_models.data.views.lists import take_lists
from fusion_models.metrics.duplicates import Keys, digests, rounded

Relabelling = Literal["permuted", "random"]
RELABELLINGS: tuple[Relabelling, ...] = ("permuted", "random")
ITEMS_AT_ONCE = QUERIES_AT_ONCE = 4_096


class RelabelledDataset(RankingDataset):
    """The same queries, candidates and features; labels of every split are others. Reads like any dataset."""

    def __init__(self, base: RankingDataset, kind: Relabelling, seed: int) -> None:
        """See `relabelled`."""
        super().__init__(base.folder, source=base.source, location=base.location, fingerprint=base.fingerprint)
        take_lists(self, base)
        self.labels = _permuted(base, seed) if kind == "permuted" else _random(base, seed)
        self._made_of = (base, kind, seed)

    def __reduce__(self) -> tuple[Any, ...]:
        return RelabelledDataset, self._made_of

    @property
    def identity(self) -> str:
        """See `RankingDataset.identity`: other labels, other trees."""
        base, kind, seed = self._made_of
        return f"{base.identity}-{kind}-{seed}"


def relabelled(data: RankingDataset, kind: str, seed: int) -> RankingDataset:
    """`data` with the labels of all its splits replaced; the same seed gives the same labels.

    `permuted`: each query's labels change places at random among its candidates. `random`: each label is drawn anew
    from all labels, decided by the seed and by the *content* of query and item, so that a pair that stands in two
    splits under two ids gets one label in both: a ranker can then only fit held-out labels through a copied pair.

    Raises ValueError for another kind.
    """
    for known in RELABELLINGS:
        if kind == known:
            return RelabelledDataset(data, known, seed)
    raise ValueError(f"labels can be {' or '.join(RELABELLINGS)}, got {kind!r}")


def query_content(data: RankingDataset, rows: npt.NDArray[np.int64] | None = None) -> list[bytes]:
    """What makes a query the same under another id: its text; without one its features; without any, its id."""
    wanted = np.arange(len(data.candidates)) if rows is None else rows
    text, features = data.query_text, data.query_features
    std, absent = data.statistics.std["context"][: data.schema.query], data.queries_without_features
    out = []
    for row in wanted:
        said = normalised(text[row]) if text is not None else ""
        if said:
            out.append(f"text {said}".encode())
        elif features is not None and not absent[row]:
            out.append(b"features " + rounded(features[row], std).tobytes())
        else:
            out.append(f"id {data.query_ids[row]}".encode())
    return out


def query_keys(data: RankingDataset) -> Keys:
    """`[queries]`: numbers that are equal where `query_content` is."""
    rows = np.arange(len(data.candidates))
    blocks = (rows[start : start + QUERIES_AT_ONCE] for start in range(0, len(rows), QUERIES_AT_ONCE))
    return np.concatenate([digests(query_content(data, block)) for block in blocks])


def normalised(text: object) -> str:
    """Text without case and surplus spaces."""
    return " ".join(str(text or "").casefold().split())


def _permuted(data: RankingDataset, seed: int) -> npt.NDArray[np.float64]:
    query = np.repeat(np.arange(len(data.candidates)), data.candidates)
    order = np.lexsort((np.random.default_rng(seed).random(len(query)), query))
    return np.asarray(data.labels)[order]


def _random(data: RankingDataset, seed: int) -> npt.NDArray[np.float64]:
    queries = query_keys(data)
    items = np.concatenate([_item_keys(data, start) for start in range(0, data.counts["items"], ITEMS_AT_ONCE)])
    items = items[same_items(data)]
    pair = np.repeat(queries, data.candidates) * np.uint64(0x9E3779B97F4A7C15) ^ items[np.asarray(data.judged_item)]
    share = _mixed(pair ^ digests([str(seed).encode()])[0]) >> np.uint64(11)
    place = (share.astype(np.float64) / 2**53 * len(pair)).astype(np.int64)
    return np.sort(np.asarray(data.labels))[place]


def _item_keys(data: RankingDataset, start: int) -> Keys:
    block = slice(start, start + ITEMS_AT_ONCE)
    rows = [rounded(f[block], data.statistics.std[m]) for m, f in data.item_features.items()]
    return digests(row.tobytes() for row in np.concatenate(rows, axis=1))


def _mixed(values: Keys) -> Keys:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
