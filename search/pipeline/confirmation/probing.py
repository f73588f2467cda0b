"""Rankers outside the family: what the suspect is worth to them, and whether they would see it were it worth anything.

They are trained only where an archive rule may still hold, by validation or by the deciding split: elsewhere nobody
reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from math import isnan
from typing import Any

from rich.console import Console

from fusion_models.data import RankingDataset
from fusion_models.data.clusters import query_clusters
from fusion_models.metrics.intervals.ensembles import Arm, arm_of, metric_of
from fusion_models.probes import PROBES, TREES
from fusion_models.probes.power import LOOKS, Power, no_power, plant_signal, probe_power
from fusion_models.probes.scores import ProbePair, ProbeScores
from search.execution.capacity import concurrency
from search.execution.file_transfer import DataTicket, ticket_for
from search.execution.job_training import without_cold_items
from search.pipeline.confirmation.test_split import require_finalist
from search.pipeline.context import Run
from spaces import Phase

SEEDS = 5
"""Trainings of a probe on each side."""
SMALL = 20_000
"""Training documents up to which trees have twice as many, and a power up to eight plants instead of three. With so few
a training takes a second, and trees differ more from seed to seed than queries do (docs/log.md, 2026-11-28)."""
MEMBERS = 2
"""Of the ensembles that an arm stands for. With one fewer than there are trainings too little is left over to tell
their spread: three trainings gave intervals of twice the width."""
POWER_SPLIT = "validation"
"""Where planted signals are looked for: no label of the deciding split is read for it."""


@dataclass(frozen=True, kw_only=True)
class FoundByProbe:
    """What one probe says of the suspect."""

    name: str
    with_it: Arm
    without: Arm
    power: Power


Probing = Callable[[], list[FoundByProbe]]
Call = Callable[..., Callable[[], Any]]


def later(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """A call where no process stands by: it is made by who waits for it."""
    return partial(function, *arguments)


class RunProbes:
    """The probes of a run: their power on validation, which says what they cost here, then their gain on a split."""

    def __init__(self, run: Run, *, cold: bool) -> None:
        """`cold`: the items of new lists are in no training."""
        self._run, self._cold = run, cold

    @cached_property
    def _probes(self) -> Probes:
        run = self._run
        call: Call = run.trainer.call if run.trainer.keeps_processes else later
        return Probes(partial(_opened, ticket_for(run.data), run.phase.suspect, self._cold), run.phase, call)

    def begin_power(self) -> None:
        """Measure the probes' power on validation, beside what else is trained where processes stand by."""
        self._probes.begin_power()

    def seconds(self) -> float:
        """About how long they will take on a split, for which this waits for their power; 0 before that was begun.

        A probe whose power could not be measured is taken to train as long as the base recipe.
        """
        known = self._probes.training_seconds()
        each = [
            seeds(name, self._run.data) * (self._run.trainer.training_seconds if isnan(seconds) else seconds)
            for name, seconds in known.items()
        ]
        at_once = min(concurrency(self._run.options), len(PROBES)) if self._run.trainer.keeps_processes else 1
        return max(max(each), sum(each) / at_once) if each else 0.0

    def begin(self, split: str) -> Probing:
        """Every probe on `split` from now on; calling what is returned waits for them.

        Raises ClosedError before a finalist is fixed.
        """
        require_finalist(self._run.folder)
        return self._probes.begin(split, self._run.console)

    def left_out(self) -> list[FoundByProbe]:
        """None of them, where no archive rule asks for any so far. What still measures a power ends it first."""
        if self._run.trainer.keeps_processes:
            self._probes.training_seconds()
        return []


