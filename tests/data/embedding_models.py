"""Small ONNX models whose vectors a test can compute by hand."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

Shape = Sequence[int | str]


def save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, Any]) -> str:
    """A graph of these nodes, as a file; its path."""
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, held)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))
    return str(path)


def mean_colour(path: Path, shape: Shape = ("n", 3, 4, 4)) -> str:
    """`[N, 3, H, W]` -> a map of one place: the mean of each channel."""
    return save(
        path,
        [helper.make_node("GlobalAveragePool", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [shape[0], 3, 1, 1])],
        {},
    )


def token_vectors(path: Path, table: np.ndarray, tokens: int | str = "t") -> str:
    """`input_ids`, `attention_mask` -> rows of `table`, a token each."""
    return save(
        path,
        [
            helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
            helper.make_node("Cast", ["rows"], ["last_hidden_state"], to=TensorProto.FLOAT),
            helper.make_node("Identity", ["attention_mask"], ["mask"]),
        ],
        [helper.make_tensor_value_info(n, TensorProto.INT64, ["n", tokens]) for n in ("input_ids", "attention_mask")],
        [
            helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", tokens, table.shape[1]]),
            helper.make_tensor_value_info("mask", TensorProto.INT64, ["n", tokens]),
        ],
        {"table": table},
    )


def numbered_words(path: Path, numbers: dict[str, float]) -> str:
    """Text `[N, 1]` -> the number that it is known by, and -1 for any other."""
    node = helper.make_node(
        "LabelEncoder",
        ["words"],
        ["number"],
        domain="ai.onnx.ml",
        keys_strings=list(numbers),
        values_floats=list(numbers.values()),
        default_float=-1.0,
    )
    return save(
        path,
        [node],
        [helper.make_tensor_value_info("words", TensorProto.STRING, ["n", 1])],
        [helper.make_tensor_value_info("number", TensorProto.FLOAT, ["n", 1])],
        {},
    )


def png(colour: tuple[int, ...], size: tuple[int, int] = (8, 8), mode: str = "RGB") -> bytes:
    """A picture of one colour, as PNG."""
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, "PNG")
    return out.getvalue()
