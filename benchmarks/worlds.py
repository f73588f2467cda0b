"""Worlds drawn from a prior, in three strata, and what is true of each: for `many_worlds.py`.

The number of a world decides all of it. What is true comes from a planted oracle on thousands of queries that no run
sees: the best prediction from every signal, V1's score among them, with the image and without.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal
from urllib.parse import urlencode

import numpy as np

from fusion_models.data.planted import draw
from fusion_models.data.planted.config import PlantedConfig
from fusion_models.data.planted.presets import planted_config
from fusion_models.data.planted.truth import truth
from spaces import PHASES

PHASE = PHASES["phase3"]
PRESET = "planted:healthy"
TRAIN_QUERIES = 400
VALIDATION_QUERIES = 250
TEST_QUERIES = (300, 700, 1_500)
POPULATION = 6_000
"""Test queries that the oracle is read on."""
POPULATION_SEED = 1_000_003
"""Added to a world's data seed: the population is another draw of the same dials."""
PRIOR = 1
"""Version of the prior, part of every world's draws: worlds of two priors have nothing in common."""

Stratum = Literal["nothing there", "boundary", "healthy"]
Dials = dict[str, Any]
Outcome = Literal["right", "wrong", "open", "failed"]


@dataclass(frozen=True)
class World:
    """One planted dataset of the prior."""

    number: int
    stratum: Stratum
    kind: str
    dials: Dials

    @property
    def source(self) -> str:
        """What `--data` takes."""
        return f"{PRESET}?{urlencode(self.dials)}"

    @property
    def config(self) -> PlantedConfig:
        """The dials, read."""
        return planted_config(self.source)

    @property
    def test_queries(self) -> int:
        """Of the run's test split."""
        return self.config.split_sizes[2]


def _noise(random: np.random.Generator) -> Dials:
    return {"share_visual": 0.0, "share_all": 0.0, "share_text": 0.35}


def _hash(random: np.random.Generator) -> Dials:
    return {"visual_hash": True, "item_reuse": float(random.choice([4, 8, 16]))}


def _copy(random: np.random.Generator) -> Dials:
    return {"visual_copy": True}


def _v1_reads(random: np.random.Generator) -> Dials:
    return {"v1_visual": 1.0, "v1_text": 0.3, "v1_metadata": 0.0, "v1_noise": float(random.choice([0.0, 0.1]))}


def _near_copies(random: np.random.Generator) -> Dials:
    shift = float(random.choice([0.0, 0.01]))
    return {"visual_hash": True, "near_copies": 0.5, "near_copy_shift": shift, "shared_words": 300}


def _little(random: np.random.Generator) -> Dials:
    return {"share_visual": round(float(np.exp(random.uniform(np.log(0.004), np.log(0.03)))), 4)}


def _good_v1(random: np.random.Generator) -> Dials:
    return {"share_visual": 0.04, "v1_noise": 0.1, "v1_metadata": round(float(random.uniform(0.6, 1.0)), 2)}


def _small_drop(random: np.random.Generator) -> Dials:
    return {"share_visual": round(float(random.uniform(0.04, 0.1)), 3)}


def _healthy(random: np.random.Generator) -> Dials:
    return {
        "share_visual": round(float(random.uniform(0.18, 0.3)), 3),
        "v1_noise": round(float(random.uniform(0.5, 1.0)), 2),
    }


KINDS: dict[Stratum, dict[str, Callable[[np.random.Generator], Dials]]] = {
    "nothing there": {
        "noise": _noise,
        "hash": _hash,
        "copy": _copy,
        "V1 reads it": _v1_reads,
        "near-copies": _near_copies,
    },
    "boundary": {"a little": _little, "V1 knows most": _good_v1, "a small drop": _small_drop},
    "healthy": {"healthy": _healthy},
}
"""Stratum -> kind -> the dials that make it."""


def world(number: int, train_queries: int = TRAIN_QUERIES) -> World:
    """World 0, 1, 2, ...: strata take turns, and within each its kinds."""
    strata = list(KINDS)
    stratum, turn = strata[number % len(strata)], number // len(strata)
    kinds = list(KINDS[stratum])
    kind = kinds[turn % len(kinds)]
    random = np.random.default_rng([PRIOR, number])
    dials = _any_world(random, train_queries) | {"seed": number} | KINDS[stratum][kind](random)
    if dials.get("visual_hash") or dials.get("visual_copy"):
        dials["visual_coding"] = "linear"  # the image codes nothing itself
    return World(number, stratum, kind, {name: value for name, value in dials.items() if value is not None})


def _any_world(random: np.random.Generator, train_queries: int) -> Dials:
    """What differs from world to world in every stratum; None where a dial stays the preset's."""
    test = int(random.choice(TEST_QUERIES))
    queries = train_queries + VALIDATION_QUERIES + test
    words = int(random.choice([0, 0, 40, 200]))
    return {
        "queries": queries,
        "validation_fraction": VALIDATION_QUERIES / queries,
        "test_fraction": test / queries,
        "candidates": 12,
        "visual_width": int(random.choice([32, 128, 512])),
        "visual_coding": str(random.choice(["linear", "linear", "sign"])),
        "visual_scale": float(random.choice([0.3, 1.0, 3.0])),
        "label_lean": float(random.choice([0.0, 0.0, 0.3])),
        "v1_visual": float(random.choice([0.0, 0.0, 0.3])),
        "label_sparsity": float(random.choice([0.0, 0.0, 0.3])),
        "item_reuse": float(random.choice([1.0, 1.0, 5.0])),
        "shared_words": words,
        "cluster_zipf": 1.0 if words else None,
        "word_effect": 0.3 if words else None,
    }


@dataclass(frozen=True)
class Truth:
    """nDCG@10 on new items, of the best that reads every signal and V1."""

    worth: float
    """Less the best without the image: what the image is worth."""
    gain: float
    """Less V1."""

    @property
    def go_is_wrong(self) -> bool:
        """The image has nothing to give, or V2 cannot gain what the phase's gate asks."""
        asked = next(gate.at_least for gate in PHASE.gates if gate.quantity == "ndcg_gain")
        return self.worth <= PHASE.thresholds.nothing_to_give or self.gain < (asked or 0.0)

    @property
    def archive_is_wrong(self) -> bool:
        """The image is worth something, and V2 can gain as much as keeps it alive."""
        asked = PHASE.thresholds
        return self.worth > asked.nothing_to_give and self.gain >= asked.least_gain

    def outcome(self, verdict: str) -> Outcome:
        """`right`, `wrong`, or `open` for a verdict that decides nothing; `failed` without one."""
        if verdict not in ("GO", "ARCHIVE", "PAUSE_AND_FIX"):
            return "failed"
        if verdict == "PAUSE_AND_FIX":
            return "open"
        return "wrong" if (self.go_is_wrong if verdict == "GO" else self.archive_is_wrong) else "right"


def true_of(drawn: World) -> Truth:
    """From the dials of a world, on `POPULATION` test queries of another draw."""
    return _truth(drawn.source)


@cache
def _truth(source: str) -> Truth:
    config = planted_config(source)
    rest = sum(config.split_sizes[:2])
    queries = rest + POPULATION
    many = dataclasses.replace(
        config,
        queries=queries,
        seed=config.seed + POPULATION_SEED,
        validation_fraction=config.split_sizes[1] / queries,
        test_fraction=POPULATION / queries,
    )
    told = truth(draw(many))
    best = told["oracle_ndcg_with_v1"]
    everything = float(best["visual+text+metadata"])
    return Truth(worth=everything - float(best["text+metadata"]), gain=everything - float(told["v1_ndcg"]))
