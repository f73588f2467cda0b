"""Pictures: on white, 32 pixels a side, the aspect kept; the same bytes through the cache."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fusion_models.data import DataError, open_dataset
from fusion_models.data.arrays.thumbnails import SIDE, decode_thumbnail

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
