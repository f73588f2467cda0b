"""Numbers and names as the report writes them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fusion_models.data.sources import HALVED
from fusion_models.modalities import PICTURED
from search.run_store.facts import Facts
from search.run_store.looks import Look
from spaces import PHASE4, ROADMAP_STEPS, Phase

LABELS = {
    "ndcg": "nDCG@10",
    "ndcg_gain": "nDCG gain over V1",
    "attention_max_share": "Largest attention share",
    "attention_min_share": "Smallest attention share",
    "attention_balance": "Attention balance",
    "v1_correlation": "Correlation with V1",
    "v1_spearman_mean": "Rank correlation with V1",
    "top1_stability": "First document unchanged",
    "reconstruction_ssim": "SSIM of rebuilt thumbnails",
    "latency_p95_ms": "Latency P95 (ms)",
    "queries": "Queries",
}
DROP = "_masking_drop"
"""How the names of masking drops end."""
NEW_ITEMS = "new items"
"""Group of the gates that ask what holds on items that no training saw."""
NAMES = {PICTURED: "image"}
"""What a reader calls a modality, where that is not its name."""
SHORT = {
    "ndcg_gain": "gain",
    "attention_max_share": "largest share",
    "attention_min_share": "smallest share",
    "v1_correlation": "V1 correlation",
    "v1_spearman_mean": "V1 rank corr.",
    "min_refit_gain": "smallest refit gain",
    "reconstruction_ssim": "SSIM",
    "latency_p95_ms": "P95 (ms)",
    "integrity_open": "integrity open",
    "ablation_open": "ablations open",
}
"""Of quantities, for margins of charts and narrow terminals."""
SHORT_GATES = {
    "resume: queries": "resume: queries",
    "resume: V1 correlation": "resume: V1 corr.",
    "resume: V1 rank correlation": "resume: V1 rank corr.",
    "resume: refit gain": "resume: refit gain",
    "lead: blind": "lead: best blind",
    "rival: base": "rival: base recipe",
    "rival: trees": "rival: LambdaMART",
    "rival: sum": "rival: weighted sum",
    "cold: gain": "new items: gain",
    "complete": "all trainings ended",
    "trainings": "trainings an arm",
}
"""Gate's key -> its name where there is little room."""
SHORT_RULES = {
    "nothing to give": "nothing to give",
    "no rise": "no rise in the drop",
    "gain": "gain too small",
    "tuned V1": "a tuned V1 does it",
    "latency": "too slow",
}
"""Archive rule's key -> its name where there is little room."""
SHORT_RANKERS = {
    "v1": "V1",
    "sum": "weighted sum",
    "sum with v1": "sum with V1",
    "trees": "LambdaMART",
    "blind trees": "LambdaMART, blind",
    "tuned v1 sum": "tuned V1, sum",
    "tuned v1 trees": "tuned V1, LambdaMART",
    "base": "base recipe",
}
"""A reference ranker's role -> its name where there is little room; single modalities go by their own."""
TUNED_V1 = ("tuned v1 sum", "tuned v1 trees")
"""Roles of rankers that read what V1 reads and nothing else."""
AS_GIVEN = "as given"
"""The runtime of latencies that stand in a table of scores."""
BASE = "base"
"""What confirmed.csv calls the base recipe."""
COUNTS = ("queries", "integrity_open", "ablation_open")
"""Quantities that count."""
FRACTIONS = ("masking_drop",)
"""Quantities that read better as per cent."""


def metric_text(phase: Phase, *, weighted: bool) -> str:
    """By what metric rankers are measured, and what each query counts."""
    counted = "queries count by their weights" if weighted else "every query counts alike"
    other = "" if phase.metric.kind == "ndcg" else f"; where a name says nDCG, it is {phase.metric.name}"
    return f"Measured by {phase.metric.name}; {counted}{other}."


def meaning(verdict: str, phase: str, *, audited: bool = False) -> str:
    """What a GO says, which is a release in phase 4 alone; empty for other verdicts. `phase`: the name of one."""
    if verdict != "GO":
        return ""
    if audited:
        return f"GO here means: this V2 meets the gates of {phase}. This is no release."
    if phase == PHASE4.name:
        return "GO here means: release it, to 5 % of the traffic first."
    later = list(ROADMAP_STEPS)
    following = later[later.index(phase) + 1].replace("phase", "phase ") if phase in later else "the next phase"
    return f"GO here means: go on to {following}. This is no release: phase 4 alone decides on one."


def ablated_at(look: Look) -> str:
    """Which look phase 4's own ablation took: it explains, so its intervals keep 95 %."""
    return f"The ablation is phase 4's own, {look.which()}; its intervals are of 95 %."


def source_name(data: str) -> str:
    """A dataset as a user gave it: phases of a roadmap open it with half of its validation split left out."""
    return data.removesuffix(HALVED)


def of_the_team(run: Mapping[str, Any]) -> str:
    """What a reader must know of a module of the team's own and of weights to start from, by run.json."""
    model, weights = run.get("model"), run.get("weights")
    out = []
    if weights is not None:
        out.append(
            f"Trainings started from {weights['file'] or 'given weights'} ({str(weights['sha256'])[:12]}). Where those "
            "weights have seen queries of this test split, no gain here is honest."
        )
    if model is None:
        return " ".join(out)
    out.append(
        f"The ranker is the team's own: {model['reference']}, source {str(model['sha256'])[:12]}. "
        f"Retrained without a modality: {model['without a modality']}."
    )
    return " ".join(out)


