"""The door: where three tables lie, how they are read, and the checks that every value passes.

`files` finds and reads them; `checks` takes a piece of a table and gives it back clean, or raises a DataError.
May use the splits and the errors, nothing else of `fusion_models.data`.
"""

from fusion_models.data.tables.files import (
    TABLES,
    TableFolder,
    filesystem_of,
    locate,
    open_parquet,
    refuse_overwriting,
    stream,
    vectors,
    write_tables,
)

__all__ = [
    "TABLES",
    "TableFolder",
    "filesystem_of",
    "locate",
    "open_parquet",
    "refuse_overwriting",
    "stream",
    "vectors",
    "write_tables",
]
