"""The table of scores that a team gives of its V2: read, and checked before any label is looked at."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from fusion_models.data import DataError, RankingDataset
from fusion_models.data.errors import foreign_errors
from search.audit.score_cells import read_ids, read_names, read_numbers, shown

Values = npt.NDArray[np.float64]
SCORE = "v2_score"
IDS = ("query_id", "item_id")
TRAINING = "training"
LATENCY = "latency_ms"
QUICKEST_MS = 0.01
"""No ranker answers half of its queries in less: such a column holds seconds."""
KINDS = {"zero": "zero", "mean": "mean", "shuffle": "shuffle_across"} | {
    kind: kind for kind in ("shuffle_within", "shuffle_across")
}
"""How a column calls a blank -> what `metrics.masking.Blank` calls it."""
NONE = "none"
"""The refit without any modality, `v2_score.refit.none`: what the context alone is worth."""
MISSING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None")
"""Texts of a CSV that stand for no number."""
OURS = (SCORE, "attention", "latency", "ssim", TRAINING)
"""A column whose name begins so and is unknown is a mistake; others are not read."""


class Column(NamedTuple):
    """What one column of the table says."""

    name: str
    what: str
    """score, blank, refit, attention, latency or ssim."""
    modalities: tuple[str, ...] = ()
    """Blanked, refitted with, or attended to; in the dataset's order."""
    kind: str = ""
    draw: int = 0


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """V2's scores, laid beside the dataset's judgements."""

    source: str
    trainings: tuple[str, ...]
    """The first is the released ranker's."""
    columns: tuple[Column, ...]
    values: dict[str, Values]
    """Column -> `[trainings, judgements]`; NaN where the table says nothing."""
    ignored: tuple[str, ...] = ()
    """Columns that were not read."""

    def known(self, column: str, rows: npt.NDArray[np.int64]) -> list[int]:
        """Trainings (by place) that have this column on all of these judgements."""
        values = self.values[column]
        return [i for i in range(len(self.trainings)) if bool(np.isfinite(values[i, rows]).all())]


def read_scores(given: Any, data: RankingDataset, modalities: Sequence[str]) -> ScoreTable:
    """The table `given` (a path to Parquet or CSV, a pandas DataFrame, a pyarrow Table), checked against `data`.

    Every judged pair of the test split must have a score of every training; other splits may be left out.

    Raises DataError, in one line with file, column and row (counted from 0) and what to do.
    """
    table, source = _opened(given)
    found, ignored = _columns(table, modalities, source)
    pair = _pairs(table, data, source)
    names, training = _trainings(table, source)
    _require_unique(pair, training, table, source)
    judgements = len(data.judged_item)
    values = {}
    for column in found:
        numbers = _numbers(table, column.name, source)
        whole = np.full((len(names), judgements), np.nan)
        whole[training, pair] = numbers
        values[column.name] = whole
    out = ScoreTable(source=source, trainings=names, columns=found, values=values, ignored=ignored)
    _require_whole(out, data)
    _require_different(out, data)
    return out


def _opened(given: Any) -> tuple[pd.DataFrame, str]:
    remedy = "Give a Parquet or CSV file, a folder of Parquet parts, a pandas DataFrame or a pyarrow Table."
    if isinstance(given, pd.DataFrame):
        table, source = given.reset_index(drop=True), "scores"
    elif isinstance(given, pa.Table):
        table, source = given.to_pandas(types_mapper=pd.ArrowDtype), "scores"
    elif isinstance(given, str | Path):
        source = Path(str(given)).name
        if "://" not in str(given) and not (str(given).strip() and Path(given).exists()):
            raise DataError("is not there.", remedy, file=str(given))
        if Path(given).is_dir() and not any(Path(given).rglob("*.parquet")):
            raise DataError("is a folder without Parquet files.", remedy, file=str(given))
        with foreign_errors("cannot be read", remedy, file=str(given)):
            text = str(given).lower().endswith((".csv", ".csv.gz"))
            # As Arrow: numpy would make floats of whole numbers that stand beside empty cells.
            as_arrow: dict[str, Any] = {"dtype_backend": "pyarrow", "coerce_int96_timestamp_unit": "us"}
            table = _read_csv(given) if text else pd.read_parquet(given, **as_arrow)
            table = table.reset_index(drop=True)
    else:
        raise DataError(f"is a {type(given).__name__}.", remedy, file="scores")
    for name in (*IDS, SCORE):
        if name not in table.columns:
            has = ", ".join(map(str, list(table.columns)[:8])) or "none"
            raise DataError(f"missing; it has {has}.", "docs/audit.md names the columns.", file=source, column=name)
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise DataError("stands there twice.", "Leave one.", file=source, column=str(twice[0]))
    if table.empty:
        raise DataError("has no row.", "Score every judged pair of the test split.", file=source)
    return table, source


