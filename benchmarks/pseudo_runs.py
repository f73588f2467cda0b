"""Runs drawn from recorded trainings: thousands of verdicts' worth of intervals, each beside the truth it speaks of.

A run takes n of the N recorded trainings of every arm and Q queries of those held out. Queries are drawn with
replacement, so the recorded ones are exactly the population. Trainings are drawn without (an ensemble of one training
twice is none), which makes their spread too small by sqrt(1 - n / N): the truth that a run is held against is moved
away from the run's own trainings by as much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from recorded_trainings import BLIND, Recorded

from fusion_models.metrics import (
    Arm,
    Interval,
    arm,
    arm_difference,
    centred_moments,
    ensemble_scores,
    ndcg_of,
    query_correlation_interval,
    query_interval,
    query_ratio_interval,
    seed_interval,
)
from spaces import PHASES

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

RUNS_A_DRAW = 2
"""Samples of queries for one choice of trainings, whose ensembles are scored once: the more, the quicker, but the fewer
are the choices, and where trainings differ much they are what coverage is measured over."""
MOST_SUBSETS = 24
"""For a run's own arms: fewer than a real run scores (`ensembles.MOST_SUBSETS`), which costs a little variance."""
ALL_SUBSETS = 240
"""Subsets for the truth of an arm, from all of its trainings."""
DIFFERENCES = {
    "image refit gain": ("finalist", "without visual"),
    "text refit gain": ("finalist", "without text"),
    "metadata refit gain": ("finalist", "without metadata"),
    "image refit gain of the base": ("base", "base without visual"),
    "lead over the base": ("finalist", "base"),
}
"""Quantities of recipes."""
BEFORE = "image refit gain, 3 paired seeds"
"""As it was read before: single trainings, `seed_interval`."""
BEFORE_SEEDS = 3


@dataclass(frozen=True)
class Design:
    """What a run spends."""

    trainings: int
    """Of each arm."""
    queries: int
    members: int = 4
    """Of the artefact and of the ensembles that arms compare."""
    level: float = 0.95


@dataclass(frozen=True)
class PseudoRun:
    """What a verdict may read, and what is true of it."""

    design: Design
    arms: Mapping[str, Arm]
    """Arm -> its nDCG@10 of the run's queries."""
    artefact: Mapping[str, Floats]
    """Of the finalist's first members as one ranker: `ndcg`, `v1_ndcg`, `blind` `[Q]`, `moments` `[Q, 3]`."""
    singles: Mapping[str, Floats]
    """`finalist` and `without visual` -> nDCG@10 of single trainings `[3, Q]`."""
    truth: Mapping[str, float]


Decide = Callable[[PseudoRun], str]
"""A verdict from a run; it must not read `truth`."""


def draw(recorded: Recorded, design: Design, runs: int, generator: np.random.Generator) -> Iterator[PseudoRun]:
    """`runs` runs of one design in one world."""
    stock = _Stock(recorded, design.members)
    for start in range(0, runs, RUNS_A_DRAW):
        chosen = stock.choose(design, generator)
        for _ in range(min(RUNS_A_DRAW, runs - start)):
            yield chosen.on(generator.integers(0, len(recorded.labels), design.queries))


def intervals(run: PseudoRun) -> dict[str, Interval]:
    """Every interval that a verdict reads."""
    level, own = run.design.level, run.artefact
    out = {name: arm_difference(run.arms[a], run.arms[b], level=level) for name, (a, b) in DIFFERENCES.items()}
    out["artefact: gain over V1"] = query_interval(own["ndcg"] - own["v1_ndcg"], level=level)
    out["artefact: visual masking drop"] = query_ratio_interval(own["ndcg"] - own["blind"], own["ndcg"], level=level)
    out["artefact: V1 correlation"] = query_correlation_interval(own["moments"], level=level)
    out[BEFORE] = seed_interval(run.singles["finalist"] - run.singles["without visual"], level=level)
    return out


def phase3_gates(run: PseudoRun) -> str:
    """Whether phase 3's gates would say GO, of those that can be drawn: attention, the lead over trees and the number
    of test queries are not among them. `at_least` and `at_most` are the phase's own thresholds."""
    found = intervals(run)
    phase = PHASES["phase3"]
    thresholds = {gate.quantity: gate.threshold for gate in (*phase.gates, *phase.resume_gates)}
    lead, known = found["lead over the base"], phase.thresholds
    met = (
        found["artefact: gain over V1"].low > thresholds["ndcg_gain"]
        and found["artefact: visual masking drop"].low > thresholds["visual_masking_drop"]
        and found["artefact: V1 correlation"].high < thresholds["v1_correlation"]
        and found["image refit gain"].low > known.nothing_to_give
        and min(found["text refit gain"].low, found["metadata refit gain"].low) > 0.0
        and not (lead.high < 0.0 and lead.mean < -known.rival_worse)
        and (lead.high - lead.low) / 2 <= known.rival_half_width
    )
    return "every gate drawn" if met else "not every gate"


