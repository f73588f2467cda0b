"""The door: where three tables lie, how they are read, and the checks that every value passes.

`files` finds them, `declaration` reads which of their columns are modalities, `parts` reads one of one or many files,
`columns` knows Arrow's types, `time_units` those of time; `checks` and `feature_vectors` take a piece of a table and
give it back clean, or raise a DataError. May use the splits, the errors and the names of modalities, nothing else of
`fusion_models.data`.
"""

from fusion_models.data.tables.declaration import Declaration, write_declaration
from fusion_models.data.tables.files import (
    TABLES,
    TableFolder,
    filesystem_of,
    local_path,
    locate,
    refuse_overwriting,
    table_parts,
    vectors,
    write_tables,
)
from fusion_models.data.tables.parts import COLUMN_ROWS, TableReader

__all__ = [
    "COLUMN_ROWS",
    "TABLES",
    "Declaration",
    "TableFolder",
    "TableReader",
    "filesystem_of",
    "local_path",
    "locate",
    "refuse_overwriting",
    "table_parts",
    "vectors",
    "write_declaration",
    "write_tables",
]
