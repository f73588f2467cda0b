"""Where the rivals stand: leads over each, what rankers outside the family find, and lists of new items."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from search.reporting.charts.figure import EMPHASIS, FAINT, Figure, Panel, missing
from search.reporting.charts.forest import MeanAxis, forest, signed_tips
from search.reporting.charts.modalities import NOT_OPENED
from search.reporting.charts.standing import level
from search.reporting.records import RunRecord
from search.reporting.words import NEW_ITEMS, interval, modality_name, number
from search.run_store.looks import SPLIT_NAMES

ROLES = {"base": "base recipe", "trees": "LambdaMART", "sum": "weighted sum with V1"}
COUNTS, SILENT = "counts", "does not count"
COLUMNS = ["group", "name", "rival", "counts", "mean", "ci_low", "ci_high"]


def leads(run: RunRecord) -> Figure:
    """Leads that gates read, gains of the probes, and what holds on new items, each with its interval."""
    title = "Where its rivals stand"
    found = run.evidence
    if found is None:
        return missing("leads", title, NOT_OPENED)
    word = modality_name(run.phase.suspect)
    rows = [*_leads(found, word), *_probes(found), *_cold(run)]
    if not rows:
        return missing("leads", title, "No rival could be measured.")
    table = pd.DataFrame(rows, columns=COLUMNS)
    titles = {
        "lead": "Lead of V2 over its rivals" if run.audited else "Lead of the finalist's recipe over its rivals",
        "probe": f"What a ranker outside the family gains by the {word}",
        NEW_ITEMS: "On items that no training saw",
    }
    axes = {"lead": "nDCG lead", "probe": "nDCG with it less without it", NEW_ITEMS: "nDCG gain, and refit gains"}
    panels = []
    for group in dict.fromkeys(table["group"]):
        drawn = table[table["group"] == group]
        panels.append(_panel(str(group), titles[group], axes[group], drawn))
    caption = (
        f"{_compared(run, found)}; to the right of the line {run.subject} is better. Probes are read by an archive "
        f"rule, at its level: one counts where it finds a signal that was planted into the {word}'s own columns, pale "
        "ones do not."
    )
    return Figure(name="leads", title=title, caption=caption, table=table, panels=panels, notes=_notes(found, word))


def _compared(run: RunRecord, found: dict[str, Any]) -> str:
    """What is held against what, and over what the intervals are."""
    whole = f"finalist-{'+'.join(found.get('modalities') or [])}"
    if run.audited and (found.get("trainings") or {}).get(whole, 0) < 2:
        over = "over queries and the rivals' trainings: how its own would vary is not known"
        return f"V2's one training, intervals of {level(run)} {over}"
    return f"Ensembles on both sides, intervals of {level(run)} over trainings and queries"


def _leads(found: dict[str, Any], word: str) -> list[dict[str, Any]]:
    known = found.get("leads") or {}
    rows = [{"group": "lead", "name": name} | known[role] for role, name in ROLES.items() if role in known]
    blind = found.get("strongest_blind")
    if blind:
        rows.append({"group": "lead", "name": f"strongest without {word}"} | blind)
    return rows


def _probes(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"group": "probe", "rival": probe["name"]} | probe | {"counts": COUNTS if probe["counts"] else SILENT}
        for probe in found.get("probes") or []
    ]


def _cold(run: RunRecord) -> list[dict[str, Any]]:
    gates = [g for g in (run.decision or {}).get("gates", []) if g["group"] == NEW_ITEMS]
    rows = []
    for gate in gates:
        if gate["value"] is not None:
            what = gate["modality"]
            name = f"refit gain, {modality_name(what)}" if what else "gain over V1"
            ends = {"mean": gate["value"], "ci_low": gate["ci_low"], "ci_high": gate["ci_high"]}
            rows.append({"group": NEW_ITEMS, "name": name, "rival": ""} | ends)
    return rows


def _panel(group: str, title: str, axis: str, drawn: pd.DataFrame) -> Panel:
    colour = None
    if group == "probe":
        scale = alt.Scale(domain=[COUNTS, SILENT], range=[EMPHASIS, FAINT])
        colour = alt.Color("counts:N", scale=scale, legend=None)
    tips: list[Any] = ["name", "rival", *signed_tips("mean", "ci_low", "ci_high")]
    chart = forest(drawn, row="name", axis=MeanAxis("mean", f"{axis}, interval"), tips=tips, colour=colour)
    said = "; ".join(
        f"{r['name']} {number(r['mean'], 'gain')} {interval(r['ci_low'], r['ci_high'], 'gain')}"
        for r in drawn.to_dict("records")
    )
    name = group.replace(" ", "-")
    return Panel(name=f"leads-{name}", title=title, alt=f"{title}: {said}", chart=chart, height=38 * len(drawn) + 30)


def _notes(found: dict[str, Any], word: str) -> list[str]:
    notes = []
    blind = found.get("strongest_blind")
    if blind:
        split = blind.get("chosen_on", "validation")
        where = f"the {SPLIT_NAMES[split]}" if split in SPLIT_NAMES else split
        notes.append(f"The strongest ranker without the {word}, chosen on {where}: {blind['rival']}.")
    silent = [probe["name"] for probe in found.get("probes") or [] if not probe["counts"]]
    if silent:
        notes.append(f"Found no planted signal, so it bounds nothing: {', '.join(silent)}.")
    if found.get("no_probes"):
        notes.append(found["no_probes"])
    elif not found.get("probes"):
        why = f"validation leaves no doubt that the finalist earns from the {word}, or every probe failed"
        notes.append(f"No probe was trained: {why}.")
    return notes
