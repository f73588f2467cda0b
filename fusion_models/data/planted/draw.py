"""Planted data whose truth is known, drawn from the dials of a `PlantedConfig`.

Every part has a random stream of its own, named by what it draws, so that turning one dial leaves the other parts'
draws as they were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusion_models.data.planted.config import PlantedConfig
from fusion_models.data.planted.recurring import Lists, lists, repeated_queries, texts, visual_weight, words
from fusion_models.data.planted.streams import normal, random_stream
from fusion_models.data.splits import SPLITS

GENERATOR = 1
"""Version of the draws: part of a planted dataset's name in the cache."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Planted:
    """A drawn dataset: Q queries, N documents grouped by query, M items."""

    config: PlantedConfig
    query: npt.NDArray[np.int64]
    """`[N]` row of each document's query."""
    split: npt.NDArray[np.int8]
    """`[Q]` codes into SPLITS."""
    signals: dict[str, Floats]
    """`[N]` of unit variance for each of `signal_names`; `synergy` is the product of `synergy_text` and
    `synergy_visual`."""
    utility: Floats
    """`[N]` of unit variance: what validation and test labels grade."""
    v1: Floats
    """`[N]`."""
    labels: npt.NDArray[np.int64]
    """`[N]`."""
    features: dict[str, npt.NDArray[np.float32]]
    """`[M, D]` a modality; M is N, in the documents' order, unless items recur."""
    item: npt.NDArray[np.int64]
    """`[N]` row of each document's item."""
    text: list[str] | None
    """`[Q]`, or None where queries have none."""
    repeated: int
    """Test queries that repeat a training query."""

    @property
    def documents_of_split(self) -> npt.NDArray[np.int8]:
        """`[N]` each document's split."""
        return self.split[self.query]


def draw(config: PlantedConfig) -> Planted:
    """Draw a dataset; the same dials give the same numbers."""
    split = np.repeat(np.arange(len(SPLITS), dtype=np.int8), config.split_sizes)
    random_stream(config, "split").shuffle(split)
    original = repeated_queries(config, split)
    held = words(config) if config.shared_words else None
    asked = lists(config, _list_lengths(config), original)
    query, count = asked.query, len(asked.query)

    of_item = _signals(config, asked.catalogue)
    signals = {name: values[asked.drawn_as][asked.item] for name, values in of_item.items()}
    utility = np.sqrt(max(config.noise_share, 0.0)) * normal(config, "noise", count)[asked.document]
    for name in config.signal_names:
        weight = visual_weight(config, held)[original[query]] if held is not None and name == "visual" else 1.0
        utility = utility + weight * np.sqrt(config.share(name)) * signals[name]
    v1 = _v1(config, signals, normal(config, "v1_noise", count)[asked.document])
    graded = np.where(split[query] == SPLITS.index("train"), utility + config.label_lean * v1, utility)
    offset = config.v1_query_offset * normal(config, "v1_query_offset", config.queries)
    features = {m: _features(config, m, of_item, asked.catalogue) for m in config.modalities}
    if config.visual_copy:
        features["visual"] = _copied(config, features)
    labels = _thinned(config, _grades(graded, query, asked.sizes, config.grades))[asked.document]
    return Planted(
        config=config,
        query=query,
        split=split,
        signals=signals,
        utility=utility,
        v1=v1 + offset[query],
        labels=labels,
        features={m: _shown(config, m, values, asked) for m, values in features.items()},
        item=asked.item,
        text=None if held is None else texts(held, original),
        repeated=int((original != np.arange(config.queries)).sum()),
    )


def view(config: PlantedConfig, signals: dict[str, Floats], modalities: tuple[str, ...]) -> Floats:
    """`[N]` the best prediction of the utility from some modalities' signals, before any code or its noise.

    Zeros where they carry nothing.
    """
    total = np.zeros_like(signals["all"])
    for name in config.signal_names:
        seen = {modality for modality in modalities if name in config.shown(modality)}
        if seen == set(config.seen_by(name)) or (seen and name != "synergy"):
            total = total + np.sqrt(config.expected_share(name)) * signals[name]
    return total


