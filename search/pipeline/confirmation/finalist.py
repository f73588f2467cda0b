"""The finalist: one recipe of the short list, chosen on validation and fixed on disk before the test split opens."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from scipy import special

from fusion_models.config import Flat
from fusion_models.files import write_whole
from fusion_models.metrics import Interval
from search.pipeline.confirmation.short_list import FEWEST_TRAININGS, Candidate
from search.run_store.folder import RunFolder, now, read_json
from spaces import Gate, Phase

FILE = "finalist.json"
LEAST_PROBABILITY = 1e-3
"""Gates that a recipe surely misses count alike, however far it misses them: which misses by less is noise."""
SURELY_BEHIND = math.log(20.0)
"""A recipe that much less likely than the best gets no further training on the short list: their order is clear."""
AS_LIKELY = math.log(1.25)
"""Recipes whose chances differ by less than a quarter are as likely to pass; the best ranker of them is chosen."""


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """What finalist.json says."""

    trial_id: str
    recipe: Flat
    seeds: tuple[int, ...]
    """Of the artefact's members, frozen before the look: the lowest deciding seeds."""
    is_base: bool = False
    verdict: int = 1
    """The verdict of the run for which it was chosen."""
    arms: int = 1
    """In the ids of its deciding trainings: the verdict for which they were begun, an earlier one where it was the
    finalist before, or the next number that no other recipe's trainings have."""
    of: tuple[str, ...] = ()
    """Trials of the short list that it was chosen from; empty in folders of before, which do not say."""


def read_finalist(folder: RunFolder) -> Finalist | None:
    """The finalist that stands in a run folder."""
    path = folder.path / FILE
    if not path.exists():
        return None
    said = read_json(path)
    return Finalist(
        trial_id=said["trial_id"],
        recipe=said["recipe"],
        seeds=tuple(said["seeds"]),
        is_base=said["is_base"],
        verdict=said.get("verdict", 1),
        arms=said.get("arms", 1),
        of=tuple(said.get("of", ())),
    )


def standing_finalist(folder: RunFolder, verdict: int, *, chooses_anew: bool) -> Finalist | None:
    """The finalist that is fixed for this verdict; where it chooses anew, an earlier verdict's is not."""
    known = read_finalist(folder)
    return None if known is None or (chooses_anew and known.verdict < verdict) else known


def fix_finalist(
    folder: RunFolder,
    best: Candidate,
    seeds: Sequence[int],
    *,
    of: Sequence[str],
    verdict: int = 1,
    taken: Container[int] = (),
) -> Finalist:
    """Write finalist.json: `best` of the short list `of`, for a verdict; one that stands for that verdict stays.

    `taken`: numbers (`arms`) under which another recipe's trainings were planned (`arms_of_others`).
    """
    known = read_finalist(folder)
    if known is not None and known.verdict >= verdict:
        return known
    before = [found for place in folder.verdicts.glob("*") if (found := read_finalist(RunFolder(place))) is not None]
    free = next(number for number in itertools.count(verdict) if number not in taken)
    finalist = Finalist(
        trial_id=best.trial_id,
        recipe=best.recipe,
        seeds=tuple(seeds),
        is_base=best.is_base,
        verdict=verdict,
        arms=next((f.arms for f in before if f.trial_id == best.trial_id), free),
        of=tuple(of),
    )
    said = dataclasses.asdict(finalist) | {"chosen_on": "validation", "fixed": now()}
    write_whole(folder.path / FILE, json.dumps(said, indent=1) + "\n")
    return finalist


def choose(
    phase: Phase,
    measured: Mapping[str, Mapping[str, Interval]],
    leads: Mapping[str, Sequence[Interval]],
    found: Sequence[Candidate],
) -> Candidate:
    """The recipe that most probably meets every gate, by validation; of those about as likely, the best ranker.

    No training that failed comes first: a recipe that sometimes breaks is no recipe. The probability of a gate is that
    of a normal value with the interval's standard error; gates count as independent, which orders recipes well enough.
    What the short list left out before its last training is not chosen.
    """
    left = [c for c in found if not c.left_out] or list(found)
    fewest = min(c.failed for c in left)
    left = [c for c in left if c.failed == fewest]
    known = {name for c in left for name in measured[c.trial_id]}
    chances = {c.trial_id: chance(phase, measured[c.trial_id], leads.get(c.trial_id, ()), known) for c in left}
    highest = max(chances.values())
    likely = [c for c in left if chances[c.trial_id] >= highest - AS_LIKELY]
    return max(likely, key=lambda c: measured[c.trial_id]["ndcg"].mean)


def next_rung(
    phase: Phase,
    measured: Mapping[str, Mapping[str, Interval]],
    leads: Mapping[str, Sequence[Interval]],
    found: Sequence[Candidate],
    size: int,
) -> list[Candidate]:
    """Who gets one more training: the best `size` by `choose`, and the base recipe always.

    Who has two trainings or more gets none where it is surely behind: where it would meet every gate at most a
    twentieth as probably as the likeliest. One training cannot tell: its interval knows nothing of seeds.
    """
    known = {name for c in found for name in measured[c.trial_id]}
    chances = {c.trial_id: chance(phase, measured[c.trial_id], leads.get(c.trial_id, ()), known) for c in found}
    left = [c for c in found if not c.is_base]
    best: list[Candidate] = []
    while left and len(best) < size:
        best.append(choose(phase, measured, leads, left))
        left.remove(best[-1])
    mark = max(chances.values(), default=0.0) - SURELY_BEHIND
    open_still = [c for c in best if len(c.trainings) < FEWEST_TRAININGS or chances[c.trial_id] >= mark]
    return [c for c in found if c.is_base or c in open_still]


def chance(
    phase: Phase, found: Mapping[str, Interval], leads: Sequence[Interval] = (), known: Container[str] = ()
) -> float:
    """Log of the probability that every gate that validation can tell of is met.

    A gate on one of the quantities `known` of other candidates, which this one lacks, is surely missed: *not measured*
    is never passed.
    """
    total = 0.0
    for gate in _by_quantity((*phase.gates, *phase.resume_gates)):
        interval = found.get(gate.quantity)
        if interval is not None:
            total += _log_probability(-gate.violation(interval.mean), interval.standard_error)
        elif gate.quantity in known:
            total += math.log(LEAST_PROBABILITY)
    margin = phase.thresholds.rival_worse
    return total + sum(_log_probability(lead.mean + margin, lead.standard_error) for lead in leads)


def _by_quantity(gates: Sequence[Gate]) -> list[Gate]:
    """The strictest gate of each quantity and side: two gates on one number are one event."""
    out: dict[tuple[str, bool], Gate] = {}
    for gate in gates:
        side = (gate.quantity, gate.at_least is not None)
        other = out.get(side)
        stricter = other is None or (gate.threshold > other.threshold) == (gate.at_least is not None)
        if stricter:
            out[side] = gate
    return list(out.values())


def _log_probability(margin: float, error: float) -> float:
    """Of a value above its threshold, whose estimate lies `margin` above it."""
    if not math.isfinite(margin):
        return math.log(LEAST_PROBABILITY)
    if not math.isfinite(error) or error <= 0.0:
        probability = float(margin >= 0.0)
    else:
        probability = float(special.ndtr(margin / error))
    return math.log(max(probability, LEAST_PROBABILITY))
