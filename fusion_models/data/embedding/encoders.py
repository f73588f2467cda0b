"""What a model is here: pictures or words in, vectors out; and which model a name, a folder or a file means."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from fusion_models.data.errors import DataError
from fusion_models.data.tables import local_path

Floats = npt.NDArray[np.float32]
T_contra = TypeVar("T_contra", contravariant=True)

BESIDE = ("preprocessor_config.json", "tokenizer.json", "tokenizer_config.json")
"""Files beside a graph that say how its input is prepared."""


class Encoder(Protocol[T_contra]):
    """A model that makes vectors."""

    @property
    def identity(self) -> str:
        """What changes when the model may give other vectors."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed, as sentences for the user."""

    def encode(self, things: Sequence[T_contra]) -> Floats:
        """`[n, D]` float32 of n >= 1 pictures or texts, in their order."""


def picture_encoder(model: str, device: str = "auto", batch: int = 64) -> Encoder[Image.Image]:
    """The encoder of pictures (PIL, RGB) that `model` names: a `.onnx` file, or what sentence-transformers loads.

    `device`: `auto` (a GPU where there is one), `cpu`, `cuda`. Raises DataError where it cannot be loaded.
    """
    if is_graph(model):
        from fusion_models.data.embedding.onnx_models import OnnxPictures

        return OnnxPictures(model, device)
    from fusion_models.data.embedding.library import LibraryModel

    return LibraryModel(model, device, batch)


def word_encoder(model: str, device: str = "auto", batch: int = 64) -> Encoder[str]:
    """The encoder of texts that `model` names, as `picture_encoder`. Raises DataError where it cannot be loaded."""
    if is_graph(model):
        from fusion_models.data.embedding.onnx_models import OnnxWords

        return OnnxWords(model, device)
    from fusion_models.data.embedding.library import LibraryModel

    return LibraryModel(model, device, batch)


def is_graph(model: str) -> bool:
    """Whether it names a `.onnx` file, with or without `#OUTPUT` behind it."""
    return model.partition("#")[0].lower().endswith(".onnx")


def model_identity(model: str) -> str:
    """A name as it is; a file or folder with the sizes and times of what lies in it.

    Raises DataError for a path that is not there (a name has no folder in front but its owner's).
    """
    name = model.partition("#")[0] if is_graph(model) else model
    path = local_path(name)
    if is_graph(model):
        if not path.is_file():
            raise DataError(f"no model at {name!r}.", "Give the path of a .onnx file.")
        files = [path, *(f for near in BESIDE if (f := beside(path, near)) is not None)]
    elif path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.is_file())
    elif name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise DataError(f"no model at {name!r}.", "Give a folder that is there, a .onnx file, or a model's name.")
    else:
        return model
    stamps = [f"{file.absolute()}|{file.stat().st_size}|{file.stat().st_mtime_ns}" for file in files]
    return hashlib.sha256("\n".join([model, *stamps]).encode()).hexdigest()


def beside(graph: Path, name: str) -> Path | None:
    """A file of that name in the graph's folder, or in the folder above (`onnx/model.onnx`); None where neither."""
    return next((p for p in (graph.parent / name, graph.parent.parent / name) if p.is_file()), None)
