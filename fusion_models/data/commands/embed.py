"""A dataset's raw material (pictures, titles, query texts) made into vectors: a new dataset beside the old one.

What is finished lies in `.OUT.parts` until OUT is whole: the same command goes on where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fusion_models.data.commands.embedded_tables import MadeColumn, copy_table, write_items, write_queries
from fusion_models.data.embedding import Column, make_column, picture_encoder, word_encoder
from fusion_models.data.embedding.encoders import Encoder, model_identity
from fusion_models.data.embedding.parts import Parts
from fusion_models.data.embedding.raw import PictureOpener, Row, pictures, words
from fusion_models.data.errors import DataError
from fusion_models.data.splits import SPLITS, assign_splits
from fusion_models.data.tables import COLUMN_ROWS, Declaration, TableFolder, TableReader, checks, relations
from fusion_models.data.tables.columns import is_text
from fusion_models.data.tables.declaration import FILE as DECLARATION
from fusion_models.data.tables.declaration import STAND_IN
from fusion_models.data.tables.files import local_path
from fusion_models.files import whole_folder
from fusion_models.modalities import MODALITIES, NAME, PICTURED, TITLED

RECORD = "embedding.json"
"""In the new folder: which models made what."""
FORMAT = 2
"""Of the parts: part of their name."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Models:
    """A `.onnx` file, or a name or folder that sentence-transformers loads; None: that column stays as it is."""

    image: str | None = None
    """Makes PICTURED of the items' `image`; `NAME=MODEL` makes the modality NAME of it."""
    title: str | None = None
    """Makes TITLED of the items' `title`, and of TITLED itself where that holds words; `NAME=MODEL` as above."""
    query: str | None = None
    """Makes the queries' `features` of their `text`."""
    device: str = "auto"
    """`auto`: a GPU where there is one; `cpu`, `cuda`."""
    batch: int = 64
    """Rows that a model is given at once."""


@dataclass
class _Job:
    """One column to make: where its rows come from, and what was made of them."""

    table: str
    name: str
    model: str
    column: Column
    encoder: Callable[[], Encoder[Any]]
    weight: Ints
    made: MadeColumn = field(init=False)

    def replaces(self, tables: TableFolder) -> bool:
        """Whether the table has vectors there already."""
        reader = tables.reader(self.table)
        return self.name in reader.names and not is_text(reader.type_of(self.name))


def embed_dataset(tables: TableFolder, out: str | Path, models: Models) -> list[str]:
    """Write the dataset `tables` into the new local folder `out`, with vectors in place of raw material.

    A row that has none gets the mean over the training split, and is marked in the column `missing_NAME`. Returns what
    was done, as sentences without a full stop.

    Raises:
        DataError: nothing is asked for, the tables or models will not do, or `out` holds something.
    """
    target = _new_folder(out)
    with tables.placed():
        declared = _declared(tables, models)
        items = tables.reader("items")
        opener = PictureOpener(tables)
        jobs, notes = _jobs(tables, models, opener), list[str]()
        folder = target.with_name(f".{target.name}.parts")
        for job in jobs:
            parts = Parts(folder / _key(tables, job), len(job.weight))
            notes += make_column(job.column, job.encoder, parts, models.batch)
            job.made = MadeColumn(job.name, *parts.joined(job.weight, job.column.source, job.column.file))
        with whole_folder(target) as staging:
            write_items(items, [job.made for job in jobs if job.table == "items"], opener, staging)
            write_queries(tables, [job.made for job in jobs if job.table == "queries"], staging)
            copy_table(tables, "judgements", staging)
            if not declared.is_default:
                (staging / DECLARATION).write_text(declared.to_toml())
            (staging / RECORD).write_text(json.dumps(_record(tables, jobs, models), indent=1) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
    return [*_said(jobs, tables), *notes, *_said_of_paths(opener), *_said_of_modalities(declared)]


def _new_folder(out: str | Path) -> Path:
    if "://" in str(out):
        raise DataError(f"{str(out)!r} is a URI.", "Give a folder of this machine, and copy it when it is whole.")
    target = local_path(out).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} is already there.", "Name a new folder with --out, or delete the old one.")
    return target


def _declared(tables: TableFolder, models: Models) -> Declaration:
    """The modalities of the new dataset: the declared ones; of the default ones those that there are."""
    asked = ((PICTURED, models.image), (TITLED, models.title))  # which are the names of their flags, too
    usual = {PICTURED: tables.declared.pictures, TITLED: tables.declared.titles}
    made = {named(model, usual[flag])[0]: flag for flag, model in asked if model}
    if not made and not models.query:
        raise DataError("nothing is asked for.", "Give a model for pictures, titles or queries.")
    if models.image and models.title and len(made) == 1:
        raise DataError(
            f"pictures and titles would both be {next(iter(made))}.", "Give one of them another NAME=MODEL."
        )
    for name, flag in made.items():
        if name not in tables.declared.modalities:
            raise DataError(
                f"the dataset declares {', '.join(tables.declared.modalities)}, and no {name}.",
                f'Add "{name}" to its modalities, name one of them as --{flag} NAME=MODEL, or leave --{flag} out.',
                file=DECLARATION,
            )
    if not tables.declared.is_default:
        whose = {flag: name for name, flag in made.items()}
        own = tables.declared
        return replace(own, pictures=whose.get(PICTURED, own.pictures), titles=whose.get(TITLED, own.titles))
    columns = tables.reader("items").names
    there = [m for m in MODALITIES if m in made or any(c == m or c.startswith(f"{m}.") for c in columns)]
    return Declaration.of(there)


