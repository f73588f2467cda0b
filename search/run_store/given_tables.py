"""Tables that live in memory alone, kept beside the run folders so that a run on them can be opened again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fusion_models.data.errors import DataError
from fusion_models.data.tables import TABLES, filesystem_of
from search.run_store.folder import usable
from search.run_store.mirror import is_uri

KEPT = "data"
"""Below the results: one folder a dataset, named by its content."""


def keep_tables(results: str, tables: Mapping[str, Any]) -> str:
    """Write `items`, `queries` and `judgements` as Parquet to RESULTS/data/KEY, and return that folder or URI.

    A table is a pandas DataFrame, a pyarrow Table, or the path of a Parquet file. KEY follows from the content, so that
    the same tables are the same dataset whenever they are given again: such a run can be resumed.

    Raises DataError where a table is missing or cannot be written as Parquet, RunFolderError where the results hold no
    folder.
    """
    missing = [name for name in TABLES if tables.get(name) is None]
    if missing:
        raise DataError(f"{' and '.join(missing)} missing.", f"A dataset has three tables: {', '.join(TABLES)}.")
    place = results if is_uri(results) else str(Path(results.removeprefix("file://")).expanduser().absolute())
    with TemporaryDirectory(prefix="fusion-search-") as scratch:
        state = hashlib.sha256()
        for name in TABLES:
            path = Path(scratch) / f"{name}.parquet"
            pq.write_table(_as_arrow(name, tables[name]), path)
            with path.open("rb") as file:
                state.update(hashlib.file_digest(file, "sha256").digest())
        location = f"{place.rstrip('/')}/{KEPT}/{state.hexdigest()[:16]}"
        filesystem, root = filesystem_of(location)
        with usable(Path(place)):
            filesystem.makedirs(root, exist_ok=True)
        for name in TABLES:
            target = f"{root.rstrip('/')}/{name}.parquet"
            if not filesystem.exists(target):  # whoever reads a table there finds it whole
                filesystem.put_file(str(Path(scratch) / f"{name}.parquet"), f"{target}.part")
                filesystem.mv(f"{target}.part", target)
    return location


def _as_arrow(name: str, table: Any) -> pa.Table:
    if isinstance(table, pa.Table):
        return table
    try:
        if isinstance(table, pd.DataFrame):
            return pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
        if isinstance(table, str | Path):
            return pq.read_table(table)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise DataError(f"cannot be written as Parquet ({error}).", "Give every column one type.", file=name) from error
    raise DataError(f"is a {type(table).__name__}.", "Give a pandas DataFrame, a pyarrow Table or a path.", file=name)
