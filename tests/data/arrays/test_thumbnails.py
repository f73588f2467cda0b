"""Pictures: on white, 32 pixels a side, the aspect kept; the same bytes through the cache."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fusion_models.data import DataError, open_dataset
from fusion_models.data.arrays.thumbnails import SIDE, decode_thumbnail, upright

Columns = dict[str, dict[str, Any]]
Write = Callable[[Columns], str]


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_a_picture_of_the_right_size_is_kept_pixel_for_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_thumbnail(encoded(Image.fromarray(pixels))), pixels.transpose(2, 0, 1))


def test_transparency_is_white() -> None:
    half = Image.new("RGBA", (SIDE, SIDE), (255, 0, 0, 0))
    half.paste((0, 0, 255, 255), (0, 0, SIDE // 2, SIDE))
    thumbnail = decode_thumbnail(encoded(half))
    assert thumbnail[:, 0, 0].tolist() == [0, 0, 255]
    assert thumbnail[:, 0, -1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "CMYK", "1"])
def test_a_wide_picture_keeps_its_aspect_on_white(mode: str) -> None:
    black = Image.new("RGB", (400, 100), (0, 0, 0)).convert(mode)
    thumbnail = decode_thumbnail(encoded(black, "JPEG" if mode == "CMYK" else "PNG"))
    assert thumbnail.shape == (3, SIDE, SIDE)
    dark = (thumbnail < 64).all(axis=0)
    assert dark.any(axis=1).sum() == SIDE // 4
    assert dark.any(axis=0).sum() == SIDE


def test_a_very_thin_picture_still_has_a_pixel() -> None:
    assert decode_thumbnail(encoded(Image.new("RGB", (4000, 1), (0, 0, 0)))).min() < 64


def test_thumbnails_come_by_item_row(columns: Columns, write: Write) -> None:
    shades = [encoded(Image.new("RGB", (8, 8), (20 * n, 0, 0))) for n in range(5)]
    columns["items"]["image"] = [*shades, None]
    data = open_dataset(write(columns))
    assert data.schema.thumbnail == SIDE
    thumbnails = data.thumbnails(np.array([3, 5, 3]))
    assert thumbnails.shape == (3, 3, SIDE, SIDE)
    assert thumbnails.dtype == torch.uint8
    assert thumbnails[:, :, 16, 16].tolist() == [[60, 0, 0], [255, 255, 255], [60, 0, 0]]
    assert torch.equal(data.thumbnails(data.gather([0]).item[0])[0], data.thumbnails([0])[0])
    assert data.counts["items_without_image"] == 1


def test_a_dataset_without_pictures_says_so(columns: Columns, write: Write) -> None:
    data = open_dataset(write(columns))
    assert data.schema.thumbnail is None
    with pytest.raises(DataError, match=r"has no pictures. Write PNG or JPEG"):
        data.thumbnails([0])


@pytest.mark.parametrize(("side", "megapixels"), [((16_000, 12_000), 192), ((11_000, 10_000), 110)])
def test_a_picture_of_too_many_pixels_is_refused(
    side: tuple[int, int], megapixels: int, columns: Columns, write: Write
) -> None:
    columns["items"]["image"] = [None, None, encoded(Image.new("1", side)), None, None, None]
    said = rf"items.parquet, column 'image', row 2: the picture has {megapixels} megapixels, and 100 are the most"
    with pytest.raises(DataError, match=said):
        open_dataset(write(columns))


def test_a_picture_whose_decoder_fails_in_its_own_way_is_refused(columns: Columns, write: Write) -> None:
    whole = encoded(Image.effect_noise((64, 64), 50))
    columns["items"]["image"] = [None, whole[: len(whole) // 2], None, None, None, None]
    with pytest.raises(DataError, match=r"column 'image', row 1: .* bytes that are no picture"):
        open_dataset(write(columns))


RAMP = np.linspace(0.0, 1.0, SIDE * SIDE).reshape(SIDE, SIDE)


@pytest.mark.parametrize(
    ("grey", "kind"),
    [
        ((RAMP * 65535).astype(np.uint16), "PNG"),
        ((RAMP * 65535).astype(np.uint16), "TIFF"),
        ((RAMP * 65535).astype(">u2"), "TIFF"),
        ((RAMP * 65535).astype(np.int32), "TIFF"),
        ((RAMP * 255).astype(np.int32), "TIFF"),
        ((RAMP * 2e9 - 1e9).astype(np.int32), "TIFF"),
        (RAMP.astype(np.float32), "TIFF"),
        ((RAMP * 255).astype(np.float32), "TIFF"),
        ((RAMP * 1e6).astype(np.float32), "TIFF"),
        (np.where(RAMP == 0.0, np.nan, RAMP).astype(np.float32), "TIFF"),
    ],
)
def test_grey_of_many_bits_keeps_its_shades(grey: np.ndarray, kind: str) -> None:
    thumbnail = decode_thumbnail(encoded(Image.fromarray(grey), kind))
    assert np.abs(thumbnail.astype(float) - 255 * RAMP).max() <= 1.0


def test_grey_of_one_value_is_a_picture() -> None:
    grey = np.full((SIDE, SIDE), 1e7, np.float32)
    assert np.unique(decode_thumbnail(encoded(Image.fromarray(grey), "TIFF"))).size == 1


def turned(orientation: int) -> bytes:
    """A camera's JPEG, dark in its upper half, and what it says of how it was held."""
    picture = Image.new("RGB", (64, 64), (255, 255, 255))
    picture.paste((0, 0, 0), (0, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize(("orientation", "dark"), [(1, (0, 16)), (3, (31, 16)), (6, (16, 31)), (8, (16, 0))])
def test_a_picture_is_turned_as_its_camera_was(orientation: int, dark: tuple[int, int]) -> None:
    thumbnail = decode_thumbnail(turned(orientation))
    assert thumbnail[0, dark[0], dark[1]] < 64
    assert thumbnail[0, 31 - dark[0] if dark[0] != 16 else 16, 31 - dark[1] if dark[1] != 16 else 16] > 192


def test_broken_exif_turns_nothing() -> None:
    picture = Image.new("RGB", (8, 8), (0, 0, 0))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert decode_thumbnail(buffer.getvalue()).max() < 8


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_deep_grey_takes_little_memory_beside_the_picture(kind: type[np.generic]) -> None:
    """NumPy reports its arrays to tracemalloc; Pillow's own are the picture and one of 8 bits."""
    side = 3000
    grey = np.linspace(0, 65535, side * side).reshape(side, side).astype(kind)
    picture = Image.fromarray(grey)
    tracemalloc.start()
    try:
        shades = np.asarray(upright(picture))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.abs(shades - grey / 257.0).max() <= 0.51
    assert peak < 6 * side * side