@dataclass(frozen=True)
class _Chosen:
    """One choice of trainings, on every recorded query."""

    design: Design
    arms: Mapping[str, Arm]
    artefact: Mapping[str, Floats]
    singles: Mapping[str, Floats]
    truth: Mapping[str, float]

    def on(self, rows: Rows) -> PseudoRun:
        """The run that sees these queries."""
        arms = {name: Arm(one.mean[rows], one.left_out[:, rows], one.k) for name, one in self.arms.items()}
        artefact = {name: values[rows] for name, values in self.artefact.items()}
        singles = {name: values[:, rows] for name, values in self.singles.items()}
        return PseudoRun(self.design, arms, artefact, singles, self.truth)


class _Stock:
    """A world's recorded trainings with what is reckoned of them once."""

    def __init__(self, recorded: Recorded, members: int) -> None:
        self._recorded, self._members = recorded, members
        self._ndcg = ndcg_of(recorded.labels, recorded.valid)
        self._names = sorted({name for pair in DIFFERENCES.values() for name in pair})
        self._means = {name: float(self._arm(recorded.scores[name], ALL_SUBSETS).mean.mean()) for name in self._names}
        self._singles = {
            name: np.stack([self._ndcg(scores.astype(np.float64)) for scores in recorded.scores[name]])
            for name in ("finalist", "without visual")
        }
        self._v1 = self._ndcg(recorded.v1)

    def choose(self, design: Design, generator: np.random.Generator) -> _Chosen:
        """n trainings of each arm."""
        arms, told = {}, {}
        for name in self._names:
            scores = self._recorded.scores[name]
            picked = _picked(len(scores), design.trainings, generator)
            arms[name] = self._arm(scores[picked], MOST_SUBSETS)
            told[name] = _moved(self._means[name], float(arms[name].mean.mean()), design.trainings, len(scores))
            if name == "finalist":
                artefact = self._artefact(picked[: self._members])
        truth = {name: told[a] - told[b] for name, (a, b) in DIFFERENCES.items()}
        truth["artefact: gain over V1"] = float((artefact["ndcg"] - artefact["v1_ndcg"]).mean())
        truth["artefact: visual masking drop"] = float(1.0 - artefact["blind"].mean() / artefact["ndcg"].mean())
        ab, aa, bb = artefact["moments"].mean(axis=0)
        truth["artefact: V1 correlation"] = float(ab / np.sqrt(aa * bb))
        singles = {}
        sides = []
        for name, every in self._singles.items():
            singles[name] = every[_picked(len(every), BEFORE_SEEDS, generator)]
            sides.append(_moved(float(every.mean()), float(singles[name].mean()), BEFORE_SEEDS, len(every)))
        truth[BEFORE] = sides[0] - sides[1]
        return _Chosen(design, arms, artefact, singles, truth)

    def _arm(self, scores: npt.NDArray[np.float32], most: int) -> Arm:
        return arm(scores, self._recorded.labels, self._recorded.valid, self._members, most_subsets=most)

    def _artefact(self, picked: Sequence[int] | Rows) -> dict[str, Floats]:
        world, valid = self._recorded, torch.from_numpy(self._recorded.valid)
        scores = ensemble_scores(world.scores["finalist"][picked], world.valid)
        blind = ensemble_scores(world.scores[f"finalist{BLIND}"][picked], world.valid)
        moments = centred_moments(torch.from_numpy(scores), torch.from_numpy(world.v1), valid).numpy()
        return {"ndcg": self._ndcg(scores), "v1_ndcg": self._v1, "blind": self._ndcg(blind), "moments": moments}


def _picked(of: int, n: int, generator: np.random.Generator) -> Rows:
    if n >= of:
        raise ValueError(f"a design of {n} trainings needs more than the {of} that are recorded")
    return generator.permutation(of)[:n]


def _moved(population: float, own: float, n: int, of: int) -> float:
    """What a run's own mean is held against, so that it lies as far off as n fresh trainings would."""
    return own - (own - population) / float(np.sqrt(1.0 - n / of))