def _signals(config: PlantedConfig, items: int) -> dict[str, Floats]:
    """`[items]` of the catalogue for each of `signal_names` and the two factors of the synergy."""
    parts = [name for name in config.signal_names if name != "synergy"]
    signals = {name: normal(config, name, items) for name in (*parts, "synergy_text", "synergy_visual")}
    signals["synergy"] = signals["synergy_text"] * signals["synergy_visual"]
    return signals


def _list_lengths(config: PlantedConfig) -> npt.NDArray[np.int64]:
    low = max(1, round(config.candidates * (1 - config.candidates_spread)))
    high = max(low, round(config.candidates * (1 + config.candidates_spread)))
    return random_stream(config, "candidates").integers(low, high + 1, size=config.queries)


def _v1(config: PlantedConfig, signals: dict[str, Floats], noise: Floats) -> Floats:
    """V1's score, unit variance, before the query's offset."""
    score = config.v1_noise * noise
    for modality in config.modalities:
        seen = view(config, signals, (modality,))
        told = [name for name in config.shown(modality) if name != "synergy"]
        strength = np.sqrt(sum(config.expected_share(name) for name in told))
        if strength > 0:
            score = score + config.v1_weight(modality) * seen / strength
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


def _thinned(config: PlantedConfig, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The labels without those that are lost."""
    lost = random_stream(config, "label_sparsity").random(len(labels)) < config.label_sparsity
    return np.where(lost, 0, labels)


def _copied(config: PlantedConfig, features: dict[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """`[items, D]` an image that holds the text's columns, as far as it has width; the rest of it stays noise."""
    image, text = features["visual"].copy(), features["text"]
    width = min(image.shape[1], text.shape[1])
    image[:, :width] = config.visual_scale * text[:, :width]
    return image


def _shown(
    config: PlantedConfig, modality: str, drawn: npt.NDArray[np.float32], asked: Lists
) -> npt.NDArray[np.float32]:
    """`[M, D]` every item's features: as they were drawn, and those of copies a little moved."""
    values = drawn[asked.drawn_as]
    if asked.moved.any():
        size = int(asked.moved.sum()), values.shape[1]
        values[asked.moved] += config.near_copy_shift * drawn.std(axis=0) * normal(config, f"{modality}/moved", *size)
    return values


def _features(config: PlantedConfig, modality: str, signals: dict[str, Floats], count: int) -> npt.NDArray[np.float32]:
    """`[items, D]` of the catalogue: a block a signal, then noise."""
    noise, width = config.dial(modality, "noise"), config.width(modality)
    parts: list[Floats] = []
    for name in config.signals(modality):
        signal = signals[f"synergy_{modality}" if name == "synergy" else name]
        seen = signal + noise * normal(config, f"{modality}/{name}/noise", count)
        seen = seen / np.sqrt(1 + noise**2)
        if name == modality:
            coding, scale = config.dial(modality, "coding"), config.dial(modality, "unique_scale")
        else:
            coding, scale = "linear", config.dial(modality, "shared_scale")
        parts.append(scale * _code(seen, coding, config.block, random_stream(config, f"{modality}/{name}/code")))
    idle = width - config.block * len(parts)
    parts.append(config.dial(modality, "noise_scale") * normal(config, f"{modality}/idle", count, idle))
    offset = config.dial(modality, "offset") * normal(config, f"{modality}/offset", width)
    values = config.dial(modality, "scale") * (np.concatenate(parts, axis=1) + offset)
    return np.asarray(values, dtype=np.float32)


def _code(signal: Floats, coding: str, width: int, random: np.random.Generator) -> Floats:
    """`[N, width]` of about unit variance a feature, from which a readout (`linear`) or a product (`sign`) decodes."""
    if coding == "linear":
        direction = random.choice([-1.0, 1.0], size=width) * random.uniform(0.7, 1.3, size=width)
        return signal[:, None] * direction
    carrier = random.choice([-1.0, 1.0], size=(len(signal), width // 2))
    return np.concatenate([carrier, carrier * signal[:, None]], axis=1)
