"""The three tables of the data contract."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from .embed import THUMBNAIL, Array, rounded


def thumbnail(file: Path) -> bytes:
    """A PNG of 64 x 64 RGB pixels on white, in at most 64 colours."""
    small = Image.open(file).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.quantize(64, dither=Image.Dither.NONE).save(out, format="PNG", optimize=True)
    return out.getvalue()


def fixed_width(rows: Array) -> pa.Array:
    """`[N, D]` as a column of lists of float32 (rounded to float16's precision, so that they compress)."""
    values = pa.array(np.ascontiguousarray(rounded(rows)).ravel(), type=pa.float32())
    return pa.ListArray.from_arrays(pa.array(np.arange(len(rows) + 1) * rows.shape[1], type=pa.int32()), values)


def write_table(path: Path, columns: Mapping[str, pa.Array]) -> None:
    """One Parquet file, zstd; floats are split by byte, where rounded mantissas compress to nothing."""
    table = pa.table(dict(columns))
    floats = [
        f"{f.name}.list.element" if pa.types.is_list(f.type) else f.name
        for f in table.schema
        if pa.types.is_list(f.type) or pa.types.is_floating(f.type)
    ]
    words = [f.name for f in table.schema if pa.types.is_string(f.type)]
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=words,
        use_byte_stream_split=floats,
    )
