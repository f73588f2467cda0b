"""From a searched front to a verdict: short list, finalist, deciding arms, one look at the test split, decision."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusion_models.config import Recipe
from fusion_models.context_alone import context_alone
from fusion_models.files import write_whole
from fusion_models.metrics import WeightedSum
from search.analysis.decision import Decision, Evidence, decide
from search.analysis.judged import Cold, write_judged
from search.analysis.measure import confirmed_table, mean_ndcg, quantities
from search.execution.capacity import concurrency
from search.execution.file_transfer import ticket_for
from search.execution.job_training import without_cold_items
from search.pipeline.ablation import Intact, ablate
from search.pipeline.baselines import COLD_STAGE, Reference, ReferenceRole, reference_rankers, reference_table
from search.pipeline.baselines import STAGE as BASELINES
from search.pipeline.confirmation.arms import STAGE, arms_of_others, has_attention
from search.pipeline.confirmation.cold import needs_cold_lists, read_cold
from search.pipeline.confirmation.deciding import Deciding, archive_open, on_validation, train_deciding_arms
from search.pipeline.confirmation.finalist import Finalist, choose, fix_finalist, standing_finalist
from search.pipeline.confirmation.gathering import (
    Listed,
    Measured,
    archive_evidence,
    blind_lead,
    choose_rivals,
    fewest_of,
    refit_gains,
    rival_leads,
    shapley,
)
from search.pipeline.confirmation.judged_short_list import (
    CONFIRM,
    JudgedShortList,
    judge_short_list,
    validation_leads,
)
from search.pipeline.confirmation.probing import RunProbes, read_probes
from search.pipeline.confirmation.test_split import (
    open_clusters,
    open_contribution,
    open_test_split,
)
from search.pipeline.confirmation.unconfirmed import seconds_to_search, why_unconfirmed
from search.pipeline.confirmation.verdict_tables import Items, explain, test_rows, write_baselines
from search.pipeline.context import Run
from search.pipeline.continuation.further import note_look, require_something_new
from search.pipeline.continuation.kept import drop_ablation_of_another, drop_evidence
from search.pipeline.late import costs_itself
from search.reporting.decision_page import decision_text
from search.run_store.artefact import ARTEFACT, write_artefact
from search.run_store.csv_tables import write_csv
from search.run_store.facts import Facts, read_facts
from search.run_store.folder import json_text
from search.run_store.looks import DECIDING_SPLIT, SPLIT_NAMES, Look, count_look
from search.study.seeds import deciding_seed
from search.study.stages import planned_jobs
from spaces import Phase


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """What confirmation found, for the summary and the report."""

    decision: Decision
    table: pd.DataFrame
    finalist: Finalist | None
    evidence: Evidence | None
    references: tuple[Reference, ...] = ()
    base_ndcg: float | None = None
    """Of the base recipe on the split that decided, where it is not the finalist."""
    look: Look | None = None
    trainings: tuple[str, ...] = ()
    """Of the arms that decide, and of the single modalities that they are compared with."""
    intact: Intact | None = None
    ablation: pd.DataFrame | None = None


def confirm_and_decide(
    run: Run, tuned: Mapping[ReferenceRole, WeightedSum], references: Sequence[Reference]
) -> Confirmed:
    """Run the confirmation's trainings and write confirmed.csv, decision.json and decision.md.

    `tuned` and `references`: the reference rankers as validation has them.
    """
    facts = read_facts(run.options.facts)
    listed = judge_short_list(run, references)
    found = listed.candidates
    leads = {c.trial_id: validation_leads(run, c, listed, references) for c in found}
    finalist = standing_finalist(run.folder, run.verdict, chooses_anew=run.chooses_anew)
    if finalist is None and found:
        best, names = choose(run.phase, listed.quantities, leads, found), [c.trial_id for c in found]
        planned = planned_jobs(run.store.journal, STAGE)
        taken = arms_of_others(run.phase, Recipe.from_flat(best.recipe), planned)
        finalist = fix_finalist(run.folder, best, _member_seeds(run), of=names, verdict=run.verdict, taken=taken)
    if finalist is not None:
        drop_ablation_of_another(run.folder, finalist.trial_id, run.verdict)
    if finalist is None:
        decision = decide(run.phase, None, None, facts.statuses())
        decision = dataclasses.replace(decision, reasons=(_why_unconfirmed(run),))
        table = confirmed_table(run.phase, listed.rows(None))
        confirmed = Confirmed(decision=decision, table=table, finalist=None, evidence=None)
    else:
        confirmed = _decide_on_test(run, listed, finalist, facts, tuned, references)
    write_csv(confirmed.table, run.folder, "confirmed.csv")
    write_whole(run.folder.path / "decision.json", json_text(_described(confirmed)))
    split = SPLIT_NAMES[run.deciding]
    text = decision_text(run.phase, confirmed.decision, split, confirmed.look, weighted=run.data.weighted)
    write_whole(run.folder.path / "decision.md", text)
    if confirmed.intact is None or not run.options.ablation:
        return confirmed
    said = f"verdict: {confirmed.decision.verdict} ({run.folder.path / 'decision.md'}); now what each component does"
    run.console.print(said, highlight=False)
    again = f"python -m search.report {shlex.quote(str(run.folder.path))} --ablate {confirmed.intact.trial_id}"
    ablation = None
    said = f"the verdict does not rest on it; {again} tries again"
    with costs_itself(run.console, "the ablation", said, ends_run=run.trainer.stopped_by):
        ablation = ablate(run, confirmed.intact, split=run.deciding, deadline=run.deadline)
    return dataclasses.replace(confirmed, ablation=ablation)


def _why_unconfirmed(run: Run) -> str:
    records, training = run.trainer.records, run.trainer.training_seconds
    needed = seconds_to_search(run.phase, training_seconds=training, at_once=concurrency(run.options))
    return why_unconfirmed(run.options, records("search"), records(CONFIRM), needed_seconds=needed)


def _described(confirmed: Confirmed) -> dict[str, Any]:
    said = confirmed.decision.as_json()
    if confirmed.look is not None:
        said |= {"look": confirmed.look.as_json(), "trainings": list(confirmed.trainings)}
    return said


def _member_seeds(run: Run) -> list[int]:
    """Of the artefact: the lowest deciding seeds, as many as the recipe has members."""
    members = run.phase.base.train.members
    asked = run.options.confirm_seeds
    count = members if asked is None else min(members, asked)
    return [deciding_seed(run.phase.name, index) for index in range(count)]


def _decide_on_test(
    run: Run,
    listed: JudgedShortList,
    finalist: Finalist,
    facts: Facts,
    tuned: Mapping[ReferenceRole, WeightedSum],
    references: Sequence[Reference],
) -> Confirmed:
    """The arms that decide, then the deciding split, once."""
    cold = needs_cold_lists(run, facts)
    probes = RunProbes(run, cold=cold)
    deciding = train_deciding_arms(run, finalist, references, cold=cold, probes=probes)
    if not deciding.trainings[deciding.plan.whole]:
        return _untrained(run, listed, finalist, facts)
    here = on_validation(run, deciding, references)
    chosen = choose_rivals(here)
    split = run.deciding
    ids = [*chain(*deciding.trainings.values())]
    read_too = run.trainer.records(BASELINES, *([COLD_STAGE] if cold else []))
    basis = sorted([*ids, *(r.trial_id for r in read_too if r.finished)])
    require_something_new(run, finalist, basis, finished=deciding.finished, why=deciding.ended)
    note_look(run)
    look = count_look(run.folder, run.data.fingerprint, run.data.source, split=split, verdict=run.verdict)
    if run.store.mirror is not None:
        run.store.mirror.sync()  # a look is noted at the store too before it is taken
    compared = [*chain(*(c.trainings for c in listed.candidates))]
    members = deciding.trainings[deciding.plan.whole][: deciding.members]
    write_artefact(run.folder, members, run.data.description)
    run.console.print(f"opening the {SPLIT_NAMES[split]} for {len(ids)} trainings ({look.said()})", highlight=False)
    contribution = open_contribution(run.folder, run.data, ARTEFACT, split=split, call=run.trainer.call)
    opened = [*ids, *compared]
    measuring = open_test_split(run.folder, run.data, opened, split=split, full=members, call=run.trainer.call)
    asked = archive_open(run, here)
    probing = probes.begin(split) if asked else probes.left_out
    there = reference_rankers(run, split, tuned, cold=cold)
    said = measuring()
    clusters = open_clusters(run.folder, run.data, split=split)
    trained = {key: [said[t] for t in trainings] for key, trainings in deciding.trainings.items()}
    whole = Measured(
        phase=run.phase,
        plan=deciding.plan,
        members=deciding.members,
        trained=trained,
        references=there,
        clusters=clusters,
    )
    best = listed.best
    if best is not None and (best.is_base or best.trial_id == finalist.trial_id):
        best = None
    read = partial(
        archive_evidence,
        whole,
        chosen,
        alpha=look.alpha,
        listed=Listed(trial_id=best.trial_id, runs=[said[t] for t in best.trainings]) if best is not None else None,
    )
    chance = _context_alone(run, finalist, cold=cold)
    evidence = gather_evidence(run, whole, deciding, look, cold=read_cold(run, whole, look, needed=cold), chance=chance)
    evidence = dataclasses.replace(
        evidence,
        strongest_blind=blind_lead(whole, chosen, look.level) if run.phase.late else None,
        archive=read(read_probes(probing())),
        closed_catalogue=bool(facts.closed_catalogue),
    )
    if not asked and archives(run.phase, evidence):
        found = read_probes(probes.begin(split)())
        evidence = dataclasses.replace(evidence, archive=read(found))
    write_judged(evidence, run.folder.path)
    explain(run, whole, evidence, contribution, chance=chance, level=look.level)
    items: Items = "without cold" if cold else "all"
    tested = test_rows(listed.candidates, finalist, whole, said, look, items)
    with costs_itself(run.console, "baselines.csv"):
        table = reference_table(there, clusters=clusters, split=split)
        write_baselines(run, table, whole, references)
    return Confirmed(
        decision=decide(run.phase, finalist.trial_id, evidence, facts.statuses()),
        table=confirmed_table(run.phase, [*tested, *listed.rows(finalist)]),
        finalist=finalist,
        intact=Intact(
            trial_id=finalist.trial_id,
            recipe=finalist.recipe,
            trainings=tuple(deciding.trainings[deciding.plan.whole]),
            items=items,
        ),
        evidence=evidence,
        references=tuple(there),
        base_ndcg=mean_ndcg(whole.base) if whole.base is not None and whole.plan.base != whole.plan.whole else None,
        look=look,
        trainings=tuple(basis),
    )


def archives(phase: Phase, evidence: Evidence) -> bool:
    """Whether the verdict would be ARCHIVE: then the probes are asked, even where the refit gains ask for none.

    Another rule than "nothing to give" may hold where V2 does not see what a probe sees.
    """
    return decide(phase, "the finalist", evidence).verdict == "ARCHIVE"


def _untrained(run: Run, listed: JudgedShortList, finalist: Finalist, facts: Facts) -> Confirmed:
    """Nothing to judge, since every deciding training of the finalist failed; the deciding split stays closed."""
    failed = [r for r in run.trainer.records(STAGE) if not r.finished]
    why = next((r.state_reason for r in failed if r.state_reason), "no reason is known")
    drop_evidence(run.folder)
    said = f"the finalist {finalist.trial_id} could not be trained again, not once (trials.csv says why): {why}"
    decision = decide(run.phase, finalist.trial_id, None, facts.statuses())
    return Confirmed(
        decision=dataclasses.replace(decision, reasons=(said,)),
        table=confirmed_table(run.phase, listed.rows(finalist)),
        finalist=finalist,
        evidence=None,
    )


def _context_alone(run: Run, finalist: Finalist, *, cold: bool) -> npt.NDArray[np.float64]:
    """`[Q]`: nDCG of the finalist's context alone, on the deciding split. `cold`: its trees see no cold items."""
    seen = without_cold_items(ticket_for(run.data), run.phase.suspect) if cold else run.data
    return context_alone(seen, Recipe.from_flat(finalist.recipe), run.deciding, run.phase.v1_reads).ndcg()


def gather_evidence(
    run: Run, whole: Measured, deciding: Deciding, look: Look, *, cold: Cold, chance: npt.NDArray[np.float64]
) -> Evidence:
    """What gates read, on the deciding split at the level of this look; `chance` `[Q]`: nDCG without any modality."""
    recipe, level = whole.plan.recipes[whole.plan.whole], look.level
    artefact = whole.artefact
    attentive = has_attention(recipe)
    return Evidence(
        quantities=quantities(artefact, clusters=whole.clusters, level=level),
        refit_gain=refit_gains(whole, level),
        rivals=rival_leads(whole, level),
        shapley_share={} if attentive else shapley(whole, chance, level),
        cold=cold,
        queries=artefact.lists.telling if run.deciding == DECIDING_SPLIT else None,
        modalities=whole.plan.whole.modalities,
        trainings=(deciding.finished, deciding.asked),
        fewest=fewest_of([deciding.fewest], run.phase, whole.references),
        members=deciding.members,
        has_attention=attentive,
        has_images=run.data.schema.shows(run.phase.suspect),
        look=look.spent,
    )
