"""Small RGB pictures out of a table's `image` column."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, ImageOps

from fusion_models.data.errors import DataError
from fusion_models.data.tables.columns import plain

SIDE = 32
"""Pixels; every stored thumbnail is SIDE x SIDE."""
MEGAPIXELS = 100
"""Largest picture that is decoded: 400 MB in memory. No camera takes larger ones."""

BAND_PIXELS = 1 << 20
"""Pixels of a deep grey picture that are scaled at once."""
GREY_TOPS = {
    **dict.fromkeys(("I;16", "I;16B", "I;16L", "I;16N"), (65535.0,)),
    "I": (255.0, 65535.0),
    "F": (1.0, 255.0, 65535.0),
}
"""What white may be in Pillow's modes of deep grey, whose values it would cut off at 255."""


class TooLargeError(ValueError):
    """A picture of too many pixels."""

    def __init__(self, pixels: int) -> None:
        super().__init__(f"{pixels / 1e6:.0f} megapixels, and {MEGAPIXELS} are the most")


def picture_bytes(column: Any, file: str, first_row: int = 0) -> list[bytes | None]:
    """The bytes of each picture of an `image` column, None where there is none.

    Bytes of any layout, or a struct of `bytes` and `path` (as Hugging Face's datasets write). Raises DataError for
    other types, and for a struct that gives a path alone.
    """
    values = plain(column)
    kind = values.type
    fields = [kind.field(i).name for i in range(kind.num_fields)] if pa.types.is_struct(kind) else []
    if "bytes" in fields:
        parts = dict(zip(fields, values.flatten(), strict=True))
        inner = plain(parts["bytes"])
        paths = parts["path"].to_pylist() if "path" in parts else [None] * len(values)
        for row, (known, path) in enumerate(zip(inner.is_valid().to_pylist(), paths, strict=True)):
            if not known and path is not None:
                raise DataError(
                    f"the picture {path!r} is a path without bytes.",
                    "Write the file's bytes: `df['image'] = [open(p, 'rb').read() for p in df['path']]`.",
                    file=file,
                    column="image",
                    row=first_row + row,
                )
        values = inner
    if pa.types.is_null(values.type):
        return [None] * len(values)
    if not pa.types.is_large_binary(values.type):
        raise DataError(
            f"the column is of type {column.type}, not bytes.",
            "Write PNG or JPEG bytes: `df['image'] = [open(p, 'rb').read() for p in df['path']]`.",
            file=file,
            column="image",
            row=first_row,
        )
    found: list[bytes | None] = values.to_pylist()
    return found


def checked_thumbnail(data: bytes, file: str, row: int) -> npt.NDArray[np.uint8]:
    """`decode_thumbnail`, whose failures name the row."""
    try:
        return decode_thumbnail(data)
    except TooLargeError as error:
        raise DataError(
            f"the picture has {error}.",
            f"Write a smaller one: {SIDE} pixels a side are kept of it.",
            file=file,
            column="image",
            row=row,
        ) from error
    except Exception as error:  # Pillow's decoders raise whatever broken bytes lead them to
        raise DataError(
            f"{len(data)} bytes that are no picture ({str(error) or type(error).__name__}).",
            "Write whole PNG or JPEG bytes, or null for none.",
            file=file,
            column="image",
            row=row,
        ) from error


def decode_thumbnail(data: bytes) -> npt.NDArray[np.uint8]:
    """`[3, SIDE, SIDE]` RGB of PNG or JPEG bytes: on white, the aspect kept, centred.

    Raises OSError (Pillow's own, or `UnidentifiedImageError`) where the bytes are no picture, TooLargeError where it
    has more than MEGAPIXELS.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large pictures, for which there is a limit, and of broken EXIF
        try:
            opened = Image.open(io.BytesIO(data))
        except Image.DecompressionBombError as error:
            pixels = re.search(r"\d+", str(error))
            raise TooLargeError(int(pixels[0]) if pixels else 0) from error
    with opened:
        if opened.width * opened.height > MEGAPIXELS * 1_000_000:
            raise TooLargeError(opened.width * opened.height)
        picture = upright(opened).convert("RGBA")
    if picture.size != (SIDE, SIDE):
        scale = SIDE / max(picture.size)
        width, height = (max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    page = Image.new("RGBA", (SIDE, SIDE), (255, 255, 255, 255))
    page.alpha_composite(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
    return np.ascontiguousarray(np.asarray(page.convert("RGB"), dtype=np.uint8).transpose(2, 0, 1))


def upright(opened: Image.Image) -> Image.Image:
    """An open picture as a viewer shows it: turned as its EXIF says, and grey of 16 and 32 bits brought to 8."""
    opened.load()
    with suppress(Exception), warnings.catch_warnings():  # of EXIF that is broken, and so says nothing
        warnings.simplefilter("ignore")
        ImageOps.exif_transpose(opened, in_place=True)
    tops = GREY_TOPS.get(opened.mode)
    return opened if tops is None else _eight_bits(opened, tops)


def _eight_bits(picture: Image.Image, tops: tuple[float, ...]) -> Image.Image:
    """Grey of 8 bits: black is 0 and white the first of `tops` that holds every value, else as the values go."""
    low, high = np.inf, -np.inf
    for _, grey in _bands(picture):
        known = grey[np.isfinite(grey)]
        if known.size:
            low, high = min(low, float(known.min())), max(high, float(known.max()))
    low, high = (low, high) if low <= high else (0.0, 0.0)
    held = [top for top in tops if low >= 0.0 and high <= top]
    low, high = (0.0, held[0]) if held else (low, high)
    out = Image.new("L", picture.size)
    for top, grey in _bands(picture):
        scaled = (np.where(np.isfinite(grey), grey, low) - low) * (255.0 / (high - low) if high > low else 0.0)
        out.paste(Image.fromarray(np.rint(scaled).astype(np.uint8)), (0, top))
    return out


def _bands(picture: Image.Image) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    """(first row, its values) of each band of a grey picture: float64 of the whole would be eight times its bytes."""
    rows = max(1, BAND_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        band = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        yield top, np.asarray(band).astype(np.float64)


def blank_thumbnail() -> npt.NDArray[np.uint8]:
    """`[3, SIDE, SIDE]`, white: an item without a picture."""
    return np.full((3, SIDE, SIDE), 255, dtype=np.uint8)
