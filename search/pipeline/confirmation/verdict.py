"""From a searched front to a verdict: confirm, fix a finalist, refit, open the test split, decide."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fusion_models.baselines import Baseline
from fusion_models.config import Recipe
from fusion_models.data.groups import Groups, query_groups
from fusion_models.files import write_whole
from fusion_models.metrics import Interval
from fusion_models.models import VARIANTS
from search.analysis.decision import Decision, Evidence, decide
from search.analysis.evidence import write_evidence
from search.analysis.measure import Arrays, confirmed_table, difference, paired, quantities
from search.pipeline.ablation import ablate
from search.pipeline.baselines import reference_rankers, strongest_tuned_v1
from search.pipeline.confirmation.examples import write_examples
from search.pipeline.confirmation.short_list import (
    Candidate,
    candidates,
    confirmation_jobs,
    fix_finalist,
    refit_jobs,
    short_list,
)
from search.pipeline.confirmation.test_split import open_chance, open_contribution, open_groups, open_test_split
from search.pipeline.context import Run
from search.reporting.decision_page import decision_text
from search.run_store.artifacts import QUERIES, read_queries
from search.run_store.csv_tables import write_csv
from search.run_store.facts import read_facts
from search.run_store.folder import json_text
from search.run_store.job import Role
from search.run_store.looks import DECIDING_SPLIT, SPLIT_NAMES, count_look
from search.study.stages import FixedStage
from spaces import departures


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """What confirmation found, for the summary and the report."""

    decision: Decision
    table: pd.DataFrame
    finalist: Candidate | None
    evidence: Evidence | None
    baselines: tuple[Baseline, ...] = ()
    ablation: pd.DataFrame | None = None


def confirm_and_decide(run: Run) -> Confirmed:
    """Run the confirmation's trainings and write confirmed.csv, decision.json and decision.md."""
    facts = read_facts(run.options.facts).statuses()
    found, measured = _confirm(run)
    table = confirmed_table(
        run.phase, [(c.trial_id, False, "validation", len(c.trainings), measured[c.trial_id]) for c in found]
    )
    finalist = fix_finalist(run.folder, run.phase, measured, found)
    if finalist is None:
        confirmed = Confirmed(decision=decide(run.phase, None, None, facts), table=table, finalist=None, evidence=None)
    else:
        confirmed = _decide_on_test(run, found, finalist, table, facts)
    write_csv(confirmed.table, run.folder, "confirmed.csv")
    write_whole(run.folder.path / "decision.json", json_text(confirmed.decision.as_json()))
    text = decision_text(run.phase.title, confirmed.decision, SPLIT_NAMES[run.deciding], departures(run.phase))
    write_whole(run.folder.path / "decision.md", text)
    if finalist is None or not run.options.ablation:
        return confirmed
    said = f"verdict: {confirmed.decision.verdict} ({run.folder.path / 'decision.md'}); now what each component does"
    run.console.print(said, highlight=False)
    ablation = ablate(run, finalist, split=run.deciding, deadline=run.deadline)  # after the verdict: it explains
    return dataclasses.replace(confirmed, ablation=ablation)


def _confirm(run: Run) -> tuple[list[Candidate], dict[str, dict[str, Interval]]]:
    """Step (a): the short list with fresh seeds, and the quantities of each on the validation split."""
    chosen = short_list(run.phase, run.records("search")) if run.options.seeds(run.phase) else []
    jobs = confirmation_jobs(chosen, run.options.seeds(run.phase))
    run.train([FixedStage(run.storage, "confirm", jobs, earlier=run.earlier)])
    found = candidates(run.records("confirm"))
    clusters = query_groups(run.data, "validation")
    return found, {c.trial_id: _quantities(c, _kept(run, c.trainings), clusters) for c in found}


