"""Planted data whose truth is known, drawn from the dials of a `PlantedConfig`.

Every part has a random stream of its own, named by what it draws, so that turning one dial leaves the other parts'
draws as they were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusion_models.data.planted.config import MODALITIES, SEEN_BY, SHARES, PlantedConfig
from fusion_models.data.splits import SPLITS

GENERATOR = 1
"""Version of the draws: part of a planted dataset's name in the cache."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Planted:
    """A drawn dataset, N documents grouped by query."""

    config: PlantedConfig
    query: npt.NDArray[np.int64]
    """`[N]` row of each document's query."""
    split: npt.NDArray[np.int8]
    """`[Q]` codes into SPLITS."""
    signals: dict[str, Floats]
    """`[N]` of unit variance for each of SHARES; `synergy` is the product of `synergy_text` and `synergy_visual`."""
    utility: Floats
    """`[N]` of unit variance: what validation and test labels grade."""
    v1: Floats
    """`[N]`."""
    labels: npt.NDArray[np.int64]
    """`[N]`."""
    features: dict[str, npt.NDArray[np.float32]]
    """`[N, D]` a modality."""

    @property
    def documents_of_split(self) -> npt.NDArray[np.int8]:
        """`[N]` each document's split."""
        return self.split[self.query]


def draw(config: PlantedConfig) -> Planted:
    """Draw a dataset; the same dials give the same numbers."""
    sizes = _list_lengths(config)
    query = np.repeat(np.arange(config.queries), sizes)
    split = np.repeat(np.arange(len(SPLITS), dtype=np.int8), config.split_sizes)
    random_stream(config, "split").shuffle(split)
    signals = {name: _normal(config, name, len(query)) for name in SHARES if name != "synergy"}
    signals["synergy_text"] = _normal(config, "synergy_text", len(query))
    signals["synergy_visual"] = _normal(config, "synergy_visual", len(query))
    signals["synergy"] = signals["synergy_text"] * signals["synergy_visual"]
    utility = np.sqrt(max(config.noise_share, 0.0)) * _normal(config, "noise", len(query))
    for name in SHARES:
        utility = utility + np.sqrt(config.share(name)) * signals[name]
    v1 = _v1(config, signals, query)
    graded = np.where(split[query] == SPLITS.index("train"), utility + config.label_lean * v1, utility)
    offset = config.v1_query_offset * _normal(config, "v1_query_offset", config.queries)
    features = {m: _features(config, m, signals, len(query)) for m in MODALITIES}
    labels = _grades(graded, query, sizes, config.grades)
    return Planted(config, query, split, signals, utility, v1 + offset[query], labels, features)


def view(config: PlantedConfig, signals: dict[str, Floats], modalities: tuple[str, ...]) -> Floats:
    """`[N]` the best prediction of the utility from some modalities' signals, before any code or its noise.

    Zeros where they carry nothing.
    """
    total = np.zeros_like(signals["all"])
    for name in SHARES:
        seen = set(SEEN_BY[name]) & set(modalities)
        if seen == set(SEEN_BY[name]) or (seen and name != "synergy"):
            total = total + np.sqrt(config.share(name)) * signals[name]
    return total


def random_stream(config: PlantedConfig, name: str) -> np.random.Generator:
    """The random numbers of one part, which its name and the seed decide."""
    return np.random.default_rng([config.seed, *name.encode()])


def _normal(config: PlantedConfig, name: str, *shape: int) -> Floats:
    return random_stream(config, name).standard_normal(shape)


def _list_lengths(config: PlantedConfig) -> npt.NDArray[np.int64]:
    low = max(1, round(config.candidates * (1 - config.candidates_spread)))
    high = max(low, round(config.candidates * (1 + config.candidates_spread)))
    return random_stream(config, "candidates").integers(low, high + 1, size=config.queries)


def _v1(config: PlantedConfig, signals: dict[str, Floats], query: npt.NDArray[np.int64]) -> Floats:
    """V1's score, unit variance, before the query's offset."""
    score = config.v1_noise * _normal(config, "v1_noise", len(query))
    for modality in MODALITIES:
        seen = view(config, signals, (modality,))
        strength = np.sqrt(
            sum(config.share(name) for name in SHARES if modality in SEEN_BY[name] and name != "synergy")
        )
        if strength > 0:
            score = score + getattr(config, f"v1_{modality}") * seen / strength
    deviation = score.std()
    return np.asarray(score / deviation if deviation > 0 else score)


def _grades(
    utility: Floats, query: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], grades: tuple[float, ...]
) -> npt.NDArray[np.int64]:
    """`[N]` label by the utility's rank within its query."""
    order = np.lexsort((utility, query))
    first = np.cumsum(sizes) - sizes
    rank = np.empty(len(query))
    rank[order] = np.arange(len(query)) - first[query[order]]
    edges = np.cumsum(grades)[:-1]
    return np.searchsorted(edges, (rank + 0.5) / sizes[query], side="right").astype(np.int64)


def _features(config: PlantedConfig, modality: str, signals: dict[str, Floats], count: int) -> npt.NDArray[np.float32]:
    """`[N, D]`: a block a signal, then noise."""
    noise, width = getattr(config, f"{modality}_noise"), config.width(modality)
    parts: list[Floats] = []
    for name in config.signals(modality):
        signal = signals[f"synergy_{modality}" if name == "synergy" else name]
        seen = signal + noise * _normal(config, f"{modality}/{name}/noise", count)
        seen = seen / np.sqrt(1 + noise**2)
        if name == modality:
            coding, scale = getattr(config, f"{modality}_coding"), getattr(config, f"{modality}_unique_scale")
        else:
            coding, scale = "linear", getattr(config, f"{modality}_shared_scale")
        parts.append(scale * _code(seen, coding, config.block, random_stream(config, f"{modality}/{name}/code")))
    idle = width - config.block * len(parts)
    parts.append(getattr(config, f"{modality}_noise_scale") * _normal(config, f"{modality}/idle", count, idle))
    offset = getattr(config, f"{modality}_offset") * _normal(config, f"{modality}/offset", width)
    values = getattr(config, f"{modality}_scale") * (np.concatenate(parts, axis=1) + offset)
    return np.asarray(values, dtype=np.float32)


def _code(signal: Floats, coding: str, width: int, random: np.random.Generator) -> Floats:
    """`[N, width]` of about unit variance a feature, from which a readout (`linear`) or a product (`sign`) decodes."""
    if coding == "linear":
        direction = random.choice([-1.0, 1.0], size=width) * random.uniform(0.7, 1.3, size=width)
        return signal[:, None] * direction
    carrier = random.choice([-1.0, 1.0], size=(len(signal), width // 2))
    return np.concatenate([carrier, carrier * signal[:, None]], axis=1)
