"""CSV files of a run folder, safe to open in a spreadsheet."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fusion_models.files import write_whole
from search.run_store.folder import RunFolder

FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""Full-width signs begin formulas too."""


def write_csv(table: pd.DataFrame, folder: RunFolder, name: str) -> None:
    """A CSV for spreadsheets: text that a spreadsheet would run as a formula is quoted with an apostrophe."""
    safe = table.copy()
    for column in safe.columns[[not pd.api.types.is_numeric_dtype(t) for t in safe.dtypes]]:
        safe[column] = [_inert(value) for value in safe[column]]
    safe.columns = pd.Index([_inert(column) for column in safe.columns])
    write_whole(folder.path / name, safe.to_csv(index=False, lineterminator="\n"))


def _inert(value: Any) -> Any:
    """Blanks and line ends before a formula do not hide it; a bare carriage return would begin a new row."""
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if text.lstrip().startswith(FORMULA_STARTS) or text.startswith("\t") else text
