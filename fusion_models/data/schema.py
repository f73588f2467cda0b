"""A dataset's modalities and widths, and the training split's statistics that a model carries with it."""

from __future__ import annotations

from collections.abc import Mapping
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


@dataclass(frozen=True, kw_only=True)
class DataDescription:
    """What a ranker must know of the dataset that it was trained on, so that it scores without it."""

    source: str
    fingerprint: str
    schema: FeatureSchema
    statistics: FeatureStatistics

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; `from_json` gives it back."""
        named = {"source": self.source, "fingerprint": self.fingerprint}
        return named | described(self.schema, self.statistics)

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> DataDescription:
        """What `to_json` wrote. Raises KeyError where something is missing."""
        schema, statistics = read_described(found)
        return DataDescription(
            source=found["source"], fingerprint=found["fingerprint"], schema=schema, statistics=statistics
        )


def described(schema: FeatureSchema, statistics: FeatureStatistics) -> dict[str, Any]:
    """Widths and statistics as JSON, under the names of a dataset's meta.json."""
    return {
        "widths": schema.widths,
        "quantities": list(schema.quantities),
        "query_width": schema.query,
        "pair_width": schema.pair,
        "thumbnail": schema.thumbnail,
        "pictured": schema.pictured,
        "titled": schema.titled,
        "mean": {name: values.tolist() for name, values in statistics.mean.items()},
        "std": {name: values.tolist() for name, values in statistics.std.items()},
        "v1_input": statistics.v1_input,
        "v1_mean": statistics.v1_mean,
        "v1_std": statistics.v1_std,
        "encodings": statistics.encodings,
    }


def read_described(found: Mapping[str, Any]) -> tuple[FeatureSchema, FeatureStatistics]:
    """What `described` or a dataset's meta.json says."""
    schema = FeatureSchema(
        widths=found["widths"],
        quantities=tuple(found["quantities"]),
        query=found["query_width"],
        pair=found["pair_width"],
        thumbnail=found["thumbnail"],
        pictured=found["pictured"],
        titled=found["titled"],
    )
    statistics = FeatureStatistics(
        mean={name: np.array(values, dtype=np.float32) for name, values in found["mean"].items()},
        std={name: np.array(values, dtype=np.float32) for name, values in found["std"].items()},
        v1_mean=found["v1_mean"],
        v1_std=found["v1_std"],
        v1_input=found["v1_input"],
        encodings=found["encodings"],
    )
    return schema, statistics
