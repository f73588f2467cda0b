"""What to add to an audit where a gate or an archive rule could not be read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from search.analysis.archive import ArchiveRule
from search.analysis.decision import Decision
from search.analysis.gates import GateResult
from search.analysis.judged import FEWEST_TRAININGS
from search.audit.score_table import SCORE


def with_needed(
    decision: Decision, modalities: Sequence[str], suspect: str, *, trainings: int, members: int, chosen_here: bool
) -> Decision:
    """The decision whose unmeasured gates and rules say what to add; `trainings`: of the V2 itself that were given.

    `chosen_here`: the strongest rival was chosen on the split that decides, for want of validation scores.
    """
    fewest = max(FEWEST_TRAININGS, members + 1)
    gates = []
    for gate in decision.gates:
        if gate.status == "not measured":
            gate = dataclasses.replace(gate, needed=needed(gate, modalities, suspect, fewest))
        elif gate.key == "trainings" and gate.status != "pass":
            gate = dataclasses.replace(gate, needed=_refits([suspect], modalities, fewest))
        elif gate.key == "complete":
            gate = dataclasses.replace(
                gate, note="as the table says it: a training that failed and was left out is not seen"
            )
        elif gate.group in ("rival", "lead"):
            gate = dataclasses.replace(gate, note=_of_one(gate, trainings, chosen_here))
        gates.append(gate)
    rules = [_rule(rule, modalities, suspect, fewest) for rule in decision.archive_rules]
    return dataclasses.replace(decision, gates=tuple(gates), archive_rules=tuple(rules))


def needed(gate: GateResult, modalities: Sequence[str], suspect: str, fewest: int) -> str:
    """What would let this gate be read."""
    quantity = gate.quantity
    for modality in modalities:
        if quantity == f"{modality}_masking_drop":
            return f"add the column {SCORE}.without_{modality} (V2's scores with {modality} blanked), or give --model"
        if quantity == f"{modality}_refit_gain":
            return _refits([modality], modalities, fewest)
    if quantity == "min_refit_gain":
        return _refits(modalities, modalities, fewest)
    if quantity in (
        "attention_max_share",
        "attention_min_share",
        "attention_balance",
        *(f"attention_{m}" for m in modalities),
    ):
        columns = ", ".join(f"attention.{m}" for m in modalities)
        return f"add {columns} (shares that sum to 1), or refits of every subset of the modalities"
    if gate.group == "new items":
        return "a test split whose items are new to training, or the business fact closed_catalogue"
    ties = "scores that differ within a query: V2's (or V1's) are all alike there"
    known = {
        "v1_correlation": ties,
        "v1_spearman_mean": ties,
        "reconstruction_ssim": "add the column ssim, where your V2 rebuilds thumbnails",
        "latency_p95_ms": "add the column latency_ms (of each query), or give --model",
        "ablation_open": _refits(modalities, modalities, fewest),
    }
    if gate.kind == "fact" and gate.group == "resume":
        return "answer it in --facts"
    return known.get(quantity, "a rival that could be trained on these data" if gate.kind == "rival" else "")


def _refits(without: Sequence[str], modalities: Sequence[str], fewest: int) -> str:
    columns = [f"{SCORE}.refit.{'+'.join(m for m in modalities if m != gone)}" for gone in without]
    return (
        f"retrain V2 and add {', '.join(columns)}: {fewest} trainings or more of it and of V2 (column training), "
        "without V1's score where what V1 reads is left out"
    )


def _of_one(gate: GateResult, trainings: int, chosen_here: bool) -> str:
    said = [gate.note]
    if trainings < 2:
        said.append("of this training of V2 alone: how its recipe varies is not known")
    if chosen_here and gate.group == "lead":
        said.append("the rival was chosen on the test split: score the validation split, too")
    return "; ".join(filter(None, said))


def _rule(rule: ArchiveRule, modalities: Sequence[str], suspect: str, fewest: int) -> ArchiveRule:
    if rule.measured:
        return rule
    notes = {
        "nothing to give": _refits([suspect], modalities, fewest),
        "no rise": "an audit has one recipe, and nothing that a phase has raised",
        "latency": "an audit does not look for a quicker runtime",
    }
    return dataclasses.replace(rule, note=notes.get(rule.key, rule.note))
