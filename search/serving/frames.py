"""A run's ranker over tables: what a program or a notebook scores with after the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from fusion_models.data import DataError, RankingDataset, open_dataset
from fusion_models.data.arrays.v1_scores import v1_input
from fusion_models.data.batch import Batch
from fusion_models.data.schema import DataDescription
from fusion_models.evaluation import EVALUATION_QUERIES
from fusion_models.export import input_names
from fusion_models.models import Ranker
from search.run_store.artefact import ARTEFACT, releasing
from search.run_store.artifacts import load_ranker, read_data, require_same_source
from search.run_store.folder import RunFolder, RunFolderError
from search.serving.frame_tables import GivenTable, require_pairs_once
from search.serving.item_columns import ItemColumns, item_columns, vectors

Floats = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
SCORE = "v2_score"


def open_ranker(run: Path, trial: str | None = None, data: RankingDataset | None = None) -> FrameRanker:
    """The ranker that a run would release, or that of one of its trials, with the dataset that it was trained on.

    Of a roadmap: that of its last phase that has one. `data` stands in for the dataset that run.json names, where that
    has moved. Without it an artefact scores what brings all its features. Raises ValueError where there is no such
    ranker (naming those that are there), or the dataset, or the source of a module of one's own, is another one.
    """
    run = releasing(run, trial)
    folder = RunFolder(run)
    said = folder.read()
    if said is None:
        raise RunFolderError(f"{run} holds no run (no run.json)")
    place = folder.checkpoints / str(trial or ARTEFACT)
    if not (place / "recipe.json").exists():
        there = sorted(p.parent.name for p in folder.checkpoints.glob("*/recipe.json"))
        known = f"it has {', '.join(there[:8])}" if there else "it has kept no weights"
        wanted = f"trial {trial!r}" if trial else "ranker to release: nothing was confirmed"
        raise RunFolderError(f"{run} has no {wanted}; {known}")
    found = _trained_on(said["data"], place, folder.checkpoints / ARTEFACT) if data is None else data
    if found.fingerprint != said["fingerprint"]:
        raise ValueError(f"{found.source} holds other data than {run} was trained on: its statistics would not fit")
    require_same_source(place)
    return FrameRanker(load_ranker(place, found), found)


def _trained_on(source: str, *places: Path) -> RankingDataset | DataDescription:
    """The dataset, or where that cannot be opened any more what one of the rankers in `places` says of it."""
    try:
        return open_dataset(source)
    except (ValueError, OSError):
        found = next((said for place in places if (said := read_data(place)) is not None), None)
        if found is None:
            raise
        return found


class FrameRanker:
    """A trained ranker, with the widths, ids and statistics of the data that it was trained on."""

    def __init__(self, ranker: Ranker, data: RankingDataset | DataDescription) -> None:
        """`data`: without the dataset itself, no id is known, and all features are to be given."""
        self.ranker, self.data = ranker.eval(), data
        self._columns = item_columns(data.schema, data.statistics)
        self._known = data if isinstance(data, RankingDataset) else None
        self._item = pd.Index([] if self._known is None else self._known.item_ids, dtype=object)
        self._query = pd.Index([] if self._known is None else self._known.query_ids, dtype=object)
        self._or_data = "." if self._known is not None else f"; or {data.source}, which is not here: load(..., data=)."
        self.reads = tuple(name for name in input_names(ranker) if name != "valid")
        """Modalities, `context` and `v1`, as far as it reads them."""

    def score(self, pairs: Any, *, items: Any = None, queries: Any = None) -> pd.Series[float]:
        """V2's score of each row of `pairs`, by its index; higher is better, comparable within a query alone.

        Each is a pandas or polars frame, an Arrow table or a dict of columns. `pairs` has `query_id` and `item_id`,
        with `v1_score` where the ranker reads it and `features` of the pair where the data have them: `judgements`
        without labels. Features of items and queries come from columns of `pairs` (`visual`, `metadata.price`, ...;
        `query_features`), from `items` and `queries` (as in the data contract), or from the training data for ids that
        are there. Scalar columns are given as they are: they are encoded as in training.

        Raises DataError, naming column and row, for what is missing or of another width, and for an item that stands
        twice in a query's list.
        """
        table = GivenTable(pairs, "pairs")
        table.require(("query_id", "item_id"))
        if table.rows == 0:
            return pd.Series([], index=table.index, name=SCORE, dtype="float64")
        query, item = table.ids("query_id"), table.ids("item_id")
        features = self._of_items(table, item, items)
        context = self._context(table, query, queries)
        require_pairs_once(query, item, table.name)
        v1 = table.scores("v1_score") if "v1" in self.reads else np.zeros(table.rows)
        code, _ = pd.factorize(query)
        lists = np.split(np.argsort(code, kind="stable"), np.cumsum(np.bincount(code))[:-1])
        lists.sort(key=len)  # so that little is padded
        out = np.zeros(table.rows)
        for start in range(0, len(lists), EVALUATION_QUERIES):
            batch, place = self._batch(lists[start : start + EVALUATION_QUERIES], features, context, v1)
            with torch.inference_mode(), self.ranker.scores_only():
                scores = self.ranker(self.ranker.complete(batch)).scores
            out[place] = scores[batch.valid].double().numpy()
        wrong = np.flatnonzero(~np.isfinite(out))
        if len(wrong):
            remedy = "Look for features or V1 scores far outside of what it was trained with."
            raise DataError("its score is not finite.", remedy, file=table.name, row=int(wrong[0]))
        return pd.Series(out, index=table.index, name=SCORE)

    def _batch(
        self, lists: Sequence[Ints], features: dict[str, Floats], context: Floats, v1: Values
    ) -> tuple[Batch, Ints]:
        """One padded batch `[B, L]`, and the rows that its real places hold."""
        longest, place = max(map(len, lists)), np.concatenate(lists)
        valid = torch.arange(longest) < torch.tensor([len(rows) for rows in lists])[:, None]

        def padded(values: npt.NDArray[Any]) -> torch.Tensor:
            chosen = torch.from_numpy(np.ascontiguousarray(values))
            out = torch.zeros(*valid.shape, *values.shape[1:], dtype=chosen.dtype)
            out[valid] = chosen
            return out

        offset = np.concatenate([[0], np.cumsum([len(rows) for rows in lists])])
        none = torch.full(valid.shape, -1)
        batch = Batch(
            features={m: padded(x[place]) for m, x in features.items()},
            context=padded(context[place]),
            labels=torch.zeros(valid.shape, dtype=torch.float64),
            v1=padded(v1[place]),
            v1_input=padded(v1_input(v1[place], offset, self.data.statistics.v1_input)),
            valid=valid,
            query=none[:, 0],
            item=none,
        )
        return batch, place

    def _of_items(self, table: GivenTable, item: pd.Index[Any], items: Any) -> dict[str, Floats]:
        """Modality -> `[rows, D]`; zeros of those that the ranker does not read."""
        found = {m: np.zeros((table.rows, width), np.float32) for m, width in self.data.schema.widths.items()}
        given = None if items is None else GivenTable(items, "items")
        absent = []
        for m, columns in self._columns.items():
            if m not in self.reads:
                continue
            if m in table.names or any(name in table.names for name in columns.names):
                found[m] = _encoded(columns, table)
            else:
                absent.append(m)
        if not absent:
            return found
        if given is None:
            rows = table.found(self._item, item, "item_id", f"Give its features: items={self._or_data}")
            assert self._known is not None
            return found | {m: np.asarray(self._known.item_features[m][rows]) for m in absent}
        given.require(("item_id",))
        rows = table.found(given.unique_ids("item_id"), item, "item_id", "Give it a row in items.")
        return found | {m: _encoded(self._columns[m], given)[rows] for m in absent}

    def _context(self, table: GivenTable, query: pd.Index[Any], queries: Any) -> Floats:
        """`[rows, D]`: query features, then pair features; zeros where the ranker does not read them."""
        schema = self.data.schema
        if "context" not in self.reads:
            return np.zeros((table.rows, schema.context), np.float32)
        parts = [np.zeros((table.rows, 0), np.float32)]
        if schema.query:
            parts.append(self._of_queries(table, query, queries))
        if schema.pair:
            parts.append(vectors(table.column("features"), schema.pair, table.name, "features"))
        return np.concatenate(parts, axis=1)

    def _of_queries(self, table: GivenTable, query: pd.Index[Any], queries: Any) -> Floats:
        width = self.data.schema.query
        if "query_features" in table.names:
            return vectors(table.column("query_features"), width, table.name, "query_features")
        if queries is None:
            rows = table.found(self._query, query, "query_id", f"Give its features: queries={self._or_data}")
            assert self._known is not None
            assert self._known.query_features is not None
            return np.asarray(self._known.query_features[rows])
        given = GivenTable(queries, "queries")
        given.require(("query_id", "features"))
        rows = table.found(given.unique_ids("query_id"), query, "query_id", "Give it a row in queries.")
        return vectors(given.column("features"), width, given.name, "features")[rows]


def _encoded(columns: ItemColumns, table: GivenTable) -> Floats:
    """`[rows, D]` of a table that has every column of a modality. Raises DataError where it has not."""
    if not columns.listed and columns.modality in table.names:
        remedy = "Give these as they are, and not a vector of them."
        raise DataError(f"{columns.refusal}.", remedy, file=table.name, column=columns.modality)
    table.require(columns.names)
    return columns.encoded(table.columns(columns.names), table.name)
