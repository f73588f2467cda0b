"""From a given V2, its rivals and the checks of the splits to the evidence and the verdict of any phase."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fusion_models.integrity import Check
from fusion_models.metrics import Interval, block_quantile_interval
from search.analysis.archive import BLIND_PROBES, ArchiveRule
from search.analysis.decision import Decision, decide
from search.analysis.gates import GateResult
from search.analysis.judged import FEWEST_TRAININGS, Cold, Evidence, Lead
from search.analysis.measure import Clusters, mean_ndcg, quantities
from search.analysis.release_decision import Validated, decide_release
from search.audit.checks import ANSWERS
from search.audit.given import V2, Given, plan_of
from search.audit.missing import with_needed
from search.pipeline.baselines import TUNED_V1, Reference
from search.pipeline.confirmation.gathering import (
    Chosen,
    Measured,
    archive_evidence,
    blind_lead,
    choose_rivals,
    fewest_of,
    refit_gains,
    rival_leads,
    shapley,
)
from search.pipeline.confirmation.probing import FoundByProbe, read_probes
from search.reporting.words import AS_GIVEN
from search.run_store.facts import Facts
from search.run_store.looks import DECIDING_SPLIT, Look
from spaces import PHASE4, Phase

NO_DOUBT = "no probe was trained: the refit gain leaves no doubt, or every probe failed"
DOUBTED_MS = 1.0
DOUBTED = "as the table says it: are these milliseconds, and not seconds?"


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that an audit has measured of a V2."""

    test: Given
    validation: Given | None
    references: Mapping[str, Sequence[Reference]]
    """By split."""
    clusters: Clusters
    members: int
    look: Look
    facts: Facts
    recurring: bool
    """Whether test items recur in training."""
    images: bool
    checks: Sequence[Check] = ()
    probes: Sequence[FoundByProbe] = ()
    seed: int = 0

    @property
    def trainings(self) -> int:
        """Of the V2 itself."""
        return len(self.test.trained[self.test.whole])

    @property
    def enough(self) -> int:
        """Trainings of an arm from which a refit may decide."""
        return max(FEWEST_TRAININGS, self.members + 1)

    def on(self, phase: Phase, split: str = DECIDING_SPLIT) -> Measured:
        """Everything on one split, as the pipeline gathers it."""
        given = self.test if split == DECIDING_SPLIT else self.validation
        assert given is not None
        return Measured(
            phase=phase,
            plan=plan_of(phase, given),
            members=self.members,
            trained=given.trained,
            references=self.references[split],
            clusters=self.clusters if split == DECIDING_SPLIT else None,
            given=True,
        )


def fewest_trainings_of(case: Case, phase: Phase) -> int:
    """Trainings of the arm that has fewest, of V2, its refits and the rivals that a phase reads; 0: one is missing."""
    whole = case.test.whole
    gone = whole.modalities if phase.late else (phase.suspect,)
    arms = [whole, *(plan_of(phase, case.test).without(m) for m in gone)]
    return fewest_of(map(len, (case.test.trained.get(arm, ()) for arm in arms)), phase, case.references[DECIDING_SPLIT])


def archive_asked(case: Case, phase: Phase) -> bool:
    """Whether probes are worth their time: the verdict without them is ARCHIVE, or refits may come to archive.

    A probe that surely earns what V2 does not holds off every archive rule, so none may hold unasked.
    """
    if judge(case, phase, gather(case, phase)).verdict == "ARCHIVE":
        return True
    blind = plan_of(phase, case.test).without(phase.suspect)
    if min(case.trainings, len(case.test.trained.get(blind, ()))) < case.enough:
        return False
    gain = refit_gains(case.on(phase)).get(phase.suspect)
    return gain is not None and not gain.low > phase.thresholds.nothing_to_give


def gather(case: Case, phase: Phase) -> Evidence:
    """What the gates of `phase` read, on the test split at the level of this look."""
    whole, level = case.on(phase), case.look.level
    artefact = whole.artefact
    chosen = choose(case, phase)
    archive = archive_evidence(whole, chosen, read_probes(case.probes), case.look.alpha)
    few = min(len(case.test.trained.get(whole.plan.without(phase.suspect), ())), case.trainings) < case.enough
    archive = dataclasses.replace(
        archive,
        base_drop=None,
        drop_rise=None,
        refit_gain=None if few else archive.refit_gain,
        base_refit_gain=None if few else archive.base_refit_gain,
    )
    shares = shapley(whole, case.test.nothing, level) if case.test.nothing is not None else {}
    found = quantities(artefact, clusters=whole.clusters, level=level)
    if case.test.latency is not None:
        generator = np.random.default_rng(case.seed)
        found["latency_p95_ms"] = block_quantile_interval(case.test.latency, 0.95, generator, level=level)
    finished = sum(len(runs) for runs in case.test.trained.values())
    rivals = rival_leads(whole, level) | {"base": Lead(rival="V2 is the V2 that you have", interval=_nought())}
    return Evidence(
        quantities=found,
        refit_gain=refit_gains(whole, level),
        archive=archive,
        strongest_blind=blind_lead(whole, chosen, level),
        rivals=rivals,
        shapley_share=shares,
        cold=Cold(needed=phase.late and case.recurring and not case.facts.closed_catalogue),
        queries=artefact.lists.telling,
        has_attention=artefact.shares is not None or not shares,
        has_images=case.images,
        modalities=case.test.modalities,
        trainings=(finished, finished),
        fewest=fewest_trainings_of(case, phase),
        members=case.members,
        closed_catalogue=bool(case.facts.closed_catalogue),
        look=case.look.spent,
    )