def _read_csv(given: str | Path) -> pd.DataFrame:
    """The table; an id is the text that stands there, be it NA or null, and only an empty one is none."""
    names = (*IDS, TRAINING)
    missing = {str(name): [""] if name in names else list(MISSING) for name in pd.read_csv(given, nrows=0).columns}
    return pd.read_csv(
        given,
        dtype=dict.fromkeys(names, str),
        keep_default_na=False,
        na_values=missing,
        dtype_backend="pyarrow",
    )


def _columns(table: pd.DataFrame, modalities: Sequence[str], source: str) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    found: list[Column] = []
    ignored = []
    for name in map(str, table.columns):
        if name in (*IDS, TRAINING):
            continue
        column = _read_name(name, modalities)
        if column is not None:
            same = next((other.name for other in found if other[1:] == column[1:]), None)
            if same is not None:
                raise DataError(f"says what {same!r} says.", "Leave one.", file=source, column=name)
            found.append(column)
        elif name.startswith(OURS):
            some = _examples(modalities)
            near = difflib.get_close_matches(name, some, n=2) or some[:3]
            raise DataError("unknown.", f"Did you mean {' or '.join(near)}? ", file=source, column=name)
        else:
            ignored.append(name)
    attended = {c.modalities[0] for c in found if c.what == "attention"}
    if attended and attended != set(modalities):
        missing = [f"attention.{m}" for m in modalities if m not in attended]
        raise DataError(f"missing: {', '.join(missing)}.", "Shares of all modalities sum to 1.", file=source)
    return tuple(found), tuple(ignored)


def _examples(modalities: Sequence[str]) -> list[str]:
    rest = ["+".join(m for m in modalities if m != gone) for gone in modalities]
    blanks = [f"{SCORE}.without_{m}{kind}" for m in modalities for kind in ("", *(f".{k}" for k in KINDS))]
    refits = [f"{SCORE}.refit.{subset}" for subset in rest]
    return [SCORE, *blanks, *refits, *(f"attention.{m}" for m in modalities), LATENCY, "ssim", TRAINING]


def _read_name(name: str, modalities: Sequence[str]) -> Column | None:
    """What a column means by its name; None where it means nothing here."""
    plain = {SCORE: "score", LATENCY: "latency", "ssim": "ssim"}
    if name in plain:
        return Column(name, plain[name])
    if name.startswith("attention."):
        modality = name.removeprefix("attention.")
        return Column(name, "attention", (modality,)) if modality in modalities else None
    refit = re.fullmatch(rf"{SCORE}\.refit\.(.+)", name)
    if refit:
        kept = () if refit[1] == NONE else _named(refit[1], modalities)
        return None if kept is None or len(kept) == len(modalities) else Column(name, "refit", kept)
    blanked = re.fullmatch(rf"{SCORE}\.without_([^.]+)(?:\.([a-z_]+))?(?:\.(\d+))?", name)
    if blanked:
        gone, kind = _named(blanked[1], modalities), KINDS.get(blanked[2] or "zero")
        return None if gone is None or kind is None else Column(name, "blank", gone, kind, int(blanked[3] or 0))
    return None


def _named(text: str, modalities: Sequence[str]) -> tuple[str, ...] | None:
    """Modalities joined by +, in the dataset's order; None where one is unknown or stands twice."""
    parts = text.split("+")
    if len(set(parts)) < len(parts) or not set(parts) <= set(modalities):
        return None
    return tuple(m for m in modalities if m in parts)


def _pairs(table: pd.DataFrame, data: RankingDataset, source: str) -> npt.NDArray[np.int64]:
    """`[rows]`: the judgement that each row of the table is about."""
    places = []
    for name, known in (("query_id", data.query_ids), ("item_id", data.item_ids)):
        place = pd.Index(known.astype(object)).get_indexer(pd.Index(read_ids(table[name], name, source)))
        if (place < 0).any():
            row = int(np.flatnonzero(place < 0)[0])
            said = f"{shown(table[name].iloc[row])} is in no table of {data.source}."
            raise DataError(
                said, "Write the ids of queries.parquet and items.parquet.", file=source, column=name, row=row
            )
        places.append(place.astype(np.int64))
    query, item = places
    items = len(data.item_ids)
    owner = np.repeat(np.arange(len(data.candidates)), data.candidates)
    judged = pd.Index(owner * items + np.asarray(data.judged_item))
    pair = judged.get_indexer(pd.Index(query * items + item))
    if (pair < 0).any():
        row = int(np.flatnonzero(pair < 0)[0])
        said = " with item ".join(shown(table[name].iloc[row]) for name in IDS)
        raise DataError(
            f"query {said} was not judged.", "Score the pairs of judgements.parquet alone.", file=source, row=row
        )
    return np.asarray(pair, dtype=np.int64)


