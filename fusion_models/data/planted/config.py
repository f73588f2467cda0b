"""The dials of planted data: what is true of a world, by whose signals it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fusion_models.config.requirement import require
from fusion_models.modalities import require_modalities

MODALITIES: tuple[str, ...] = ("visual", "text", "metadata")
"""Of a planted world that names no others. Dials, shares and presets are written for these."""
SHARES: tuple[str, ...] = ("all", "text_visual", "text", "metadata", "visual", "synergy")
"""Signals of the label, each of unit variance and independent of the others; the rest of the label is noise.
Every other modality of a world has a signal of its own name beside them."""

SEEN_BY: dict[str, tuple[str, ...]] = {
    "all": MODALITIES,
    "text_visual": ("visual", "text"),
    "text": ("text",),
    "metadata": ("metadata",),
    "visual": ("visual",),
    "synergy": ("visual", "text"),
}
"""Which modalities carry a signal. Synergy alone needs all of its carriers at once: each holds one factor of it."""


@dataclass(frozen=True, kw_only=True)
class OtherDials:
    """The dials of a modality with a name of its own: `share_NAME`, `v1_NAME`, and `NAME_width` and so on."""

    share: float = 0.0
    """Variance share of the utility that it alone sees; with 0 it is noise, but for what all modalities see."""
    v1: float = 0.0
    """Weight in V1 of the best prediction from its signals."""
    width: int = 16
    coding: str = "linear"
    scale: float = 1.0
    unique_scale: float = 1.0
    shared_scale: float = 1.0
    noise: float = 0.1
    noise_scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PlantedConfig:
    """What is true of a planted dataset. Every field is a dial: `planted:healthy?queries=2000&share_visual=0.3`.

    A document's utility is the sum of sqrt(share) times each signal of SHARES and of noise; its grade is the rank of
    the utility within its query. Each modality sees its signals through a code: a block of features a signal.
    """

    modalities: tuple[str, ...] = MODALITIES
    """Of the world, in this order: two or more, of any name. What is said of one that a world lacks does not count."""
    others: tuple[tuple[str, OtherDials], ...] = ()
    """Dials of those that are none of MODALITIES; the default ones where nothing is said."""
    seed: int = 0
    queries: int = 1600
    """Of all splits together."""
    validation_fraction: float = 0.1875
    test_fraction: float = 0.375
    candidates: int = 20
    """Documents a query; each query has its own items."""
    candidates_spread: float = 0.0
    """List lengths are uniform in candidates * (1 ± spread)."""
    subdomains: int = 3
    grades: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1)
    """Fraction of a query's documents with label 0, 1, 2, ..., worst first."""

    share_all: float = 0.15
    """Variance share of the utility that every modality of the world sees: redundancy."""
    share_text_visual: float = 0.05
    """Seen by text and image."""
    share_text: float = 0.2
    """Seen by text alone: unique."""
    share_metadata: float = 0.1
    share_visual: float = 0.2
    share_synergy: float = 0.05
    """The product of a factor in the text and a factor in the image: neither tells anything alone."""

    visual_width: int = 32
    text_width: int = 32
    metadata_width: int = 12
    block: int = 4
    """Features that code one signal; the rest of a modality's width is noise."""
    visual_coding: str = "linear"
    """`linear`: each feature of the unique signal's block is proportional to it. `sign`: half of the block holds random
    signs, the other half the signal times these signs, so that a linear readout finds nothing and a product all."""
    text_coding: str = "linear"
    metadata_coding: str = "linear"
    visual_scale: float = 1.0
    """Raw scale of the modality's features: what an unstandardised projection has to overcome."""
    text_scale: float = 1.0
    metadata_scale: float = 1.0
    visual_unique_scale: float = 1.0
    """Raw scale of the unique signal's block, on top of the modality's."""
    text_unique_scale: float = 1.0
    metadata_unique_scale: float = 1.0
    visual_shared_scale: float = 1.0
    """Raw scale of the blocks of shared signals and of the synergy's factor, on top of the modality's."""
    text_shared_scale: float = 1.0
    metadata_shared_scale: float = 1.0
    visual_noise: float = 0.1
    """Deviation of what is added to each signal before it is coded: never to be decoded away."""
    text_noise: float = 0.1
    metadata_noise: float = 0.1
    visual_noise_scale: float = 1.0
    """Raw scale of the features that code nothing, on top of the modality's."""
    text_noise_scale: float = 1.0
    metadata_noise_scale: float = 1.0
    visual_offset: float = 0.0
    """Mean of the raw features, in units of the modality's scale: with 0, blanking to zero is blanking to the mean."""
    text_offset: float = 0.0
    metadata_offset: float = 0.0

    v1_text: float = 1.0
    """Weight in V1 of the best prediction from the text's own signals (unit variance; 0 if the text has none)."""
    v1_metadata: float = 0.35
    v1_visual: float = 0.0
    v1_noise: float = 0.3
    """Weight in V1 of noise of unit variance."""
    v1_query_offset: float = 0.0
    """Deviation of a constant added to all of a query's V1 scores, in units of V1's deviation."""
    v1_pair_feature: bool = False
    """V1's score is also the judgements' one feature: part of the context input."""
    label_lean: float = 0.0
    """Training labels grade utility + lean * V1; validation and test labels grade the utility."""

    item_reuse: float = 1.0
    """Queries that judge an item, on average over the catalogue. 1: each query has its own items. Above, signals and
    features are an item's, the utility's noise and V1's a judgement's, and test items recur in training."""
    visual_hash: bool = False
    """The image codes no signal: it is `visual_width` Gaussian numbers an item, the same wherever the item recurs. The
    signal `visual` is then an item's quality that shows nowhere, and can only be learnt by heart."""
    visual_copy: bool = False
    """The image holds the text's columns, as many as it has width for. The signal `visual` then shows nowhere."""
    shared_words: int = 0
    """Words in the vocabulary from which each query's text draws two. 0: queries have no text."""
    cluster_zipf: float = 0.0
    """The word of rank r is drawn in proportion to r ** -zipf: how unlike in size clusters of queries are."""
    word_effect: float = 0.0
    """Deviation, over words, of the weight that their queries give to the signal `visual`, as a fraction of its mean:
    queries of one word then gain alike."""
    near_copies: float = 0.0
    """Fraction of the test queries that repeat a training query: its candidates, its labels, V1's scores and, where
    there are texts, its words and one more."""
    near_copy_shift: float = 0.0
    """Above 0 a copy's candidates have ids of their own, and features moved by so many of the column's deviations."""
    label_sparsity: float = 0.0
    """Chance with which a label above 0 is lost (reads 0), in every split: a query may be left without any."""

    def __post_init__(self) -> None:
        require_modalities(self.modalities)
        taken = [name for name in self.modalities if name in {*SHARES, "noise"} - set(MODALITIES)]
        require(not taken, f"a modality cannot be called {', '.join(taken)}: a signal is")
        stray = [name for name, _ in self.others if name not in self.modalities or name in MODALITIES]
        require(not stray, f"dials are given of {', '.join(stray)}, which the world has not")
        for name in self.signal_names:
            require(self.share(name) >= 0, f"share_{name} must be >= 0, got {self.share(name)}")
        require(self.noise_share > -1e-9, f"the shares must sum to at most 1, got {1 - self.noise_share:g}")
        require(len(self.grades) > 1 and abs(sum(self.grades) - 1) < 1e-6, f"grades must sum to 1, got {self.grades}")
        require(all(g >= 0 for g in self.grades), f"grades are fractions, got {self.grades}")
        require(self.candidates >= 1, f"candidates must be >= 1, got {self.candidates}")
        require(0 <= self.candidates_spread < 1, f"candidates_spread must be in [0, 1), got {self.candidates_spread}")
        require(self.subdomains >= 1, f"subdomains must be >= 1, got {self.subdomains}")
        require(min(self.split_sizes) >= 1, f"each split needs a query, got {self.split_sizes} of {self.queries}")
        require(self.block >= 2 and self.block % 2 == 0, f"block must be even and >= 2, got {self.block}")
        for modality in self.modalities:
            coding, width = self.dial(modality, "coding"), self.width(modality)
            needed = self.block * len(self.signals(modality))
            require(coding in ("linear", "sign"), f"{modality}_coding must be linear or sign, got {coding!r}")
            require(width >= max(needed, 1), f"{modality}_width must be >= {needed} for its blocks, got {width}")
        weights = (*(self.v1_weight(m) for m in self.modalities), self.v1_noise)
        said = ", ".join([*(f"v1_{m}" for m in sorted(self.modalities)), "v1_noise"])
        require(any(w != 0 for w in weights), f"one of {said} must not be 0")
        self._require_recurring()

    def _require_recurring(self) -> None:
        """The dials by which queries and items have something in common."""
        require(self.item_reuse >= 1, f"item_reuse must be >= 1, got {self.item_reuse}")
        needs = {"visual"} if self.visual_hash else {"visual", "text"} if self.visual_copy else set()
        require(needs <= set(self.modalities), f"visual_hash and visual_copy need {' and '.join(sorted(needs))}")
        require(not (self.visual_hash and self.visual_copy), "visual_hash and visual_copy exclude each other")
        require(
            self.shared_words == 0 or self.shared_words >= 2, f"shared_words must be 0 or >= 2, got {self.shared_words}"
        )
        for name in ("cluster_zipf", "word_effect", "near_copy_shift"):
            require(getattr(self, name) >= 0, f"{name} must be >= 0, got {getattr(self, name)}")
        for name in ("cluster_zipf", "word_effect"):
            require(self.shared_words > 0 or getattr(self, name) == 0, f"{name} needs shared_words above 0")
        require(0 <= self.near_copies <= 1, f"near_copies must be in [0, 1], got {self.near_copies}")
        require(self.near_copies > 0 or self.near_copy_shift == 0, "near_copy_shift needs near_copies above 0")
        require(0 <= self.label_sparsity < 1, f"label_sparsity must be in [0, 1), got {self.label_sparsity}")

    @property
    def signal_names(self) -> tuple[str, ...]:
        """SHARES, and a signal for every modality that is none of MODALITIES."""
        return (*SHARES, *(m for m in self.modalities if m not in MODALITIES))

    def seen_by(self, name: str) -> tuple[str, ...]:
        """The modalities that carry a signal."""
        return self.modalities if name == "all" else SEEN_BY.get(name, (name,))

    def share(self, name: str) -> float:
        """Variance share of one of `signal_names`; 0 where the world lacks a modality that carries it."""
        if not set(self.seen_by(name)) <= set(self.modalities):
            return 0.0
        return float(getattr(self, f"share_{name}") if name in SHARES else self._other(name).share)

    def dial(self, modality: str, name: str) -> Any:
        """`coding`, `noise`, `scale` and so on of one modality."""
        return getattr(self, f"{modality}_{name}") if modality in MODALITIES else getattr(self._other(modality), name)

    def v1_weight(self, modality: str) -> float:
        """What V1 gives to the best prediction from one modality's signals."""
        return float(getattr(self, f"v1_{modality}") if modality in MODALITIES else self._other(modality).v1)

    def _other(self, modality: str) -> OtherDials:
        return dict(self.others).get(modality, OtherDials())

    def expected_share(self, name: str) -> float:
        """Variance share of what a ranker can expect of a signal that knows nothing of the query's words."""
        return self.share(name) / (1 + self.word_effect**2) if name == "visual" else self.share(name)

    @property
    def noise_share(self) -> float:
        """What no modality can tell."""
        return 1.0 - sum(self.share(name) for name in self.signal_names)

    @property
    def split_sizes(self) -> tuple[int, int, int]:
        """Queries for train, validation, test."""
        validation, test = round(self.queries * self.validation_fraction), round(self.queries * self.test_fraction)
        return self.queries - validation - test, validation, test

    def width(self, modality: str) -> int:
        """Features of one modality."""
        return int(self.dial(modality, "width"))

    def signals(self, modality: str) -> tuple[str, ...]:
        """Signals that a modality codes: those of a share above 0 that it sees. A hash or a copy codes none itself."""
        if modality == "visual" and (self.visual_hash or self.visual_copy):
            return ()
        return tuple(name for name in self.signal_names if modality in self.seen_by(name) and self.share(name) > 0)

    def shown(self, modality: str) -> tuple[str, ...]:
        """Signals that can be read from a modality: those that it codes, and for a copy those of the text."""
        if modality == "visual" and self.visual_copy:
            return tuple(name for name in self.signals("text") if name != "synergy")
        return self.signals(modality)