def _nought() -> Interval:
    return Interval(0.0, 0.0, 0.0)


def chosen_on_validation(case: Case, phase: Phase) -> bool:
    """Whether validation can tell the strongest ranker without the suspect: it holds the refits that test holds."""
    blind = plan_of(phase, case.test).without(phase.suspect)
    return case.validation is not None and (blind in case.validation.trained or blind not in case.test.trained)


def choose(case: Case, phase: Phase) -> Chosen:
    """The strongest rivals by validation; by the test split where it lacks V2's scores, or the refits given there."""
    if chosen_on_validation(case, phase):
        return choose_rivals(case.on(phase, "validation"))
    there = choose_rivals(case.on(phase))
    tuned = [r for r in case.references["validation"] if r.role in TUNED_V1 and r.measured]
    best = max(tuned, key=lambda r: mean_ndcg(r.outputs), default=None)
    # a weight that the test labels would tune is no rival: the refit stands for itself
    blind = there.blind.split(" + ")[0]
    return dataclasses.replace(there, blind=blind, weight=0.0, tuned_v1=best.name if best is not None else "")


def judge(case: Case, phase: Phase, evidence: Evidence, earlier: str = "") -> Decision:
    """The verdict by the gates of `phase`; `earlier` is what phase 3's say, which phase 4 asks for."""
    if phase.name == PHASE4.name:
        plan = plan_of(phase, case.test)
        missing = [m for m in case.test.modalities if plan.without(m) not in case.test.trained]
        found = Validated(
            earlier_verdict=earlier,
            integrity=case.checks,
            latency=evidence.quantities.get("latency_p95_ms"),
            fastest=None,
            ablation_missing=missing,
        )
        decision = decide_release(phase, V2, evidence, found, case.facts.statuses())
    else:
        decision = decide(phase, V2, evidence, case.facts.statuses(), more_gates=_answers(case))
    told = with_needed(
        decision,
        case.test.modalities,
        phase.suspect,
        trainings=case.trainings,
        members=case.members,
        chosen_here=not chosen_on_validation(case, phase),
    )
    rules = told.archive_rules if evidence.archive.refit_gain is None else _probes_said(decision, told)
    return dataclasses.replace(told, gates=tuple(_noted(case, gate) for gate in told.gates), archive_rules=rules)


def _probes_said(decision: Decision, told: Decision) -> tuple[ArchiveRule, ...]:
    """The rules, where refits were given: the one on refit gains then waits for probes, and not for refits."""
    own = {rule.key: rule.note for rule in decision.archive_rules}
    return tuple(
        dataclasses.replace(rule, note=own[rule.key] if own[rule.key] == BLIND_PROBES else NO_DOUBT)
        if rule.key == "nothing to give" and not rule.measured
        else rule
        for rule in told.archive_rules
    )


def _answers(case: Case) -> list[GateResult]:
    """A gate that fails where V2's scores are the labels; phase 4 reads the check itself."""
    return [
        GateResult(
            key="answers",
            name=check.name,
            quantity="ndcg",
            kind="quantity",
            value=check.value,
            ci_low=check.value,
            ci_high=check.value,
            threshold=check.threshold,
            direction=check.direction,
            status="fail",
            note=check.detail,
        )
        for check in case.checks
        if check.name == ANSWERS and check.status == "fail"
    ]


def _noted(case: Case, gate: GateResult) -> GateResult:
    """The gate on trainings names the released ones; one on latency doubts milliseconds as small as seconds."""
    more = ""
    if gate.key == "trainings" and case.test.released:
        several = "s" if len(case.test.released) > 1 else ""
        more = f"released: training{several} {', '.join(case.test.released)}, first in the table"
    elif gate.quantity == "latency_p95_ms" and case.test.runtime == AS_GIVEN and gate.value < DOUBTED_MS:
        more = DOUBTED
    return dataclasses.replace(gate, note="; ".join(filter(None, [gate.note, more])))
