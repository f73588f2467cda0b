"""Small RGB pictures out of a table's `image` bytes."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 32
"""Pixels; every stored thumbnail is SIDE x SIDE."""


def decode_thumbnail(data: bytes) -> npt.NDArray[np.uint8]:
    """`[3, SIDE, SIDE]` RGB of PNG or JPEG bytes: on white, the aspect kept, centred.

    Raises OSError (Pillow's own, or `UnidentifiedImageError`) where the bytes are no picture.
    """
    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGBA")
    if picture.size != (SIDE, SIDE):
        scale = SIDE / max(picture.size)
        width, height = (max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    page = Image.new("RGBA", (SIDE, SIDE), (255, 255, 255, 255))
    page.alpha_composite(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
    return np.ascontiguousarray(np.asarray(page.convert("RGB"), dtype=np.uint8).transpose(2, 0, 1))


def blank_thumbnail() -> npt.NDArray[np.uint8]:
    """`[3, SIDE, SIDE]`, white: an item without a picture."""
    return np.full((3, SIDE, SIDE), 255, dtype=np.uint8)