def modality_name(modality: str) -> str:
    """A modality as a reader calls it."""
    return NAMES.get(modality, modality.replace("_", " "))


def label(name: str) -> str:
    """A quantity, gate or rule as a reader calls it."""
    found = LABELS.get(name)
    if found is None and name.endswith(DROP):
        found = f"Drop when the {modality_name(name.removesuffix(DROP))} is blanked"
    found = re.sub(r"\bv1\b", "V1", name.replace("_", " ")) if found is None else found
    return found if found.startswith("nDCG") else found[:1].upper() + found[1:]


def short_quantity(name: str) -> str:
    """A quantity where there is little room."""
    if name.endswith(DROP):
        return f"{modality_name(name.removesuffix(DROP))} drop"
    return SHORT.get(name, name)


def short_gate(gate: Mapping[str, Any]) -> str:
    """A gate of a decision where there is little room: by its key, else by its quantity, else its own name."""
    key, quantity = gate["key"], gate["quantity"]
    if key in SHORT_GATES:
        return SHORT_GATES[key]
    if gate["group"] == NEW_ITEMS:
        return f"new items: {gate['modality']}"
    if gate["kind"] == "quantity" and (quantity.endswith(DROP) or quantity in SHORT):
        return ("resume: " if gate["group"] == "resume" else "") + short_quantity(quantity)
    return str(gate["name"])


def short_rule(rule: Mapping[str, Any]) -> str:
    """An archive rule of a decision where there is little room."""
    return SHORT_RULES.get(rule["key"], str(rule["name"]))


def short_ranker(role: str, name: str) -> str:
    """A reference ranker where there is little room."""
    return SHORT_RANKERS.get(role, name)


def measured(gate: Mapping[str, Any]) -> str:
    """A gate's value: yes or no for a fact without a number, else the number as its quantity is written."""
    value = gate["value"]
    if is_yes_or_no(gate):
        return "–" if value is None or value != value else "yes" if value == 1.0 else "no"
    if gate["key"] == "complete" and value is not None and value == value:
        return "all" if value >= 1.0 else f"{100 * value:.0f} %"
    return _count(value) if gate["kind"] == "fact" else number(value, gate["quantity"])


def wanted(gate: Mapping[str, Any]) -> str:
    """What a gate asks for: `≥ 5.0 %`, or `yes`."""
    if is_yes_or_no(gate):
        return "yes"
    if gate["key"] == "complete":
        return "all"
    asked = gate["threshold"]
    threshold = _count(asked) if gate["kind"] == "fact" or not asked else number(asked, gate["quantity"])
    return f"{'≥' if gate['direction'] == 'at least' else '≤'} {threshold}"


def _count(value: Any) -> str:
    """A count, such as of trainings."""
    return "–" if value is None or value != value else f"{value:g}"


def bounds(gate: Mapping[str, Any]) -> str:
    """A gate's interval; empty for a fact and where both ends are one."""
    if gate["kind"] == "fact" or gate["ci_low"] == gate["ci_high"]:
        return ""
    return interval(gate["ci_low"], gate["ci_high"], gate["quantity"])


def is_yes_or_no(gate: Mapping[str, Any]) -> bool:
    """Whether a gate asks for a fact that is no number, such as a business fact."""
    return bool(gate["kind"] == "fact" and not gate["quantity"])


def reading(reason: str) -> str:
    """A reason of a decision with its quantities and business facts as a reader calls them."""

    def word(found: re.Match[str]) -> str:
        name = label(found[0])
        return name if name.startswith(("nDCG", "SSIM")) else name[:1].lower() + name[1:]

    known = (*LABELS, *(fact.name for fact in fields(Facts)))
    names = "|".join([*(name for name in known if "_" in name), rf"\w+{DROP}"])
    return re.sub(rf"(?<![\w./])(?:{names})(?![\w./])", word, reason)


def number(value: Any, name: str = "", *, signed: bool = False) -> str:
    """A number at the precision that its quantity deserves; `–` where it is not known."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if name.endswith(FRACTIONS):
        text = f"{100 * value:+.1f} %" if signed else f"{100 * value:.1f} %"
    elif name in COUNTS or (float(value).is_integer() and abs(value) >= 10):
        text = f"{value:,.0f}"
    elif signed or "gain" in name:
        text = f"{value:+.4f}"
    else:
        text = f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
    return text.replace("-", "−")


def unbroken(page: str) -> str:
    """A page of HTML in which no line ends between a number and its percent sign."""
    parts = re.split(r"(<script\b.*?</script>)", page, flags=re.DOTALL)
    parts[::2] = [re.sub(r"(?<=\d) %", "\u00a0%", text) for text in parts[::2]]
    return "".join(parts)


def interval(low: Any, high: Any, name: str = "", *, signed: bool = False) -> str:
    """`[+0.002, +0.072]`; `[2.345, ∞)` where one end has no bound (in JSON null); empty where neither is known."""
    known = [v is not None and math.isfinite(v) for v in (low, high)]
    if not any(known):
        return ""
    first = f"[{number(low, name, signed=signed)}" if known[0] else "(−∞"
    return f"{first}, " + (f"{number(high, name, signed=signed)}]" if known[1] else "∞)")
