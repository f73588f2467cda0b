"""The plan of a run, said before its first training: how many trainings, and about how long."""

from __future__ import annotations

from collections.abc import Sequence

from fusion_models.data import RankingDataset
from fusion_models.data.crossed_clusters import crossed_clusters
from fusion_models.metrics.intervals.interval import SeedPart, Variance
from fusion_models.metrics.intervals.planning import detectable
from fusion_models.probes import PROBES
from search.monitoring.progress import clock
from search.pipeline.ablation import expected_trainings
from search.pipeline.baselines import COLD_STAGE, reference_seeds
from search.pipeline.confirmation.arms import proper_subsets
from search.pipeline.confirmation.cold import expects_cold_lists
from search.pipeline.confirmation.deciding import first_trainings
from search.pipeline.confirmation.probing import most_trainings
from search.pipeline.confirmation.short_list import short_list_trainings
from search.pipeline.context import Run
from search.run_store.facts import read_facts
from search.run_store.looks import DECIDING_SPLIT
from search.study.search_stage import trials_to_fill
from search.study.seeds import MOST_ON_SHORT_LIST
from search.study.stages import Stage
from spaces import Phase

BESIDE_REFITS = 3
"""Arms beside the finalist without each modality: the finalist, and the base recipe with and without the suspect."""
STOPPED_EARLY = 0.45
"""Share of its epochs that a search with early stopping takes (see tests/search/study/test_rung_simulation.py)."""

QUERY_DEVIATION = 0.12
"""Of a query's difference in nDCG@10 between a recipe and its refit without the image, as on `clipart`'s validation."""
TOGETHER = 0.03
"""Correlation of that difference between queries that share words or items, there too."""
SEED_DEVIATION = 0.010
"""Of one training's mean nDCG, of each of the two arms (docs/decisions/029)."""


def print_plan(run: Run, stages: Sequence[Stage], concurrent: int, *, lag: int | None) -> float:
    """Say queries, trainings a stage, and the time they should take; returns the seconds of what follows `stages`.

    `lag` of the search, of which no more than so many trials train at once.
    """
    data, phase = run.data, run.phase
    said = ", ".join(f"{len(data.rows(split)):,} {split}" for split in ("train", "validation"))
    run.console.print(
        f"{data.source}: queries {said}; the rest stays closed until a finalist is fixed", highlight=False
    )
    left = {stage.name: stage.left for stage in stages}
    asked = run.options.confirm_seeds
    if asked != 0:
        fresh = first_trainings(run, phase.base.train.members)
        left["short list"] = short_list_trainings(min(MOST_ON_SHORT_LIST, fresh))
        left["deciding"] = (len(phase.base.model.modalities) + BESIDE_REFITS) * fresh
        if expects_cold_lists(run, read_facts(run.options.facts)):
            left[COLD_STAGE] = len(phase.base.model.modalities) * reference_seeds(phase)
        if run.options.ablation:
            left["ablation"] = expected_trainings(phase)
    each = run.trainer.training_seconds / concurrent
    searched, searching = float(left.get("search", 0)), min(concurrent, lag or concurrent)
    whole = 1.0 if run.options.scheduler == "none" else STOPPED_EARLY
    expected = each * (sum(left.values()) - searched + whole * searched * concurrent / searching)
    run.console.print(
        f"{sum(left.values())} trainings ({', '.join(f'{n} {name}' for name, n in left.items())}), "
        f"{concurrent} at once, of {phase.base.train.epochs} epochs at the most: about {clock(expected)}"
        + (", if they trained on processors" if run.options.gpus_per_worker > 0 else ""),
        highlight=False,
    )
    if searching < concurrent and searched:
        run.console.print(_capped_said(searching, concurrent), highlight=False)
    if asked != 0:
        run.console.print(f"deciding: {_arms_said(phase)}", highlight=False)
        run.console.print(
            f"not counted there: up to {most_trainings(data)} small trainings of the probes ({', '.join(PROBES)}), "
            "while a rule that ends V2 may hold; their time is kept free before further deciding trainings",
            highlight=False,
        )
        queries, gain = _deciding_queries(run), phase.thresholds.nothing_to_give
        shown = gain + expected_to_show(data, queries, fresh)
        run.console.print(
            f"{fresh} trainings an arm on {queries:,} deciding queries show with 80 % power that {phase.suspect} is "
            f"worth more than {gain:g} where it is worth {shown:.2g} (if deviations are as on clipart; the report "
            "gives those found here)",
            highlight=False,
        )
    return each * sum(count for name, count in left.items() if name not in {stage.name for stage in stages})


def _capped_said(searching: int, concurrent: int) -> str:
    """Why the search leaves places empty, and what would fill them."""
    return (
        f"search: {searching} trials at once at the most, though there are {concurrent} places, so that a trial sees "
        f"results of those before it; --trials {trials_to_fill(concurrent)} would fill them"
    )


def _arms_said(phase: Phase) -> str:
    """Which recipes decide: the finalist and what is left out of it, of as many modalities as there are."""
    own = phase.base.model.modalities
    said = f"the finalist, and it without {', '.join(own[:-1])} or {own[-1]}; base, and base without {phase.suspect}"
    subsets = len(proper_subsets(own))
    if subsets > len(own) and any(gate.needs == "attention" for gate in phase.gates):
        said += f"; all {subsets} subsets where the finalist has no attention, for its Shapley shares"
    return said


def _deciding_queries(run: Run) -> int:
    """How many there are, as the door counted them: the test split itself stays closed."""
    return run.data.counts["test"] if run.deciding == DECIDING_SPLIT else len(run.data.rows(run.deciding))


def expected_to_show(data: RankingDataset, queries: int, trainings: int) -> float:
    """How far beyond its threshold a refit gain must lie to be shown with 80 % power, before anything is trained.

    Deviations are `clipart`'s; how many queries stand together is read off the validation split.
    """
    ties, known = crossed_clusters(data, "validation"), len(data.rows("validation"))
    share = 0.0 if ties is None else float(ties.pairs.sum()) / known**2
    spread = QUERY_DEVIATION**2 * (1.0 / queries + TOGETHER * share)
    trainings = max(trainings, 2)
    arm = SeedPart(SEED_DEVIATION**2 / trainings, 0.0, trainings)
    freedom = min(queries - 1.0, 1.0 / share - 1.0 if share > 0.0 else queries - 1.0)
    return detectable(Variance(query=spread, query_df=max(freedom, 1.0), queries=queries, arms=(arm, arm)))
