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

from fusion_models.data.planted import Planted, draw
from fusion_models.data.planted.config import PlantedConfig
from fusion_models.data.planted.presets import planted_config
from fusion_models.data.planted.truth import mean_ndcg, truth
from fusion_models.data.splits import SPLITS
from fusion_models.metrics import shapley
from spaces import PHASES

PHASE = PHASES["phase3"]
PRESET = "planted:healthy"
PRESET_SHARE_ALL = planted_config(PRESET).share_all
TRAIN_QUERIES = (400, 1_000)
VALIDATION_QUERIES = 250
TEST_QUERIES = (300, 700, 1_500)
ENOUGH_QUERIES = 500
"""Test queries that the gate `resume: queries` asks: no world with fewer can be GO."""
POPULATION = 3_000
"""Test queries that the oracle is read on."""
POPULATION_SEED = 1_000_003
"""Added to a world's data seed: the population is another draw of the same dials."""
PRIOR = 2
"""Version of the prior, part of every world's draws: worlds of two priors have nothing in common."""
GAIN, DROP, REFIT_GAIN, SHARE_RANGE = 0.05, 0.08, 0.03, (0.22, 0.36)
"""What is true of a healthy world, for its oracle: the gain over V1 and each refit gain in nDCG@10 at least, nDCG lost
without the image as a fraction, and the range of each Shapley share of what is gained over V1. The phase asks
0.020, 5 %, 0.005 and 0.20 to 0.40: a world nearer to a threshold than that is a boundary world."""
MOST_TOLD = 0.97
"""Variance share of the signals together, at most; the rest is noise."""
TRIES = 1_000
"""Draws of dials after which a healthy world counts as impossible."""

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
    """Dials that `world` draws again until what they make is healthy. A GO asks 500 test queries."""
    return {
        "share_visual": round(float(random.uniform(0.25, 0.4)), 3),
        "share_text": round(float(random.uniform(0.22, 0.34)), 3),
        "share_metadata": round(float(random.uniform(0.2, 0.3)), 3),
        "v1_noise": round(float(random.uniform(0.3, 1.0)), 2),
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


@cache
def world(number: int) -> World:
    """World 0, 1, 2, ...: strata take turns, and within each its kinds."""
    strata = list(KINDS)
    stratum, turn = strata[number % len(strata)], number // len(strata)
    kinds = list(KINDS[stratum])
    kind = kinds[turn % len(kinds)]
    random = np.random.default_rng([PRIOR, number])
    for _ in range(TRIES):
        dials = _any_world(random) | {"seed": number} | KINDS[stratum][kind](random)
        if dials.get("visual_hash") or dials.get("visual_copy"):
            dials["visual_coding"] = "linear"  # the image codes nothing itself
        drawn = World(number, stratum, kind, {name: value for name, value in dials.items() if value is not None})
        if stratum != "healthy" or (_may_be_healthy(drawn) and true_of(drawn).healthy):
            return drawn
    raise ValueError(f"world {number}: none of {TRIES} draws was healthy; widen the dials of `_healthy`.")


def _may_be_healthy(drawn: World) -> bool:
    """Whether the variance shares leave room for noise, and a GO has the test queries that it asks."""
    told = sum(float(drawn.dials[f"share_{name}"]) for name in ("visual", "text", "metadata")) + PRESET_SHARE_ALL
    return told <= MOST_TOLD and drawn.test_queries >= ENOUGH_QUERIES


def _any_world(random: np.random.Generator) -> Dials:
    """What differs from world to world in every stratum; None where a dial stays the preset's."""
    test = int(random.choice(TEST_QUERIES))
    train = int(random.choice(TRAIN_QUERIES))
    queries = train + VALIDATION_QUERIES + test
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
    drop: float = 0.0
    """`worth` as a fraction of the nDCG with the image."""
    refit_gains: tuple[float, ...] = ()
    """Less the best without each modality in turn, and without V1 where V1 reads it."""
    shares: tuple[float, ...] = ()
    """Each modality's Shapley share of what all of them gain over chance."""

    @property
    def healthy(self) -> bool:
        """Whether every gate of the phase holds by a margin, as far as an oracle can tell."""
        least, most = SHARE_RANGE
        large = self.gain >= GAIN and self.drop >= DROP and min(self.refit_gains) >= REFIT_GAIN
        return large and least <= min(self.shares) and max(self.shares) <= most

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
        visual_width=32,  # no oracle reads a code, and most of a draw's time goes into the widest one
        validation_fraction=config.split_sizes[1] / queries,
        test_fraction=POPULATION / queries,
    )
    planted = draw(many)
    told, names = truth(planted), config.modalities
    informed, alone = told["oracle_ndcg_with_v1"], told["oracle_ndcg"]
    everything = float(informed["+".join(names)])
    values = {frozenset(subset.split("+")): float(value) for subset, value in alone.items()}
    by_v1 = {seen: "+".join(m for m in names if m in seen) for seen in values if set(PHASE.v1_reads) <= seen}
    values |= {seen: float(informed[key]) for seen, key in by_v1.items()}
    values[frozenset()] = by_chance(planted)
    shares = shapley(values)
    worth = everything - values[frozenset(names) - {PHASE.suspect}]
    return Truth(
        worth=worth,
        gain=everything - float(told["v1_ndcg"]),
        drop=worth / everything,
        refit_gains=tuple(everything - values[frozenset(names) - {name}] for name in names),
        shares=tuple(shares[name] / (everything - values[frozenset()]) for name in names),
    )


def by_chance(planted: Planted) -> float:
    """nDCG@10 of scores drawn at random, on the test split."""
    test = planted.documents_of_split == SPLITS.index("test")
    scores = np.random.default_rng(0).random(len(planted.query))
    return mean_ndcg(scores, planted, test)