def _decide_on_test(
    run: Run,
    found: Sequence[Candidate],
    finalist: Candidate,
    validation: pd.DataFrame,
    facts: Mapping[str, str],
) -> Confirmed:
    """Step (b): the finalist's refits, then the deciding split."""
    jobs = refit_jobs(finalist, run.phase.base)
    run.train([FixedStage(run.storage, "refits", jobs, earlier=run.earlier)])
    refits: dict[Role, dict[int, str]] = {job.role: {} for job in jobs}
    for record in run.records("refits"):
        if record.finished:
            refits[record.role][record.seed] = record.trial_id
    wanted = [t for c in found for t in c.trainings] + [t for ids in refits.values() for t in ids.values()]
    split = run.deciding
    count_look(run.folder, run.data.fingerprint, split=split)
    if run.mirror is not None:
        run.mirror.sync()  # a look is noted at the store too before it is taken
    run.console.print(f"opening the {SPLIT_NAMES[split]} for {len(wanted)} rankers", highlight=False)
    contribution = open_contribution(run.folder, run.data, finalist.trainings[0], split=split, call=run.call)
    measuring = open_test_split(run.folder, run.data, wanted, split=split, full=finalist.trainings[:1], call=run.call)
    baselines = reference_rankers(run, split)
    measured = measuring()
    clusters = open_groups(run.folder, run.data, split=split)
    rows = []
    for candidate in found:
        mine = candidate.trial_id == finalist.trial_id
        level = 0.95 if mine else 1.0 - 0.05 / max(1, len(found) - 1)
        runs = [measured[t] for t in candidate.trainings]
        rows.append((candidate.trial_id, mine, split, len(runs), _quantities(candidate, runs, clusters, level)))
    of_finalist = {seed: measured[t] for seed, t in zip(finalist.seeds, finalist.trainings, strict=True)}
    tests = {role: {seed: measured[t] for seed, t in ids.items()} for role, ids in refits.items()}
    tuned = strongest_tuned_v1(baselines, pd.read_csv(run.folder.path / "baselines.csv"))
    evidence = gather_evidence(run, finalist, of_finalist, tests, tuned, clusters)
    write_evidence(
        run.folder,
        run.data,
        split,
        of_finalist=of_finalist,
        refits=tests,
        modalities=evidence.modalities,
        baselines=baselines,
        contribution=contribution(),
        quantities=evidence.quantities,
        refit_gain=evidence.refit_gain,
        chance=open_chance(run.folder, run.data, split=split),
        clusters=clusters,
        seed=run.options.seed,
    )
    write_examples(run, finalist, list(of_finalist.values()))
    validation = validation.assign(finalist=validation["trial_id"] == finalist.trial_id)
    return Confirmed(
        decision=decide(run.phase, finalist.trial_id, evidence, facts),
        table=pd.concat([confirmed_table(run.phase, rows), validation], ignore_index=True),
        finalist=finalist,
        evidence=evidence,
        baselines=tuple(baselines),
    )


def gather_evidence(
    run: Run,
    finalist: Candidate,
    of_finalist: Mapping[int, Arrays],
    refits: Mapping[Role, Mapping[int, Arrays]],
    tuned_v1: Baseline | Interval,
    clusters: Groups | None,
) -> Evidence:
    """Everything that the decision may read, on the deciding split; trainings by seed.

    `tuned_v1`: the ranker, or V2's lead over it.
    """
    recipe = Recipe.from_flat(finalist.recipe)
    own, of_base = recipe.model.modalities, run.phase.base.model.modalities
    without = {m: refits.get(Role("refit", tuple(o for o in own if o != m)), {}) for m in own}
    base = refits.get(Role("base", of_base), {})
    blind = refits.get(Role("base", tuple(m for m in of_base if m != "visual")), {})
    read = [of_finalist, *without.values(), base, blind]
    runs = list(of_finalist.values())
    loss = recipe.loss
    gains = {m: _refit_gain(of_finalist, trained, clusters) for m, trained in without.items()}
    return Evidence(
        quantities=_quantities(finalist, runs, clusters),
        refit_gain={m: gain for m, gain in gains.items() if gain is not None},
        base_refit_gain=_refit_gain(base, blind, clusters),
        over_tuned_v1=tuned_v1
        if isinstance(tuned_v1, Interval)
        else difference(runs, tuned_v1.ndcg, clusters=clusters),
        queries=int(np.isfinite(runs[0]["ndcg"]).sum()) if run.deciding == DECIDING_SPLIT else None,
        modalities=own,
        trainings=(sum(map(len, read)), len(finalist.seeds) * len(read) + finalist.failed),
        has_attention=VARIANTS[recipe.model.variant].share_kind == "attention",
        has_images=run.data.schema.thumbnail is not None,
        importance_regularised=loss.visual_importance > 0.0 or loss.unimodal > 0.0 or loss.attention_entropy > 0.0,
    )


def _refit_gain(full: Mapping[int, Arrays], blind: Mapping[int, Arrays], clusters: Groups | None) -> Interval | None:
    """What a recipe gains over itself retrained without a modality; None with fewer than two seeds of both."""
    runs, others = paired(full, blind)
    return difference(runs, others, clusters=clusters) if len(runs) > 1 else None


def _kept(run: Run, trainings: Sequence[str]) -> list[dict[str, np.ndarray[Any, Any]]]:
    return [read_queries(run.folder.checkpoints / t / QUERIES) for t in trainings]


def _quantities(
    candidate: Candidate,
    runs: Sequence[Arrays],
    clusters: Groups | None,
    level: float = 0.95,
) -> dict[str, Interval]:
    modalities = Recipe.from_flat(candidate.recipe).model.modalities
    return quantities(runs, modalities, clusters=clusters, level=level)
