"""A `.onnx` file as a function of arrays, run by onnxruntime in batches of the size that it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fusion_models.data.embedding.encoders import model_identity
from fusion_models.data.errors import DataError, foreign_errors
from fusion_models.data.tables import local_path

EMBEDDINGS = ("sentence_embedding", "image_embeds", "text_embeds")
"""Outputs that are taken before the first one, where the graph names them."""

Floats = npt.NDArray[np.float32]


class OnnxGraph:
    """`FILE.onnx`, or `FILE.onnx#OUTPUT` for an output, or a value within, by its name."""

    def __init__(self, model: str, device: str) -> None:
        """Open it. Raises DataError where there is none, or onnxruntime does not read it."""
        self.identity = model_identity(model)
        name, _, output = model.partition("#")
        self.name, self.path = Path(name).name, local_path(name)
        try:
            import onnxruntime
        except ImportError as error:
            raise DataError(
                f"{self.name} needs onnxruntime, which is not installed.", "Install it: `pip install -e '.[embed]'`."
            ) from error
        with foreign_errors(f"{self.name} cannot be opened", "Give a model that onnxruntime opens."):
            options = {"providers": _providers(onnxruntime, device)}
            self._session = onnxruntime.InferenceSession(str(self.path), **options)
            names = [found.name for found in self._session.get_outputs()]
            if output and output not in names:
                self._session = onnxruntime.InferenceSession(_with_output(self.path, output, names), **options)
        self.inputs: list[Any] = list(self._session.get_inputs())
        self._output: str = output or next((name for name in EMBEDDINGS if name in names), names[0])

    def run(self, feeds: dict[str, npt.NDArray[Any]], mask: npt.NDArray[Any] | None = None) -> Floats:
        """`[n, D]` float32 of `[n, ...]` arrays an input.

        An output a token (`[n, T, D]`) is averaged over the tokens that `mask` `[n, T]` keeps, a map (`[n, C, h, w]`)
        over its places. Raises DataError where it is none of these, or no finite number.
        """
        count = len(next(iter(feeds.values())))
        fixed = self.inputs[0].shape[0] if self.inputs[0].shape else None
        step = fixed if isinstance(fixed, int) else count
        found = []
        for first in range(0, count, step):
            piece = {name: values[first : first + step] for name, values in feeds.items()}
            with foreign_errors(f"{self.name} fails", "Look at what inputs it takes, and how they are prepared."):
                given = {name: _filled(values, step) for name, values in piece.items()}
                (values,) = self._session.run([self._output], given)
            kept = len(next(iter(piece.values())))
            found.append(self._pooled(np.asarray(values)[:kept], None if mask is None else mask[first : first + step]))
        return np.concatenate(found)

    def _pooled(self, values: npt.NDArray[Any], mask: npt.NDArray[Any] | None) -> Floats:
        values = values.astype(np.float32)
        if values.ndim == 4:
            return np.asarray(values.mean(axis=(2, 3)))
        if values.ndim == 3 and mask is not None and mask.shape == values.shape[:2]:
            kept = mask.astype(np.float32)[:, :, None]
            return np.asarray((values * kept).sum(axis=1) / np.maximum(kept.sum(axis=1), 1))
        if values.ndim == 3:
            return np.asarray(values.mean(axis=1))
        if values.ndim == 2:
            return values
        raise DataError(
            f"{self.name}'s output {self._output!r} has shape {list(values.shape)}, which is no vector a row.",
            f"Name another one: {self.name}#OUTPUT.",
        )


def _with_output(path: Path, asked: str, names: list[str]) -> bytes:
    """The model with a value from within it as one more output: a classifier's features before its last layer."""
    try:
        import onnx
    except ImportError as error:
        raise DataError(
            f"{asked!r} is no output of {path.name} ({', '.join(names)}), and finding it within needs onnx.",
            "Install it: `pip install -e '.[embed]'`.",
        ) from error
    model = onnx.load(str(path))
    if not any(asked in node.output for node in model.graph.node):
        raise DataError(f"{path.name} has no output {asked!r}.", f"It has {', '.join(names)}, and values within.")
    model.graph.output.append(onnx.ValueInfoProto(name=asked))
    made: bytes = model.SerializeToString()
    return made


def _providers(onnxruntime: Any, device: str) -> list[str]:
    gpu, there = "CUDAExecutionProvider", onnxruntime.get_available_providers()
    if device == "cuda" and gpu not in there:
        raise DataError("onnxruntime sees no GPU here.", "Install onnxruntime-gpu, or leave --device out.")
    return [gpu, "CPUExecutionProvider"] if gpu in there and device != "cpu" else ["CPUExecutionProvider"]


def _filled(values: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """`rows` rows, the last one repeated: a graph may take only so many."""
    short = rows - len(values)
    return np.concatenate([values, np.repeat(values[-1:], short, axis=0)]) if short > 0 else values
