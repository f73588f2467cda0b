"""The three Parquet tables of a dataset, in a folder that a path or any fsspec / pyarrow URI names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fusion_models.data.errors import DataError, foreign_errors
from fusion_models.data.tables.declaration import Declaration, read_declaration, write_declaration
from fusion_models.data.tables.parts import Part, TableReader, holds_parquet, is_local, matching_parts, parts_of
from fusion_models.work import tell

TABLES: tuple[str, ...] = ("items", "queries", "judgements")
LAYOUTS = ("{}.parquet", "{}", "{}-*.parquet", "{}_*.parquet", "{}.*.parquet")
"""Where a table may lie in the folder, first found: a file or a folder of that name, or shards beside one another."""
WHOLE = 2
"""The first of these, which are one file or one folder: not both."""
OTHER_FORMATS = {"_delta_log": "Delta", "metadata": "Iceberg", ".hoodie": "Hudi", "_versions": "Lance"}
"""Folders by which to know tables whose Parquet files are not all valid rows: a log says which are."""


@dataclass(frozen=True)
class TableFolder:
    """Where three tables lie, and how to read them."""

    location: str
    """As the user wrote it."""
    filesystem: Any
    """An fsspec file system."""
    parts: dict[str, list[Part]]
    """Each table's Parquet files."""
    declared: Declaration = Declaration()  # noqa: RUF009  (frozen)
    """Which columns are modalities."""

    def file(self, table: str) -> str:
        """`items.parquet` of `items`: the name that errors print."""
        return f"{table}.parquet"

    def reader(self, table: str) -> TableReader:
        """The table over all its parts. Raises DataError where one is unreadable."""
        return TableReader(self.filesystem, self.parts[table], self.file(table))

    def identity(self, table: str) -> str | None:
        """What changes when a file does, without reading it (size with ETag or time); None where unknown."""
        stamps = [self._stamp(part) for part in self.parts[table]]
        return None if None in stamps else "\n".join(map(str, stamps))

    def digest(self, table: str) -> str:
        """SHA-256, in hexadecimal, of the file's bytes; of several: of their names and digests."""
        digests = [self._digest(part) for part in self.parts[table]]
        if len(digests) == 1:
            return digests[0]
        named = "\n".join(f"{part.name}|{d}" for part, d in zip(self.parts[table], digests, strict=True))
        return hashlib.sha256(named.encode()).hexdigest()

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Errors raised in here name the part, and the row in it, where they name a row of a table of several parts."""
        try:
            yield
        except DataError as error:
            table = (error.file or "").removesuffix(".parquet")
            if error.row is None or len(self.parts.get(table, [])) < 2:
                raise
            file, row = self.reader(table).place(error.row)
            raise DataError(error.problem, error.remedy, file=file, column=error.column, row=row) from error

    def _stamp(self, part: Part) -> str | None:
        with foreign_errors("cannot be looked at", "See whether it is there and may be read.", file=part.name):
            info = self.filesystem.info(part.path)
            if is_local(self.filesystem):
                stamp: Any = os.stat(part.path).st_mtime_ns
            else:
                keys = ("ETag", "etag", "mtime", "LastModified", "created")
                stamp = next((info[k] for k in keys if info.get(k)), None)
        return None if stamp is None else f"{part.path}|{info.get('size')}|{stamp}"

    def _digest(self, part: Part) -> str:
        state = hashlib.sha256()
        with (
            foreign_errors("cannot be read", "See whether it is there and may be read.", file=part.name),
            self.filesystem.open(part.path, "rb") as file,
        ):
            done, size = 0, int(self.filesystem.info(part.path).get("size") or 0)
            while block := file.read(1 << 22):
                state.update(block)
                done += len(block)
                tell(f"{part.name}: fingerprint", done, size)
        return state.hexdigest()


def locate(location: str) -> TableFolder:
    """The folder at a local path or URI; DataError where it does not exist or lacks one of the three tables."""
    filesystem, root = filesystem_of(location)
    with foreign_errors(f"{location!r} cannot be looked at", "See whether it is there, up, and may be read."):
        if filesystem.isfile(root):
            raise DataError(
                f"{location!r} is a file.",
                "A flat table becomes a dataset with `python -m fusion_models.data convert FLAT OUT`. "
                + _WHAT_A_DATASET_IS,
            )
        parts = {table: _parts(filesystem, root, table) for table in TABLES}
        if not any(parts.values()) and not filesystem.isdir(root):
            raise DataError(f"no dataset at {location!r}: there is no such folder.", _WHAT_A_DATASET_IS)
    for table in TABLES:
        if not parts[table]:
            raise DataError(f"missing from {location}.", _WHAT_A_DATASET_IS, file=f"{table}.parquet")
    return TableFolder(location, filesystem, parts, read_declaration(filesystem, root))


def _parts(filesystem: Any, root: str, table: str) -> list[Part]:
    base, file = root.rstrip("/"), f"{table}.parquet"
    first, second = (f"{base}/{layout.format(table)}" for layout in LAYOUTS[:WHOLE])
    parts = _parts_at(filesystem, first, file, file)
    if parts and _is_table(filesystem, second):
        raise DataError(f"{table}, with Parquet in it, lies beside it.", "Keep one of them.", file=file)
    parts = parts or _parts_at(filesystem, second, table, file)
    for layout in LAYOUTS[WHOLE:]:
        parts = parts or matching_parts(filesystem, f"{_literal(base)}/{layout.format(table)}")
    return parts


def _parts_at(filesystem: Any, path: str, name: str, file: str) -> list[Part]:
    """`parts_of`, where it is no table of another format. Nothing is asked of the names below a file.

    A signed URL is good for itself alone: whoever asks for another is refused.
    """
    if filesystem.isfile(path):
        return [Part(path, name)]
    refuse_other_formats(filesystem, path, file)
    return parts_of(filesystem, path, name)


def _is_table(filesystem: Any, path: str) -> bool:
    """`holds_parquet`; what cannot be looked at is none."""
    try:
        return holds_parquet(filesystem, path)
    except Exception:  # each file system has its own; nothing in there could be read instead
        return False


def _literal(path: str) -> str:
    """A path as a glob in which nothing but what follows matches more than itself."""
    return "".join(f"[{character}]" if character in "[*?" else character for character in path)


def table_parts(location: str, what: str = "table") -> tuple[Any, list[Part]]:
    """File system and Parquet files of one table: a file, a folder of parts, or a glob. DataError where none is."""
    filesystem, path = filesystem_of(location)
    with foreign_errors(f"{location!r} cannot be looked at", "See whether it is there, up, and may be read."):
        name = path.rstrip("/").rsplit("/", 1)[-1]
        if "://" in location:
            name = name.partition("?")[0]  # behind it stands what signs a URL, which is nobody's business
        parts = _parts_at(filesystem, path, name, name)
        folder, slash, last = path.rpartition("/")
        for pattern in (path, folder.replace("[", "[[]") + slash + last, path.replace("[", "[[]")):
            parts = parts or (matching_parts(filesystem, pattern) if set(path) & set("*?[") else [])
    if not parts:
        raise DataError(f"no {what} at {location!r}.", "Give a Parquet file, a folder of them, or a glob.")
    return filesystem, parts


def refuse_other_formats(filesystem: Any, path: str, file: str) -> None:
    """Raise DataError where the folder is a table of a format whose log says which of its files count."""
    for mark, format_name in OTHER_FORMATS.items():
        marked = f"{path}/{mark}"
        if filesystem.isdir(marked) and (mark != "metadata" or filesystem.glob(f"{marked}/*.metadata.json")):
            raise DataError(
                f"is a {format_name} table, whose log says which of its files count.",
                "Read it with its own library and hand the Arrow table to `open_dataset(items=..., queries=..., "
                "judgements=...)`, or write it as Parquet.",
                file=file,
            )


def refuse_overwriting(location: str | Path) -> None:
    """Raises DataError where the folder already holds one of the three tables."""
    filesystem, root = filesystem_of(str(location))
    for table in TABLES:
        path = f"{root.rstrip('/')}/{table}.parquet"
        if filesystem.exists(path):
            raise DataError(f"{path} is already there.", "Name a new folder, or delete the old tables.")


def vectors(values: npt.NDArray[np.float32]) -> Any:
    """`[n, D]` float32 as an Arrow column of lists of one fixed width."""
    n, width = values.shape
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).reshape(n * width))
    return pa.FixedSizeListArray.from_arrays(flat, width)


def write_tables(
    location: str | Path,
    tables: Mapping[str, Any],
    *,
    row_group_rows: int = 65_536,
    declared: Declaration = Declaration(),  # noqa: B008  (frozen)
) -> None:
    """Write Arrow tables named as TABLES, and what is declared, into a folder (path or URI), made where need be."""
    filesystem, root = filesystem_of(str(location))
    filesystem.makedirs(root, exist_ok=True)
    write_declaration(filesystem, root, declared)
    for name, table in tables.items():
        with filesystem.open(f"{root.rstrip('/')}/{name}.parquet", "wb") as file:
            pq.write_table(table, file, row_group_size=row_group_rows, compression="zstd", use_dictionary=_short(table))


def _short(table: Any) -> list[str]:
    """Columns worth a dictionary: text. Floats are all different, and a dictionary of them only costs time."""
    return [f.name for f in table.schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]


def local_path(name: str | Path) -> Path:
    """A path of this machine, its `~` the user's home folder. Raises DataError for a user who has none."""
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise DataError(f"{str(name)!r} lies in no home folder that is known here.", "Write the whole path.") from error


def filesystem_of(location: str) -> tuple[Any, str]:
    """An fsspec file system and the path on it, for a path or URI. DataError where no library opens it."""
    with foreign_errors(f"cannot open {location!r}", _WHAT_A_DATASET_IS):
        return _opened_filesystem(location)


def _opened_filesystem(location: str) -> tuple[Any, str]:
    try:
        filesystem, root = fsspec.core.url_to_fs(os.path.expanduser(location))
    except (ImportError, ValueError) as missing:
        try:
            from fsspec.implementations.arrow import ArrowFSWrapper
            from pyarrow import fs

            arrow, root = fs.FileSystem.from_uri(location)
            filesystem = ArrowFSWrapper(arrow)
        except (pa.ArrowInvalid, NotImplementedError, ImportError) as error:
            raise DataError(f"cannot open {location!r}: {missing}; {error}.", _WHAT_A_DATASET_IS) from error
    return filesystem, str(root)


_WHAT_A_DATASET_IS = (
    "Give `clipart`, `planted`, `planted:PRESET`, or a folder (path or URI) with items.parquet, queries.parquet "
    "and judgements.parquet."
)
