"""A dataset's modalities and widths, and the training split's statistics that a model carries with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fusion_models.modalities import PICTURED, QUANTITIES, TITLED

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class FeatureSchema:
    """How wide each input is (number of float32 features)."""

    widths: dict[str, int]
    """Of each modality, in the dataset's order."""
    quantities: tuple[str, ...] = QUANTITIES
    """Modalities whose features are separate quantities, each on a scale of its own, and no embedding."""
    query: int = 0
    """Width of the queries' `features`; 0 where there are none."""
    pair: int = 0
    """Width of the judgements' `features`; 0 where there are none."""
    thumbnail: int | None = None
    """Side in pixels of the stored RGB thumbnails; None: a dataset without images."""
    pictured: str = PICTURED
    """The modality whose pictures they are."""
    titled: str = TITLED
    """The modality that the items' titles are the text of."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """The dataset's modalities, in its order."""
        return tuple(self.widths)

    def shows(self, modality: str) -> bool:
        """Whether the thumbnails are pictures of this modality."""
        return self.thumbnail is not None and modality == self.pictured

    @property
    def context(self) -> int:
        """Width of the context input: query features, then pair features."""
        return self.query + self.pair

    def width(self, modality: str) -> int:
        """Width of one modality."""
        return self.widths[modality]


@dataclass(frozen=True, kw_only=True)
class FeatureStatistics:
    """Mean and standard deviation over the training split alone; a constant feature's deviation is 1."""

    mean: dict[str, Array]
    """Per modality and for `context`: `[D]`."""
    std: dict[str, Array]
    """Per modality and for `context`: `[D]`, > 0."""
    v1_mean: float = 0.0
    """Of V1's scores as a model reads them."""
    v1_std: float = 1.0
    v1_input: Literal["score", "centred", "rank"] = "score"
    """How a model reads them: one of `arrays.v1_scores.V1_INPUTS`."""
    encodings: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Modality -> JSON-ready form of the `ScalarEncoding` of its scalar columns; only of those that have any."""
