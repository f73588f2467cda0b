"""Every gate that a phase reads, from the evidence: pass, fail, undecided, not applicable, not measured."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import isnan, nan
from typing import Literal

from fusion_models.metrics import Interval
from search.analysis.judged import FEWEST_TRAININGS, Evidence, Lead
from search.analysis.measure import NOMINAL_LEVEL, at_level, largest, smallest
from search.analysis.outlook import outlook
from spaces import Gate, Phase

Status = Literal["pass", "fail", "undecided", "not applicable", "not measured"]
Kind = Literal["quantity", "fact", "rival"]
Group = Literal["phase", "resume", "lead", "rival", "new items", "trainings"]

RIVALS = {
    "base": "not surely worse than the base recipe",
    "trees": "not surely worse than LambdaMART on everything",
    "sum": "not surely worse than the weighted sum with V1",
}


AT_NOMINAL = f"; at {NOMINAL_LEVEL:.0%}, as at every look"


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """One gate and what was found there."""

    key: str
    """What other code knows it by; `name` is for readers."""
    name: str
    group: Group = "phase"
    """What kind of question it asks: the phase's own, a condition for resuming V2, a lead over the best ranker without
    the suspect, a rival, what holds on new items, or how many trainings stand behind the verdict."""
    modality: str = ""
    """Whose refit gain it reads on new items; empty for what is no modality's."""
    quantity: str
    """How its numbers are to be written: a quantity's name; empty for a fact."""
    kind: Kind
    value: float
    ci_low: float
    ci_high: float
    threshold: float
    direction: Literal["at least", "at most"]
    status: Status
    needed: str = ""
    """What would settle an undecided gate."""
    note: str = ""
    """What was read in place of what the name says, or where it was read."""


def blank_gates(phase: Phase) -> list[GateResult]:
    """Every threshold gate of a phase, unmeasured."""
    return [
        *(_result(gate, None) for gate in phase.gates),
        *(dataclasses.replace(_result(gate, None), group="resume") for gate in phase.resume_gates),
    ]


def read_gates(phase: Phase, evidence: Evidence) -> list[GateResult]:
    """Every gate of a phase on its evidence; a gate passes on its whole interval, never on its mean."""
    gates = [read_gate(gate, evidence) for gate in phase.gates]
    gates += [dataclasses.replace(read_gate(gate, evidence), group="resume") for gate in phase.resume_gates]
    gates.append(_worth(phase, evidence))
    if phase.late:
        gates += [_worth_of_all(phase, evidence), _over_blind(phase, evidence), *_rivals(phase, evidence)]
    gates += _cold(phase, evidence)
    return [*gates, _complete(evidence), _enough_trainings(evidence)]


def read_gate(gate: Gate, evidence: Evidence) -> GateResult:
    """Pass where the whole interval lies on the right side, fail where it is wholly on the wrong side."""
    if gate.needs == "images" and not evidence.has_images:
        return _result(gate, None, status="not applicable", note="the items show no pictures of it")
    if gate.quantity == "queries":
        if evidence.queries is None:  # asks whether the test split is large enough: read where that is open
            return _result(gate, None, status="not applicable", note="read where the test split decides")
        count = float(evidence.queries)
        return _result(gate, Interval(count, count, count))
    if gate.needs == "attention" and not evidence.has_attention:
        return _by_contribution(gate, evidence)
    return _result(gate, evidence.quantities.get(gate.quantity), look=evidence.look)


def _by_contribution(gate: Gate, evidence: Evidence) -> GateResult:
    """A variant without attention is judged by what each modality contributes: refitted Shapley shares."""
    shares = evidence.shapley_share
    known = [shares[m] for m in evidence.modalities if m in shares]
    found = None
    if len(known) == len(evidence.modalities):
        found = smallest(known) if gate.at_most is None else largest(known)
    note = "read on the refitted Shapley shares: this variant has no attention"
    return _result(gate, found, note=note, look=evidence.look)


def _worth(phase: Phase, evidence: Evidence) -> GateResult:
    """The resume condition "importance regularisation in": the image is worth something, whatever the recipe holds."""
    suspect = phase.suspect
    gate = Gate(
        name=f"resume: importance regularised (refit gain of {suspect})",
        quantity=f"{suspect}_refit_gain",
        at_least=phase.thresholds.nothing_to_give,
        strict=True,
    )
    read = _result(gate, evidence.refit_gain.get(suspect), key="resume: refit gain", look=evidence.look)
    return dataclasses.replace(read, group="resume")


def _worth_of_all(phase: Phase, evidence: Evidence) -> GateResult:
    """Attention spreads over a modality's token even where it is empty, so that a share alone proves nothing."""
    gate = Gate(
        name="every modality earns its place (smallest refit gain)",
        quantity="min_refit_gain",
        at_least=phase.thresholds.nothing_to_give,
        strict=True,
    )
    gains = [evidence.refit_gain[m] for m in evidence.modalities if m in evidence.refit_gain]
    if len(gains) < len(evidence.modalities):
        return _result(gate, None)
    return _result(gate, smallest(gains), look=evidence.look)