class Probes:
    """Every probe of a phase's suspect, wherever `call` runs it and `opened` opens the data.

    V1's score is an input on both sides, but where V1 itself reads the suspect: the suspect would come in by it.
    """

    def __init__(self, opened: Callable[[], RankingDataset], phase: Phase, call: Call = later) -> None:
        self._opened, self._call = opened, call
        self._given = phase.suspect, phase.suspect not in phase.v1_reads
        self._powers: dict[str, Callable[[], Power | str]] = {}

    def begin_power(self) -> None:
        """Measure each one's power on validation, once."""
        if not self._powers:
            self._powers = {name: self._begun(_power, name) for name in PROBES}

    def training_seconds(self) -> dict[str, float]:
        """What one training on each side of each took for its power; waits for it. Empty before it was begun."""
        return {name: self._power(name).seconds for name in self._powers}

    def begin(self, split: str, console: Console) -> Probing:
        """Each one on `split`, and its power, from now on; one that fails is said on `console` and left out."""
        pairs = {name: self._begun(partial(_pair, split), name) for name in PROBES}
        self.begin_power()

        def found() -> list[FoundByProbe]:
            out = []
            for name in PROBES:
                pair, power = pairs[name](), self._power(name)
                if isinstance(pair, str):
                    said = f"the probe {name} failed and is not counted: {pair}"
                    console.print(said, style="yellow", highlight=False, markup=False)
                else:
                    out.append(
                        FoundByProbe(name=name, with_it=_arm(pair.with_it), without=_arm(pair.without), power=power)
                    )
            return out

        return found

    def _begun(self, function: Callable[..., Any], name: str) -> Callable[[], Any]:
        """The call; waiting for it gives what it gave, or in words why nothing: it costs itself, never the run."""
        waiting = self._call(function, self._opened, name, *self._given)

        @cache
        def answer() -> Any:
            try:
                return waiting()
            except Exception as error:  # such as lists too long for LightGBM, or a process that dies again and again
                return str(error) or type(error).__name__

        return answer

    def _power(self, name: str) -> Power:
        found = self._powers[name]()
        return no_power(name, found) if isinstance(found, str) else found


def seeds(name: str, data: RankingDataset) -> int:
    """Trainings of the probe on each side."""
    return 2 * SEEDS if name == TREES and is_small(data) else SEEDS


def looks(data: RankingDataset) -> tuple[int, ...]:
    """Numbers of plants after which a power is read here."""
    return LOOKS if is_small(data) else LOOKS[:1]


def most_trainings(data: RankingDataset) -> int:
    """Of all probes on both sides, those for their power included; a plant has two more, of half the queries."""
    return sum(2 * (seeds(name, data) + looks(data)[-1]) for name in PROBES)


def is_small(data: RankingDataset) -> bool:
    """Whether the training split has at most `SMALL` documents."""
    return int(data.candidates[data.rows("train")].sum()) <= SMALL


def read_probes(found: Sequence[FoundByProbe]) -> list[tuple[str, Arm, Arm, bool]]:
    """Name, arm with the suspect, arm without it, and whether the probe counts."""
    return [(probe.name, probe.with_it, probe.without, probe.power.counts) for probe in found]


def _arm(scores: ProbeScores) -> Arm:
    size = max(1, min(MEMBERS, len(scores.scores) - 1))
    values = metric_of(scores.metric, scores.labels.numpy(), scores.valid.numpy())
    found = arm_of(scores.scores.double().numpy(), scores.valid.numpy(), values, size)
    return replace(found, weights=scores.uneven)


def _opened(ticket: DataTicket, suspect: str, cold: bool) -> RankingDataset:
    return without_cold_items(ticket, suspect) if cold else ticket.open()


def _pair(split: str, opened: Callable[[], RankingDataset], name: str, suspect: str, with_v1: bool) -> ProbePair:
    data = opened()
    return PROBES[name](data, split, suspect=suspect, with_v1=with_v1, seeds=range(seeds(name, data)))


def _power(opened: Callable[[], RankingDataset], name: str, suspect: str, with_v1: bool) -> Power:
    data = opened()
    probe = partial(PROBES[name], suspect=suspect, with_v1=with_v1)
    plant, groups = partial(plant_signal, data, suspect=suspect, split=POWER_SPLIT), query_clusters(data, POWER_SPLIT)
    return probe_power(data, POWER_SPLIT, probe, plant=plant, looks=looks(data), clusters=groups)