def named(asked: str, usual: str) -> tuple[str, str]:
    """The modality that a model makes, and the model: of `NAME=MODEL`, or of a model alone."""
    name, equals, model = asked.partition("=")
    return (name, model) if equals and NAME.fullmatch(name) else (usual, asked)


def _jobs(tables: TableFolder, models: Models, opener: PictureOpener) -> list[_Job]:
    items, queries = tables.reader("items"), tables.reader("queries")
    item_weight, query_weight = _training_weights(tables, items, queries)
    jobs = []
    device, batch = models.device, models.batch
    if models.image:
        _require(items, ["image"])
        name, model = named(models.image, tables.declared.pictures)
        column = Column(items.file, name, "image", pictures(items), opener)
        encoder = partial(picture_encoder, model, device, batch)
        jobs.append(_Job("items", name, model, column, encoder, item_weight))
    if models.title:
        name, model = named(models.title, tables.declared.titles)
        spoken = [each for each in ("title", name) if each in items.names and is_text(items.type_of(each))]
        spoken = spoken or ["title"]
        _require(items, spoken)
        column = Column(items.file, name, " and ".join(spoken), words(items, spoken), _as_it_is)
        word = partial(word_encoder, model, device, batch)
        jobs.append(_Job("items", name, model, column, word, item_weight))
    if models.query:
        _require(queries, ["text"])
        column = Column(queries.file, "features", "text", words(queries, ["text"]), _as_it_is)
        word = partial(word_encoder, models.query, device, batch)
        jobs.append(_Job("queries", "features", models.query, column, word, query_weight))
    for job in jobs:
        model_identity(job.model)  # one that is not there is told before hours of the others
    return jobs


def _require(reader: TableReader, names: list[str]) -> None:
    for name in names:
        if name not in reader.names:
            raise DataError(
                f"missing, and nothing to embed without it; the table has {', '.join(reader.names)}.",
                "Add it, or leave its model out.",
                file=reader.file,
                column=name,
            )


def _as_it_is(row: Row) -> Any:
    return row.raw


def _training_weights(tables: TableFolder, items: TableReader, queries: TableReader) -> tuple[Ints, Ints]:
    """`[items]` and `[queries]` judgements in the training split: what a row counts in a mean, as at the door."""
    items.require(["item_id"])
    queries.require(["query_id"], ["split"])
    item_ids = _ids(items, "item_id")
    relations.unique_ids(item_ids, items.file, "item_id")
    query_ids = _ids(queries, "query_id")
    if "split" in queries.names:
        split = relations.split_codes(_ids(queries, "split"), queries.file)
    else:
        split = assign_splits(query_ids.to_pylist())
    judged = tables.reader("judgements")
    judged.require(["query_id", "item_id", "label", "v1_score"])
    query = relations.known_ids(_ids(judged, "query_id"), query_ids, judged.file, "query_id", queries.file)
    item = relations.known_ids(_ids(judged, "item_id"), item_ids, judged.file, "item_id", items.file)
    training = split[query] == SPLITS.index("train")
    return (
        np.bincount(item[training], minlength=len(item_ids)),
        np.bincount(query[training], minlength=len(query_ids)),
    )


def _ids(reader: TableReader, name: str) -> Any:
    found = [
        checks.ids(batch.column(name), reader.file, name, first) for first, batch in reader.stream([name], COLUMN_ROWS)
    ]
    return pa.chunked_array(found, pa.large_string())


def _key(tables: TableFolder, job: _Job) -> str:
    """What names a column's parts: they are another's where the table, the column or the model is."""
    said = [FORMAT, tables.location, tables.identity(job.table) or tables.digest(job.table), job.column.source]
    return hashlib.sha256(json.dumps([*said, model_identity(job.model)]).encode()).hexdigest()[:16]


def _record(tables: TableFolder, jobs: list[_Job], models: Models) -> dict[str, Any]:
    made = [
        {
            "table": job.table,
            "column": job.name,
            "of": job.column.source,
            "model": job.model,
            "identity": model_identity(job.model),
            "width": int(job.made.vectors.shape[1]),
            "missing": int(job.made.missing.sum()),
        }
        for job in jobs
    ]
    return {"source": tables.location, "asked": asdict(models), "made": made}


def _said(jobs: list[_Job], tables: TableFolder) -> Iterator[str]:
    for job in jobs:
        count, gone = len(job.made.missing), int(job.made.missing.sum())
        width, source = job.made.vectors.shape[1], job.column.source
        instead = ", in place of what was there" if job.replaces(tables) else ""
        yield f"{job.table}: {job.name} has {width} features a row, of {source}, by {job.model}{instead}"
        if gone:
            yield (
                f"{gone:,} of {count:,} {job.table} have none: the training mean stands in, and the column "
                f"{STAND_IN}{job.name} says where"
            )


def _said_of_paths(opener: PictureOpener) -> list[str]:
    lost = sorted(set(opener.lost))
    return [f"{len(lost):,} paths lead to no picture, such as {', '.join(lost[:3])}"] if lost else []


def _said_of_modalities(declared: Declaration) -> list[str]:
    return [] if declared.is_default else [f"{DECLARATION} names the modalities: {', '.join(declared.modalities)}"]
