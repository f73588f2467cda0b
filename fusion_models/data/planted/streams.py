"""Random numbers of planted data: every part has a stream of its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fusion_models.data.planted.config import PlantedConfig


def random_stream(config: PlantedConfig, name: str) -> np.random.Generator:
    """The random numbers of one part, which its name and the seed decide."""
    return np.random.default_rng([config.seed, *name.encode()])


def normal(config: PlantedConfig, name: str, *shape: int) -> npt.NDArray[np.float64]:
    """Standard normal numbers of one part."""
    return random_stream(config, name).standard_normal(shape)
