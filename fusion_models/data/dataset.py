"""A checked dataset: memory-mapped arrays, their splits, and the order in which batches are gathered from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from fusion_models.data.batch import Batch
from fusion_models.data.errors import DataError
from fusion_models.data.gather import Gatherer, as_tensor
from fusion_models.data.schema import DataDescription, read_described
from fusion_models.data.splits import DECIDING, SPLITS, halve_validation
from fusion_models.data.tables.declaration import STAND_IN
from fusion_models.metrics.ranking_metric import NDCG_10, RankingMetric

Rows = npt.NDArray[np.int64]
Texts = np.ndarray[Any, Any]
"""Strings of NumPy, not Python's: an element is a `str`, or None where there is none."""
TEXTS_AT_ONCE = 65_536


class RankingDataset:
    """Judged queries with their candidates' features; what `open_dataset` returns.

    Rows of queries and items are those of the tables. Arrays are mapped read-only from the cache: processes on one
    node share them through the page cache. Pickling carries the folder's path alone.
    """

    def __init__(self, folder: Path, *, source: str, location: str, fingerprint: str) -> None:
        """Map a folder that `write_arrays` filled."""
        self.folder = folder
        self.source = source
        """As asked for: `clipart`, `planted:healthy`, a path."""
        self.location = location
        """Folder of the three tables."""
        self.fingerprint = fingerprint
        """Decided by the bytes of the three tables."""
        meta = json.loads((folder / "meta.json").read_text())
        self.schema, self.statistics = read_described(meta)
        self.counts: dict[str, int] = meta["counts"]
        """Sizes, and what is odd but kept: `queries_without_relevant`, `queries_single_candidate`, ..."""
        self.item_features: dict[str, npt.NDArray[np.float32]] = {
            m: self._map(f"modality_{m}") for m in self.schema.modalities
        }
        """Each modality's `[items, D]`, in the dataset's order."""
        self.offset: Rows = self._map("offset")
        """`[queries + 1]`: the judgements of query row q are `offset[q]:offset[q + 1]`."""
        self.judged_item: Rows = self._map("item")
        self.labels: npt.NDArray[np.float64] = self._map("label")
        """`[judgements]`, grouped by query."""
        self.v1: npt.NDArray[np.float64] = self._map("v1")
        """`[judgements]`, grouped by query: as the table has them."""
        self.v1_input = self._map("v1_input") if self.statistics.v1_input != "score" else None
        self.candidates: Rows = np.diff(self.offset)
        """`[queries]` number of candidates."""
        self.split: npt.NDArray[np.int8] = self._map("split")
        """`[queries]` codes into `splits`."""
        self.weight: npt.NDArray[np.float64] = self._map("weight")
        """`[queries]`: what each query counts, >= 0; 1 where the table has no column `weight`."""
        self.splits = SPLITS
        self.tuned_v1: tuple[str, npt.NDArray[np.float32]] | None = None
        """Key and `[judgements]` of a score that batches carry behind their context; see `with_tuned_v1`."""
        self.metric = NDCG_10
        """What rankers on these data are measured by; see `measured_by`."""
        self._query_features = self._map("query_features") if self.schema.query else None
        self._pair_features = self._map("pair_features") if self.schema.pair else None

    def __reduce__(self) -> tuple[Any, ...]:
        halved = self.splits is not SPLITS
        return _reopen, (self.folder, self.source, self.location, self.fingerprint, halved, self.metric)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{self.counts[name]:,} {name}" for name in ("queries", "items", "judgements"))
        return f"RankingDataset({self.source!r}, {sizes}, fingerprint {self.fingerprint[:8]})"

    def rows(self, split: str) -> Rows:
        """Query rows of `train`, `validation` or `test`, in the table's order; those without candidates left out.

        A halved dataset also has `deciding` (see `halved`).
        """
        if split not in self.splits:
            raise ValueError(f"split must be one of {', '.join(self.splits)}, got {split!r}")
        return np.flatnonzero((self.split == self.splits.index(split)) & (self.candidates > 0))

    def documents(self, rows: Rows) -> Rows:
        """Places of the judgements of some query rows, one list after another: `[documents]`."""
        first, count = self.offset[rows], self.candidates[rows]
        ends = np.cumsum(count)
        places: Rows = np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - (ends - count), count)
        return places

    def halved(self) -> RankingDataset:
        """The same data with validation cut in two by a stable hash of query_id: `validation` and `deciding`.

        Whoever searches, stops early and chooses by `validation` has then not seen `deciding`. Raises DataError where
        either half has no query.
        """
        halved = RankingDataset(self.folder, source=self.source, location=self.location, fingerprint=self.fingerprint)
        halved.metric = self.metric
        halved.splits = (*SPLITS, DECIDING)
        halved.split = halve_validation(self.split, self.query_ids)
        for half in ("validation", DECIDING):
            if len(halved.rows(half)) == 0:
                raise DataError(
                    f"{self.source} has too few validation queries ({len(self.rows('validation'))}) to be halved.",
                    "Give it more, or run the phases one by one: they decide on the test split.",
                    file="queries.parquet",
                    column="split",
                )
        return halved

    @property
    def description(self) -> DataDescription:
        """What a ranker of these data must know of them."""
        return DataDescription(
            source=self.source, fingerprint=self.fingerprint, schema=self.schema, statistics=self.statistics
        )

    @property
    def identity(self) -> str:
        """What decides the training split's lists and labels: what is fitted on them is cached under it."""
        return self.fingerprint

    @property
    def weighted(self) -> bool:
        """Whether queries count differently."""
        return bool((self.weight != self.weight[:1]).any())

    def measured_by(self, metric: RankingMetric) -> RankingDataset:
        """The same data, on which rankers are measured by `metric`. Views are made of it afterwards: they keep it."""
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view.metric = metric
        return view

    def with_tuned_v1(self, key: str, scores: npt.NDArray[np.float32]) -> RankingDataset:
        """The same data whose batches carry one more column behind their context: `scores` `[judgements]`.

        `key` tells one such score from another. All arrays are shared. Another process that is sent it gets the data
        without the column. Raises ValueError for scores of other judgements.
        """
        if len(scores) != len(self.judged_item):
            raise ValueError(f"{len(scores)} scores for {len(self.judged_item)} judgements of {self.source}")
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view.__dict__.pop("_gatherer", None)
        view.tuned_v1 = key, scores
        return view

    def gather(self, rows: npt.ArrayLike, device: torch.device | str = "cpu", *, length: int | None = None) -> Batch:
        """The batch of some query rows, padded to the longest list among them, or to `length`."""
        batch = self._gatherer.gather(np.asarray(rows, dtype=np.int64), length)
        return batch if str(device) == "cpu" else batch.to(device)

    def batches(
        self,
        split_or_rows: str | npt.ArrayLike,
        batch_queries: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str = "cpu",
    ) -> Iterator[Batch]:
        """Every query of a split (or of the rows given) once; see `row_batches`."""
        for rows in self.row_batches(split_or_rows, batch_queries, generator=generator):
            yield self.gather(rows, device)

    def row_batches(
        self, split_or_rows: str | npt.ArrayLike, batch_queries: int, *, generator: torch.Generator | None = None
    ) -> Iterator[Rows]:
        """The query rows of each batch.

        With a generator: an epoch in an order that it decides. Without: sorted by list length, so that evaluation
        pads little.
        """
        if batch_queries < 1:
            raise ValueError(f"batch_queries must be >= 1, got {batch_queries}")
        given = self.rows(split_or_rows) if isinstance(split_or_rows, str) else split_or_rows
        rows = np.asarray(given, dtype=np.int64)
        if generator is not None:
            rows = rows[torch.randperm(len(rows), generator=generator).numpy()]
        else:
            rows = rows[np.argsort(self.candidates[rows], kind="stable")]
        for start in range(0, len(rows), batch_queries):
            yield rows[start : start + batch_queries]

    def thumbnails(self, item_rows: npt.ArrayLike | Tensor) -> Tensor:
        """`[n, 3, S, S]` uint8 RGB of some items. Raises DataError for a dataset without images."""
        if self.schema.thumbnail is None:
            raise DataError(
                f"{self.source} has no pictures.",
                "Write PNG or JPEG bytes into an `image` column.",
                file="items.parquet",
                column="image",
            )
        return self._thumbnail_t[torch.as_tensor(item_rows, dtype=torch.int64)]

    @property
    def query_features(self) -> npt.NDArray[np.float32] | None:
        """`[queries, D]`, or None where the table has none."""
        found: npt.NDArray[np.float32] | None = self._query_features
        return found

    @property
    def pair_features(self) -> npt.NDArray[np.float32] | None:
        """`[judgements, D]`, grouped by query, or None where the table has none."""
        found: npt.NDArray[np.float32] | None = self._pair_features
        return found

    @cached_property
    def query_ids(self) -> Texts:
        """`[queries]`."""
        return _texts(self._query_table["query_id"])

    @cached_property
    def item_ids(self) -> Texts:
        """`[items]`."""
        return _texts(self._item_table["item_id"])

    @cached_property
    def subdomain(self) -> npt.NDArray[np.object_]:
        """`[queries]` text; one subdomain, `all`, where the table names none."""
        if "subdomain" not in self._query_table.column_names:
            return np.full(len(self.candidates), "all", dtype=object)
        coded = self._query_table["subdomain"].combine_chunks().dictionary_encode()
        names: npt.NDArray[np.object_] = _objects(coded.dictionary)[coded.indices.to_numpy()]
        return names  # one object a subdomain, not one a query

    @cached_property
    def query_text(self) -> Texts | None:
        """`[queries]`, None where a query has none; or None where the table has none."""
        return _texts(self._query_table["text"]) if "text" in self._query_table.column_names else None

    def query_texts(self, rows: npt.ArrayLike) -> Any:
        """Texts of some queries as an Arrow array, read from the map; None where the table has none."""
        if "text" not in self._query_table.column_names:
            return None
        return self._query_table["text"].take(pa.array(np.asarray(rows, dtype=np.int64)))

    @cached_property
    def query_timestamp(self) -> npt.NDArray[np.object_] | None:
        """`[queries]` as the table types them, or None where it has none."""
        table = self._query_table
        return _objects(table["timestamp"]) if "timestamp" in table.column_names else None

    def stands_in(self, modality: str) -> npt.NDArray[np.bool_]:
        """`[items]`: whose vector only stands in for one, by the column `missing_MODALITY`; nobody's without it."""
        path = self.folder / f"{STAND_IN}{modality}.npy"
        return np.load(path) if path.exists() else np.zeros(self.counts["items"], dtype=np.bool_)

    @property
    def queries_without_features(self) -> npt.NDArray[np.bool_]:
        """`[queries]`: whose features only stand in for some, by the column `missing_features`; nobody's without it."""
        path = self.folder / f"{STAND_IN}features.npy"
        return np.load(path) if path.exists() else np.zeros(len(self.candidates), dtype=np.bool_)

    @property
    def has_titles(self) -> bool:
        """Whether items carry a `title`."""
        return "title" in self._item_table.column_names

    def titles(self, item_rows: Sequence[int] | npt.NDArray[np.integer]) -> list[str | None]:
        """Titles of some items, read from the map; all None where the table has none."""
        if not self.has_titles:
            return [None] * len(item_rows)
        titles: list[str | None] = self._item_table["title"].take(pa.array(np.asarray(item_rows))).to_pylist()
        return titles

    def _map(self, name: str) -> Any:
        # not copy-on-write: the kernel counts such a map as memory, and refuses one larger than the machine's
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")

    @cached_property
    def _query_table(self) -> Any:
        return pa.ipc.open_file(pa.memory_map(str(self.folder / "queries.arrow"))).read_all()

    @cached_property
    def _item_table(self) -> Any:
        return pa.ipc.open_file(pa.memory_map(str(self.folder / "items.arrow"))).read_all()

    @cached_property
    def _thumbnail_t(self) -> Tensor:
        return as_tensor(self._map("thumbnails"))

    @cached_property
    def _gatherer(self) -> Gatherer:
        return Gatherer(self)


def _reopen(
    folder: Path, source: str, location: str, fingerprint: str, halved: bool, metric: RankingMetric
) -> RankingDataset:
    data = RankingDataset(folder, source=source, location=location, fingerprint=fingerprint).measured_by(metric)
    return data.halved() if halved else data


def _texts(column: Any) -> Texts:
    """An array of NumPy's own strings (16 bytes each, and what is longer), filled without all of Python's at once."""
    out = np.empty(len(column), dtype=np.dtypes.StringDType(na_object=None))
    place = 0
    for chunk in column.chunks:
        for start in range(0, len(chunk), TEXTS_AT_ONCE):
            some = chunk.slice(start, TEXTS_AT_ONCE).to_pylist()
            out[place : place + len(some)] = some
            place += len(some)
    return out


def _objects(column: Any) -> npt.NDArray[np.object_]:
    return np.array(column.to_pylist(), dtype=object)
