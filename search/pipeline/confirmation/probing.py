"""Rankers outside the family: what the suspect is worth to them, and whether they would see it were it worth anything.

They are trained only where an archive rule may still hold: elsewhere nobody reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from rich.console import Console

from fusion_models.data import RankingDataset
from fusion_models.metrics.intervals.ensembles import Arm, arm_of, metric_of
from fusion_models.probes.power import Power, no_power, plant_signal, probe_power
from fusion_models.probes.products import product_pair
from fusion_models.probes.scores import ProbePair, ProbeScores
from fusion_models.probes.trees import tree_pair
from search.analysis.judged import TREES
from search.execution.file_transfer import DataTicket, ticket_for
from search.execution.job_training import without_cold_items
from search.pipeline.confirmation.test_split import require_finalist
from search.pipeline.context import Run
from spaces import Phase

PROBES: Mapping[str, Callable[..., ProbePair]] = {TREES: tree_pair, "network on products": product_pair}
SEEDS = (0, 1, 2, 3, 4)
"""Trainings of a probe on each side."""
MEMBERS = 2
"""Of the ensembles that an arm stands for. With one fewer than there are trainings too little is left over to tell
their spread: three trainings gave intervals of twice the width."""
POWER_SEEDS = (0, 1, 2)
"""Trainings that look for the planted signal."""
POWER_SPLIT = "validation"
"""Where a planted signal is looked for: no label of the deciding split is read for it."""


@dataclass(frozen=True, kw_only=True)
class FoundByProbe:
    """What one probe says of the suspect."""

    name: str
    with_it: Arm
    without: Arm
    power: Power


Probing = Callable[[], list[FoundByProbe]]
Call = Callable[..., Callable[[], Any]]


def now(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """A call where no other process could make it."""
    return partial(function, *arguments)


def begin_probes(run: Run, split: str, *, cold: bool) -> Probing:
    """Every probe on `split`, and its power on validation, from now on; calling what is returned waits for them.

    Raises ClosedError before a finalist is fixed.
    """
    require_finalist(run.folder)
    call: Call = run.trainer.call if run.trainer.keeps_processes else now
    opened = partial(_opened, ticket_for(run.data), run.phase.suspect, cold)
    return probes_of(opened, split, run.phase, run.console, call)


def probes_of(
    opened: Callable[[], RankingDataset], split: str, phase: Phase, console: Console, call: Call = now
) -> Probing:
    """Every probe of the suspect, wherever `call` runs it and opens the data; one that fails is said and left out.

    V1's score is an input on both sides, but where V1 itself reads the suspect: the suspect would come in by it.
    """
    suspect, with_v1 = phase.suspect, phase.suspect not in phase.v1_reads
    pairs = {name: call(_pair, opened, split, name, suspect, with_v1) for name in PROBES}
    powers = {name: call(_power, opened, name, suspect, with_v1) for name in PROBES}

    def found() -> list[FoundByProbe]:
        out = []
        for name in PROBES:
            pair, power = pairs[name](), powers[name]()
            if isinstance(pair, str):
                said = f"the probe {name} failed and is not counted: {pair}"
                console.print(said, style="yellow", highlight=False, markup=False)
            else:
                out.append(FoundByProbe(name=name, with_it=_arm(pair.with_it), without=_arm(pair.without), power=power))
        return out

    return found


def no_probes() -> list[FoundByProbe]:
    """Where no archive rule asks for them."""
    return []


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


def _pair(opened: Callable[[], RankingDataset], split: str, name: str, suspect: str, with_v1: bool) -> ProbePair | str:
    """The pair, or why there is none: a probe that fails costs itself, never the run."""
    try:
        return PROBES[name](opened(), split, suspect=suspect, with_v1=with_v1, seeds=SEEDS)
    except Exception as error:  # such as lists too long for LightGBM
        return f"{error}"


def _power(opened: Callable[[], RankingDataset], name: str, suspect: str, with_v1: bool) -> Power:
    data = opened()
    try:
        plant = plant_signal(data, suspect=suspect)
        return probe_power(
            data, POWER_SPLIT, partial(PROBES[name], suspect=suspect, with_v1=with_v1, seeds=POWER_SEEDS), plant
        )
    except Exception as error:  # such as nothing that can be planted here
        return no_power(name, str(error))
