"""Encoders that sentence-transformers loads, by name or from a folder: of texts, of pictures, or of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from fusion_models.data.embedding.encoders import model_identity
from fusion_models.data.errors import DataError, foreign_errors


class LibraryModel:
    """A `SentenceTransformer`. No code that comes with a model is run, and no weights are unpickled."""

    def __init__(self, model: str, device: str, batch: int) -> None:
        """Load it, from the user's cache of models or their hub where it is a name. Raises DataError."""
        self.identity = model_identity(model)
        self._name, self._batch = model, batch
        try:
            from sentence_transformers import SentenceTransformer
            from transformers.utils import logging
        except ImportError as error:
            raise DataError(
                f"{model!r} needs sentence-transformers, which cannot be imported ({error}).",
                "Install it: `pip install -e '.[embed]'`, or give a .onnx file.",
            ) from error
        logging.disable_progress_bar()  # there is one of our own
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        with foreign_errors(
            f"the model {model!r} cannot be loaded", "Give a folder or name that sentence-transformers loads."
        ):
            self._model: Any = SentenceTransformer(
                model, device=device, trust_remote_code=False, model_kwargs={"use_safetensors": True}
            )

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing is assumed."""
        return ()

    def encode(self, things: Sequence[str] | Sequence[Image.Image]) -> npt.NDArray[np.float32]:
        """`[n, D]` of texts or RGB pictures."""
        with foreign_errors(f"the model {self._name!r} fails", "Give a model that takes what the column holds."):
            found = self._model.encode(
                list(things), batch_size=self._batch, convert_to_numpy=True, show_progress_bar=False
            )
        return np.asarray(found, dtype=np.float32)
