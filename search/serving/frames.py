"""A run's ranker over DataFrames: what a program or a notebook scores with after the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import torch

from fusion_models.data import DataError, RankingDataset, open_dataset
from fusion_models.data.arrays.scalars import ScalarEncoding
from fusion_models.data.arrays.v1_scores import v1_input
from fusion_models.data.batch import Batch
from fusion_models.evaluation import EVALUATION_QUERIES
from fusion_models.export import input_names
from fusion_models.models import Ranker
from search.run_store.artefact import ARTEFACT, releasing
from search.run_store.artifacts import load_ranker
from search.run_store.folder import RunFolder, RunFolderError

Values = npt.NDArray[np.float64]
SCORE = "v2_score"


def open_ranker(run: Path, trial: str | None = None, data: RankingDataset | None = None) -> FrameRanker:
    """The ranker that a run would release, or that of one of its trials, with the dataset that it was trained on.

    Of a roadmap: that of its last phase that has one.

    `data` stands in for the dataset that run.json names, where that has moved. Raises ValueError where there is no such
    ranker (naming those that are there), or the dataset is another one.
    """
    run = releasing(run, trial)
    folder = RunFolder(run)
    said = folder.read()
    if said is None:
        raise RunFolderError(f"{run} holds no run (no run.json)")
    place = folder.checkpoints / (trial or ARTEFACT)
    if not (place / "recipe.json").exists():
        there = sorted(p.parent.name for p in folder.checkpoints.glob("*/recipe.json"))
        known = f"it has {', '.join(there[:8])}" if there else "it has kept no weights"
        wanted = f"trial {trial!r}" if trial else "ranker to release: nothing was confirmed"
        raise RunFolderError(f"{run} has no {wanted}; {known}")
    data = open_dataset(said["data"]) if data is None else data
    if data.fingerprint != said["fingerprint"]:
        raise ValueError(f"{data.source} holds other data than {run} was trained on: its statistics would not fit")
    return FrameRanker(load_ranker(place, data), data)


class FrameRanker:
    """A trained ranker, with the widths, ids and statistics of the data that it was trained on."""

    def __init__(self, ranker: Ranker, data: RankingDataset) -> None:
        self.ranker, self.data = ranker.eval(), data
        self._item = pd.Index(data.item_ids.astype(str))
        self._query = pd.Index(data.query_ids.astype(str))

    @property
    def reads(self) -> tuple[str, ...]:
        """Modalities, `context` and `v1`, as far as it reads them."""
        return tuple(name for name in input_names(self.ranker) if name != "valid")

    def score(
        self, pairs: pd.DataFrame, *, items: pd.DataFrame | None = None, queries: pd.DataFrame | None = None
    ) -> pd.Series[float]:
        """V2's score of each row of `pairs`, by its index; higher is better, comparable within a query alone.

        `pairs` has `query_id` and `item_id`, with `v1_score` where the ranker reads it and `features` of the pair where
        the data have them: `judgements` without labels. Features of items and queries come from columns of `pairs`
        (`visual`, ...; `query_features`), from `items` and `queries` (as in the data contract), or from the training
        data for ids that are there.

        Raises DataError, naming column and row, for what is missing or of another width.
        """
        table = pairs.reset_index(drop=True)
        self._require(table, ("query_id", "item_id"), "pairs")
        if table.empty:
            return pd.Series([], index=pairs.index, name=SCORE, dtype="float64")
        features = {m: self._modality(m, table, items) for m in self.data.item_features}
        context = np.concatenate([self._of_queries(table, queries), self._of_pairs(table)], axis=1)
        v1 = self._v1(table)
        code, _ = pd.factorize(table["query_id"].astype(str))
        order = np.argsort(code, kind="stable")
        lists = np.split(order, np.cumsum(np.bincount(code))[:-1])
        out = np.zeros(len(table))
        for start in range(0, len(lists), EVALUATION_QUERIES):
            chosen = lists[start : start + EVALUATION_QUERIES]
            batch, place = self._batch(chosen, features, context, v1)
            with torch.inference_mode(), self.ranker.scores_only():
                scores = self.ranker(self.ranker.complete(batch)).scores
            out[place] = scores[batch.valid].double().numpy()
        return pd.Series(out, index=pairs.index, name=SCORE)

    def _batch(
        self, lists: Sequence[npt.NDArray[np.int64]], features: dict[str, Any], context: Any, v1: Values
    ) -> tuple[Batch, npt.NDArray[np.int64]]:
        """One padded batch `[B, L]`, and the rows that its real places hold."""
        longest, place = max(map(len, lists)), np.concatenate(lists)
        valid = torch.arange(longest) < torch.tensor([len(rows) for rows in lists])[:, None]

        def padded(values: npt.NDArray[Any]) -> torch.Tensor:
            out = torch.zeros(*valid.shape, *values.shape[1:], dtype=torch.from_numpy(values[:0]).dtype)
            out[valid] = torch.from_numpy(np.ascontiguousarray(values[place]))
            return out

        offset = np.concatenate([[0], np.cumsum([len(rows) for rows in lists])])
        seen = torch.zeros(valid.shape, dtype=torch.float64)
        seen[valid] = torch.from_numpy(v1_input(v1[place], offset, self.data.statistics.v1_input))
        none = torch.full(valid.shape, -1)
        batch = Batch(
            features={m: padded(x) for m, x in features.items()},
            context=padded(context),
            labels=torch.zeros(valid.shape, dtype=torch.float64),
            v1=padded(v1),
            v1_input=seen,
            valid=valid,
            query=none[:, 0],
            item=none,
        )
        return batch, place

    def _modality(self, modality: str, table: pd.DataFrame, items: pd.DataFrame | None) -> npt.NDArray[np.float32]:
        """`[rows, D]`."""
        width = self.data.schema.width(modality)
        if modality in table:
            return _vectors(table[modality], width, "pairs", modality)
        if items is None:
            rows = self._found(self._item, table["item_id"], "pairs", "item_id", "Give its features: items=.")
            return np.asarray(self.data.item_features[modality][rows])
        self._require(items, ("item_id",), "items")
        known = self._unique(items, "item_id", "items")
        rows = self._found(known, table["item_id"], "pairs", "item_id", "Give it a row in items.")
        encoding = ScalarEncoding.from_json(self.data.statistics.encodings.get(modality, []))
        if encoding.columns and modality not in items:
            names = [column.name for column in encoding.columns]
            self._require(items, names, "items")
            return encoding.encode(pa.Table.from_pandas(items[names], preserve_index=False), "items")[rows]
        self._require(items, (modality,), "items")
        return _vectors(items[modality], width, "items", modality)[rows]

    def _of_queries(self, table: pd.DataFrame, queries: pd.DataFrame | None) -> npt.NDArray[np.float32]:
        width = self.data.schema.query
        if not width:
            return np.zeros((len(table), 0), dtype=np.float32)
        if "query_features" in table:
            return _vectors(table["query_features"], width, "pairs", "query_features")
        if queries is None:
            rows = self._found(self._query, table["query_id"], "pairs", "query_id", "Give its features: queries=.")
            found = self.data.query_features
            assert found is not None
            return np.asarray(found[rows])
        self._require(queries, ("query_id", "features"), "queries")
        known = self._unique(queries, "query_id", "queries")
        rows = self._found(known, table["query_id"], "pairs", "query_id", "Give it a row in queries.")
        return _vectors(queries["features"], width, "queries", "features")[rows]

    def _of_pairs(self, table: pd.DataFrame) -> npt.NDArray[np.float32]:
        width = self.data.schema.pair
        if not width:
            return np.zeros((len(table), 0), dtype=np.float32)
        self._require(table, ("features",), "pairs")
        return _vectors(table["features"], width, "pairs", "features")

    def _v1(self, table: pd.DataFrame) -> Values:
        if "v1" not in self.reads:
            return np.zeros(len(table))
        self._require(table, ("v1_score",), "pairs")
        values = np.asarray(pd.to_numeric(table["v1_score"], errors="coerce"), dtype=np.float64)
        _require_finite(values[:, None], "pairs", "v1_score")
        return values

    @staticmethod
    def _require(table: pd.DataFrame, columns: Sequence[str], name: str) -> None:
        for column in columns:
            if column not in table:
                raise DataError("missing.", "This ranker reads it.", file=name, column=column)

    @staticmethod
    def _unique(table: pd.DataFrame, column: str, name: str) -> pd.Index[Any]:
        """Its ids as text. Raises DataError where one stands there twice."""
        known = pd.Index(table[column].astype(str))
        again = np.flatnonzero(known.duplicated())
        if len(again):
            row = int(again[0])
            raise DataError(
                f"{known[row]!r} stands there twice.", "Leave one row of it.", file=name, column=column, row=row
            )
        return known

    @staticmethod
    def _found(
        known: pd.Index[Any], wanted: pd.Series[Any], name: str, column: str, remedy: str
    ) -> npt.NDArray[np.int64]:
        rows = np.asarray(known.get_indexer(pd.Index(wanted.astype(str))), dtype=np.int64)
        if (rows < 0).any():
            row = int(np.flatnonzero(rows < 0)[0])
            raise DataError(f"{wanted.iloc[row]!r} is unknown.", remedy, file=name, column=column, row=row)
        return rows


def _vectors(column: pd.Series[Any], width: int, name: str, what: str) -> npt.NDArray[np.float32]:
    """`[rows, width]` of a column of lists."""
    out = np.zeros((len(column), width), dtype=np.float32)
    for row, value in enumerate(column.tolist()):
        try:
            vector = np.asarray(value, dtype=np.float32)
        except (TypeError, ValueError):
            vector = np.zeros(0, dtype=np.float32)
        if vector.shape != (width,):
            said = f"expected {width} numbers, got {value!r:.60}."
            raise DataError(said, "Give the features that it was trained with.", file=name, column=what, row=row)
        out[row] = vector
    _require_finite(out, name, what)
    return out


def _require_finite(values: npt.NDArray[Any], name: str, what: str) -> None:
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise DataError("empty, or not finite.", "Give numbers.", file=name, column=what, row=int(bad[0]))
