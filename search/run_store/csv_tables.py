"""CSV files of a run folder, safe to open in a spreadsheet."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fusion_models.files import write_whole
from search.run_store.folder import RunFolder

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_csv(table: pd.DataFrame, folder: RunFolder, name: str) -> None:
    """A CSV for spreadsheets: text that a spreadsheet would run as a formula is quoted with an apostrophe."""
    safe = table.copy()
    for column in safe.columns[[not pd.api.types.is_numeric_dtype(t) for t in safe.dtypes]]:
        safe[column] = [_inert(value) for value in safe[column]]
    write_whole(folder.path / name, safe.to_csv(index=False, lineterminator="\n"))


def _inert(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value
