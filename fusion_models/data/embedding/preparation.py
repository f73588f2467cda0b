"""How a picture becomes a model's input, as the `preprocessor_config.json` beside the model says.

The file is what Hugging Face's image processors write: resize, centre crop, scale, standardise.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from fusion_models.data.errors import DataError, foreign_errors

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = 224
"""Pixels a side where neither the graph nor a file says."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Preparation:
    """Sides are (height, width), in pixels."""

    cover: Pair | None = (SIDE, SIDE)
    """Scaled and centre-cropped to this at once; None: by the three below."""
    shortest: int | None = None
    resize: Pair | None = None
    crop: Pair | None = None
    resample: int = int(Image.Resampling.BICUBIC)
    scale: float = 1 / 255
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @staticmethod
    def read(path: Path) -> Preparation:
        """What a `preprocessor_config.json` says. Raises DataError where it is not understood."""
        remedy = "Write it as a Hugging Face image processor does."
        with foreign_errors("cannot be read", remedy, file=str(path)):
            said: dict[str, Any] = json.loads(path.read_text())
            size = said.get("size") if said.get("do_resize", True) else None
            shortest, resize = _size(size, said.get("do_center_crop", False))
            normal = said.get("do_normalize", True)
            return Preparation(
                cover=None,
                shortest=shortest,
                resize=resize,
                crop=_pair(said.get("crop_size")) if said.get("do_center_crop", False) else None,
                resample=int(said.get("resample", Image.Resampling.BICUBIC)),
                scale=float(said.get("rescale_factor", 1 / 255)) if said.get("do_rescale", True) else 1.0,
                mean=tuple(said.get("image_mean") or IMAGENET_MEAN) if normal else (0.0, 0.0, 0.0),
                std=tuple(said.get("image_std") or IMAGENET_STD) if normal else (1.0, 1.0, 1.0),
            )

    def pixels(self, picture: Image.Image) -> npt.NDArray[np.uint8]:
        """`[H, W, 3]` uint8 of an RGB picture, resized and cropped."""
        how = Image.Resampling(self.resample)
        if self.cover is not None:
            height, width = self.cover
            picture = ImageOps.fit(picture, (width, height), how)
        elif self.shortest is not None:
            factor = self.shortest / min(picture.size)
            width, height = (max(1, round(side * factor)) for side in picture.size)
            picture = picture.resize((width, height), how)
        elif self.resize is not None:
            picture = picture.resize((self.resize[1], self.resize[0]), how)
        if self.crop is not None:
            left, top = (picture.width - self.crop[1]) // 2, (picture.height - self.crop[0]) // 2
            picture = picture.crop((left, top, left + self.crop[1], top + self.crop[0]))  # black beyond the edges
        return np.asarray(picture, dtype=np.uint8)

    def standardised(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """`[..., 3]` float32: scaled, less the mean, over the deviation, a channel."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return np.asarray((pixels.astype(np.float32) * np.float32(self.scale) - mean) / std, dtype=np.float32)


def rgb(picture: Image.Image) -> Image.Image:
    """The picture as RGB, on white where it is transparent (as thumbnails are)."""
    if picture.mode == "RGB":
        return picture
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    page = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    page.alpha_composite(picture.convert("RGBA"))
    return page.convert("RGB")


def _size(size: Any, cropped: bool) -> tuple[int | None, Pair | None]:
    """(shortest edge, sides) of a `size`, of which one is None at the least."""
    if size is None:
        return None, None
    if isinstance(size, dict) and "shortest_edge" in size:
        return int(size["shortest_edge"]), None
    if isinstance(size, int) and cropped:
        return size, None  # an old file's whole number is the shortest edge where a crop follows
    return None, _pair(size)


def _pair(size: Any) -> Pair:
    if isinstance(size, dict) and {"height", "width"} <= set(size):
        return int(size["height"]), int(size["width"])
    if isinstance(size, int):
        return size, size
    raise DataError(f"{size!r} is no size that is understood.", "Give height and width, or shortest_edge.")