def _trainings(table: pd.DataFrame, source: str) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Names of the trainings in the order in which the table has them, so the released one first, and each row's."""
    if TRAINING not in table.columns:
        return ("0",), np.zeros(len(table), dtype=np.int64)
    text = read_names(table[TRAINING], TRAINING, source)
    try:
        keys: list[Any] = [int(name) for name in text]
    except ValueError:
        keys = list(text)
    place, names = pd.factorize(np.array(keys, dtype=object))
    return tuple(map(str, names)), np.asarray(place, dtype=np.int64)


def _require_unique(
    pair: npt.NDArray[np.int64], training: npt.NDArray[np.int64], table: pd.DataFrame, source: str
) -> None:
    again = pd.DataFrame({"pair": pair, "training": training}).duplicated().to_numpy()
    if again.any():
        row = int(np.flatnonzero(again)[0])
        said = f"query {' with item '.join(shown(table[name].iloc[row]) for name in IDS)} stands there twice"
        of = f" for training {table[TRAINING].iloc[row]}" if TRAINING in table.columns else ""
        raise DataError(f"{said}{of}.", "Several trainings need a column `training`.", file=source, row=row)


def _numbers(table: pd.DataFrame, name: str, source: str) -> Values:
    """A column as float64; empty is NaN, and what is no number, infinite or unfit for its name raises DataError."""
    values = read_numbers(table[name], name, source)
    wrong, said, remedy = _unfit(values, name)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(f"{values[row]:g} {said}", remedy, file=source, column=name, row=row)
    if name == SCORE and np.isnan(values).all():
        raise DataError("empty in every row.", "Write V2's scores.", file=source, column=name)
    if name == LATENCY and np.nanmedian(np.append(values, np.inf)) < QUICKEST_MS:
        said = f"half of the queries take less than {QUICKEST_MS:g} ms."
        raise DataError(said, "Write milliseconds, not seconds.", file=source, column=name)
    return values


def _unfit(values: Values, name: str) -> tuple[npt.NDArray[np.bool_], str, str]:
    """Which numbers cannot be what the column is called, why, and what to do."""
    if np.isinf(values).any():
        return np.isinf(values), "is not finite.", "Write finite numbers."
    if name == LATENCY:
        return values < 0, "is negative.", "Write milliseconds."
    if name == "ssim":
        return np.abs(values) > 1, "is no SSIM, which lies between -1 and 1.", "Write the mean SSIM of the thumbnail."
    return np.zeros(len(values), dtype=np.bool_), "", ""


def _require_whole(table: ScoreTable, data: RankingDataset) -> None:
    """On the test split a training has a column for every pair or for none; the first has its scores."""
    rows = data.documents(np.sort(data.rows("test")))
    for column in table.columns:
        values = table.values[column.name][:, rows]
        for i, training in enumerate(table.trainings):
            known = np.isfinite(values[i])
            if known.all() or (not known.any() and not (column.what == "score" and i == 0)):
                continue
            place = int(rows[np.flatnonzero(~known)[0]])
            query = int(np.searchsorted(data.offset, place, side="right")) - 1
            of = f" of training {training}" if len(table.trainings) > 1 else ""
            pair = f"query {data.query_ids[query]!r} with item {data.item_ids[data.judged_item[place]]!r}"
            raise DataError(
                f"{int((~known).sum()):,} of {len(rows):,} judged pairs of the test split have no number{of}; the "
                f"first: {pair}.",
                "Score every judged pair of a split, or none."
                if column.what == "score"
                else "Fill the column for a training, or leave it empty there.",
                file=table.source,
                column=column.name,
            )


def _require_different(table: ScoreTable, data: RankingDataset) -> None:
    """Two trainings never order every query alike: one that was written twice, rescaled or not, would pass for two."""
    rows = data.documents(np.sort(data.rows("test")))
    query = np.searchsorted(data.offset, rows, side="right")
    for column in table.columns:
        if column.what not in ("score", "refit"):
            continue
        seen: dict[bytes, str] = {}
        for i in table.known(column.name, rows):
            order = np.lexsort((table.values[column.name][i, rows], query)).tobytes()
            if order in seen:
                raise DataError(
                    f"trainings {seen[order]} and {table.trainings[i]} order every query of the test split alike.",
                    "Leave it empty where a training has none of its own; one that no seed changes is trained on other "
                    "draws of the queries, or counts once.",
                    file=table.source,
                    column=column.name,
                )
            seen[order] = table.trainings[i]