def _over_blind(phase: Phase, evidence: Evidence) -> GateResult:
    lead = evidence.strongest_blind
    gate = Gate(
        name=f"lead over the strongest ranker without {phase.suspect}",
        quantity="ndcg_gain",
        at_least=phase.thresholds.lead_without_suspect,
        strict=True,
    )
    note, found = (f"rival: {lead.rival}", lead.interval) if lead else ("", None)
    read = _result(gate, found, key="lead: blind", note=note, look=evidence.look)
    return dataclasses.replace(read, group="lead")


def _rivals(phase: Phase, evidence: Evidence) -> list[GateResult]:
    return [rival_result(phase, role, evidence.rivals.get(role)) for role in RIVALS]


def rival_result(phase: Phase, role: str, lead: Lead | None) -> GateResult:
    """Fails where the rival surely leads, and by more than a margin; undecided where the interval says nothing.

    Both are read at 95 %, whatever the look: more looks must not make the gate easier. A wide interval says something
    where all of that of this look lies at or above the margin: V2 is then surely not worse.
    """
    margin, widest = phase.thresholds.rival_worse, phase.thresholds.rival_half_width
    own = lead.interval if lead else Interval(nan, nan, nan)
    found = at_level(own, NOMINAL_LEVEL)
    status: Status = "pass"
    needed = ""
    if lead is None or isnan(found.high):
        status = "not measured"
    elif found.high < 0.0 and found.mean < -margin:
        status = "fail"
    elif not (found.high - found.low) / 2.0 <= widest and not own.low >= -margin:
        needed = f"an interval of at most {widest:g} to each side, or wholly above {-margin:g}"
        status = "undecided"
    return GateResult(
        key=f"rival: {role}",
        name=RIVALS[role],
        group="rival",
        quantity="ndcg_gain",
        kind="rival",
        value=found.mean,
        ci_low=found.low,
        ci_high=found.high,
        threshold=-margin,
        direction="at least",
        status=status,
        needed=needed,
        note=f"rival: {lead.rival}{AT_NOMINAL if own.level != NOMINAL_LEVEL else ''}" if lead else "",
    )


def _cold(phase: Phase, evidence: Evidence) -> list[GateResult]:
    """Where test items recur in training: on items that no deciding training saw, gain and gated refit gains."""
    cold = evidence.cold
    if not phase.late or evidence.queries is None:
        return []
    wanted = {"gain": cold.gain} | {m: cold.refit_gain.get(m) for m in evidence.modalities}
    out = []
    for what, found in wanted.items():
        said = "nDCG gain" if what == "gain" else f"refit gain of {what}"
        gate = Gate(name=f"new items: {said}", quantity="ndcg_gain", at_least=0.0, strict=True)
        status: Status = "not measured" if cold.needed else "not applicable"
        note = f"{cold.queries} lists of items left out of training" if cold.needed else _why_not_cold(evidence)
        found = found if cold.needed else None
        read = _result(gate, found, status, key=f"cold: {what}", note=note, look=evidence.look)
        out.append(dataclasses.replace(read, group="new items", modality="" if what == "gain" else what))
    return out


def _why_not_cold(evidence: Evidence) -> str:
    if evidence.closed_catalogue:
        return "the catalogue is closed: no new item ever comes (business fact)"
    return "test items are new to training already"


def _complete(evidence: Evidence) -> GateResult:
    """Trainings that did not finish are no random sample: what breaks now and then would be judged by its best days."""
    finished, asked = evidence.trainings
    gate = Gate(name="every training behind the verdict finished", quantity="epochs", at_least=1.0)
    share = finished / asked if asked else 1.0
    return _fact(gate, share, key="complete")


def _enough_trainings(evidence: Evidence) -> GateResult:
    wanted = max(FEWEST_TRAININGS, evidence.members + 1)
    gate = Gate(name="fresh trainings of every deciding recipe", quantity="epochs", at_least=float(wanted))
    return _fact(gate, float(evidence.fewest), key="trainings")


def _fact(gate: Gate, value: float, *, key: str) -> GateResult:
    read = _result(gate, Interval(value, value, value), key=key)
    return dataclasses.replace(read, group="trainings", kind="fact")


def _result(
    gate: Gate,
    interval: Interval | None,
    status: Status = "not measured",
    *,
    key: str = "",
    note: str = "",
    look: int = 0,
) -> GateResult:
    """A quantity's interval against its gate; a point, such as a count, is never undecided."""
    found = interval or Interval(nan, nan, nan)
    if interval is not None:
        status = status_of(gate, interval)
    return GateResult(
        key=key or gate.name,
        name=gate.name,
        quantity=gate.quantity,
        kind="quantity",
        value=found.mean,
        ci_low=found.low,
        ci_high=found.high,
        threshold=gate.threshold,
        direction="at least" if gate.at_least is not None else "at most",
        status=status,
        needed=outlook(found, gate.threshold, look) if status == "undecided" else "",
        note=note,
    )


def status_of(gate: Gate, interval: Interval) -> Status:
    """Where an interval lies; the threshold itself passes unless the gate is strict."""
    worst, best = sorted((gate.violation(interval.low), gate.violation(interval.high)), reverse=True)
    if worst < 0.0 or (worst == 0.0 and not gate.strict):
        return "pass"
    if best > 0.0 or (best == 0.0 and gate.strict):
        return "fail"
    return "undecided"
