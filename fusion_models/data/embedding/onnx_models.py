"""Encoders that are `.onnx` files: pictures as pixels, texts as tokens or as they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fusion_models.data.embedding.encoders import beside
from fusion_models.data.embedding.onnx_graph import OnnxGraph
from fusion_models.data.embedding.preparation import SIDE, Preparation
from fusion_models.data.errors import DataError, foreign_errors

TOKENS = 512
"""Longest text, in tokens, where neither the graph nor the tokenizer says."""
PIXEL_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
TOKEN_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}

Floats = npt.NDArray[np.float32]


class OnnxPictures:
    """One input, `[N, 3, H, W]` or `[N, H, W, 3]`; pixels as they are (0 to 255) where it wants uint8."""

    def __init__(self, model: str, device: str) -> None:
        """Raises DataError where the graph takes no pictures."""
        self._graph = OnnxGraph(model, device)
        shape = self._graph.inputs[0].shape
        kind = self._graph.inputs[0].type
        if len(self._graph.inputs) != 1 or len(shape) != 4 or kind not in PIXEL_TYPES or 3 not in (shape[1], shape[3]):
            raise DataError(
                f"{self._graph.name} takes {_inputs(self._graph)}, and no pictures.",
                "Give a model of one input [N, 3, H, W] or [N, H, W, 3].",
            )
        self._dtype: Any = PIXEL_TYPES[kind]
        self._channels_first = shape[1] == 3
        height, width = (shape[2], shape[3]) if self._channels_first else (shape[1], shape[2])
        self._sides = tuple(side if isinstance(side, int) else None for side in (height, width))
        said = beside(self._graph.path, "preprocessor_config.json")
        if said is not None:
            self._preparation = Preparation.read(said)
        else:
            self._preparation = Preparation(cover=(self._sides[0] or SIDE, self._sides[1] or SIDE))

    @property
    def identity(self) -> str:
        """See `Encoder`."""
        return self._graph.identity

    @property
    def notes(self) -> tuple[str, ...]:
        """Says how pictures are prepared where no file beside the model does."""
        if self._preparation.cover is None:
            return ()
        height, width = self._preparation.cover
        taken = "as they are" if self._dtype is np.uint8 else "standardised by ImageNet's mean and deviation"
        return (
            f"no preprocessor_config.json lies beside {self._graph.name}: pictures are cropped to {width} x {height}, "
            f"pixels {taken}",
        )

    def encode(self, things: Sequence[Image.Image]) -> Floats:
        """`[n, D]` of RGB pictures."""
        rows = [self._preparation.pixels(picture) for picture in things]
        for sides in {row.shape[:2] for row in rows}:
            if any(want not in (None, got) for want, got in zip(self._sides, sides, strict=True)):
                raise DataError(
                    f"{self._graph.name} takes pictures of {self._sides} pixels (height, width), and its "
                    f"preprocessor_config.json makes {sides}.",
                    "Let the file name the graph's own size.",
                )
        pixels = np.stack(rows)
        values = pixels if self._dtype is np.uint8 else self._preparation.standardised(pixels).astype(self._dtype)
        if self._channels_first:
            values = values.transpose(0, 3, 1, 2)
        return self._graph.run({self._graph.inputs[0].name: np.ascontiguousarray(values)})


class OnnxWords:
    """Inputs among `input_ids`, `attention_mask`, `token_type_ids` (by the `tokenizer.json` beside), or one of text."""

    def __init__(self, model: str, device: str) -> None:
        """Raises DataError where the graph takes no text, or no tokenizer lies beside it."""
        self._graph = OnnxGraph(model, device)
        inputs = self._graph.inputs
        self._tokenizer: Any = None
        if len(inputs) == 1 and inputs[0].type == "tensor(string)":
            return
        unknown = [i.name for i in inputs if i.name not in _FIELDS or i.type not in TOKEN_TYPES]
        if unknown:
            raise DataError(
                f"{self._graph.name} takes {_inputs(self._graph)}, and no text.",
                f"Give a model whose inputs are among {', '.join(_FIELDS)}, or one input of text.",
            )
        said = beside(self._graph.path, "tokenizer.json")
        if said is None:
            raise DataError(
                f"no tokenizer.json lies beside {self._graph.name}, which takes tokens.",
                "Put there the one that it was trained with.",
            )
        fixed = inputs[0].shape[1] if len(inputs[0].shape) == 2 else None
        self._tokenizer = _tokenizer(said, fixed if isinstance(fixed, int) else None)

    @property
    def identity(self) -> str:
        """See `Encoder`."""
        return self._graph.identity

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing is assumed."""
        return ()

    def encode(self, things: Sequence[str]) -> Floats:
        """`[n, D]` of texts; one that is too long is cut at its end."""
        inputs = self._graph.inputs
        if self._tokenizer is None:
            texts = np.array([*things, ""], dtype=object)[:-1]
            return self._graph.run({inputs[0].name: texts.reshape(-1, *[1] * (len(inputs[0].shape) - 1))})
        encoded = self._tokenizer.encode_batch(list(things))
        fields = {name: np.array([getattr(e, field) for e in encoded]) for name, field in _FIELDS.items()}
        feeds = {i.name: fields[i.name].astype(TOKEN_TYPES[i.type]) for i in inputs}
        return self._graph.run(feeds, fields["attention_mask"])


_FIELDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""Input of a graph -> what the tokenizer calls it."""


def _tokenizer(path: Path, fixed: int | None) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise DataError(
            "a tokenizer.json needs tokenizers, which is not installed.", "Install it: `pip install -e '.[embed]'`."
        ) from error
    with foreign_errors("cannot be read", "Give a tokenizer.json that the package tokenizers reads.", file=str(path)):
        tokenizer = Tokenizer.from_file(str(path))
        config = beside(path, "tokenizer_config.json")
        said: dict[str, Any] = json.loads(config.read_text()) if config is not None else {}
        cut, padded = tokenizer.truncation, tokenizer.padding
        limit = int(fixed or (cut or {}).get("max_length") or said.get("model_max_length") or TOKENS)
        tokenizer.enable_truncation(max_length=limit if limit < 1_000_000 else TOKENS)
        pad = (padded or {}).get("pad_token") or said.get("pad_token") or "[PAD]"
        pad = pad["content"] if isinstance(pad, dict) else pad
        tokenizer.enable_padding(pad_id=tokenizer.token_to_id(pad) or 0, pad_token=pad, length=fixed)
    return tokenizer


def _inputs(graph: OnnxGraph) -> str:
    return ", ".join(f"{i.name} {i.type} {list(i.shape)}" for i in graph.inputs)
