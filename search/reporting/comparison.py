"""Two runs side by side: which settings differ, and what each of them came to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from search.analysis.front import hypervolume
from search.reporting.records import RunRecord
from search.reporting.words import bounds, interval, label, measured, modality_name, number, short_ranker, wanted
from search.run_store.looks import SPLIT_NAMES, Look, read_look

Pair = tuple[RunRecord, RunRecord]
SAID = ("resume", "fresh", "settle", "extend", "name", "results")
"""Options that say which run it is, not what it does."""
NOTHING = "–"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One thing that both runs say."""

    what: str
    values: tuple[str, str]
    differs: bool


@dataclass(frozen=True, kw_only=True)
class Part:
    """Lines that belong together; those that differ come first."""

    name: str
    lines: Sequence[Line]

    @property
    def differing(self) -> list[Line]:
        """The lines that are not the same in both runs."""
        return [line for line in self.lines if line.differs]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two runs were asked, and what came of them."""

    names: tuple[str, str]
    """Their paths."""
    settings: Sequence[Part]
    results: Sequence[Part]
    warnings: Sequence[str]
    """What keeps their numbers from being compared as they stand."""

    def as_json(self) -> dict[str, Any]:
        """For scripts: every line of every part, with both values and whether they differ."""

        def plain(parts: Sequence[Part]) -> dict[str, Any]:
            return {
                p.name: [{"what": x.what, "values": list(x.values), "differs": x.differs} for x in p.lines]
                for p in parts
            }

        said = {"runs": list(self.names), "warnings": list(self.warnings)}
        return said | {"settings": plain(self.settings), "results": plain(self.results)}


def compare(runs: Pair) -> Comparison:
    """Compare two runs by their tables alone; neither data nor any test value is opened."""
    one, two = runs
    settings = [
        _part(
            "data",
            *({"source": r.run.get("data"), "fingerprint": _short(r.run)} | _flat(r.run.get("counts")) for r in runs),
        ),
        _part("phase", *(_flat(r.run.get("definition")) for r in runs)),
        _part("options", *({k: v for k, v in _flat(r.run.get("options")).items() if k not in SAID} for r in runs)),
        _part("program and machine", *(_program(r) for r in runs)),
    ]
    results = [
        _part("verdict", *(_verdict(r) for r in runs)),
        _part("gates", *_by_key(runs, "gates", _gate)),
        _part("archive rules", *_by_key(runs, "archive_rules", _rule)),
        _part("finalist", *(_finalist(r) for r in runs)),
        _part("finalist's recipe", *((r.finalist or {}).get("recipe", {}) for r in runs)),
        _part("artefact", *(_artefact(r) for r in runs)),
        _part("rivals", *(_rivals(r) for r in runs)),
        _part("front", *(_front(r) for r in runs)),
    ]
    filled = [part for part in results if part.lines]
    return Comparison(
        names=(str(one.path), str(two.path)),
        settings=[part for part in settings if part.lines],
        results=filled,
        warnings=_warnings(runs),
    )


def _warnings(runs: Pair) -> list[str]:
    one, two = (r.run for r in runs)
    looks = [look for r in runs if (look := read_look(r.decision or {}, run=r.run)) is not None]
    out = [f"{r.path.name} has not finished: what it has so far is shown" for r in runs if not r.finished]
    if one.get("fingerprint") != two.get("fingerprint"):
        out.append("The runs read different data: a difference between their numbers may be the data's")
    elif len({look.split for look in looks}) > 1:
        named = " and the ".join(SPLIT_NAMES[look.split] for look in looks)
        out.append(f"They were decided on the {named}: a difference between their numbers may be the split's")
    elif len(looks) == len(runs) and not _one_look(looks):
        out.append(
            f"Both looked at the same {SPLIT_NAMES[looks[0].split]}: whoever picks the better of the two by it makes a "
            "choice that no interval here knows of"
        )
    if _suspects_differ(runs):
        asked = " and ".join(modality_name(r.phase.suspect) for r in runs)
        out.append(f"Their suspects differ ({asked}), so gates and rules of one are not those of the other")
    if len({look.level for look in looks}) > 1:
        out.append("Their looks have different levels, so the intervals of one are wider for that alone")
    return out


def _one_look(looks: Sequence[Look]) -> bool:
    """Whether one phase reads the measurements of the other again, or both those of a third: nothing was chosen."""
    return any(look.by for look in looks) and len({look.number for look in looks}) == 1


def _suspects_differ(runs: Pair) -> bool:
    """Whether the runs ask what different modalities are worth."""
    return runs[0].phase.suspect != runs[1].phase.suspect


def _part(name: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> Part:
    keys = dict.fromkeys([*one, *two])
    lines = [
        Line(what=key, values=(_said(one.get(key)), _said(two.get(key))), differs=one.get(key) != two.get(key))
        for key in keys
    ]
    return Part(name=name, lines=sorted(lines, key=lambda line: not line.differs))


def _said(value: Any) -> str:
    if value is None or value == "":
        return NOTHING
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """`{"gates": [{"name": "gain", "at_least": 0.1}]}` -> `{"gates.gain.at_least": 0.1}`."""
    if isinstance(value, list) and value and all(isinstance(v, dict) and "name" in v for v in value):
        value = {str(v["name"]): {k: inner for k, inner in v.items() if k != "name"} for v in value}
    if not isinstance(value, dict):
        return {} if value is None and not prefix else {prefix: value}
    parts: Iterable[dict[str, Any]] = (_flat(v, f"{prefix}.{k}" if prefix else str(k)) for k, v in value.items())
    return {key: inner for part in parts for key, inner in part.items()}


def _short(run: Mapping[str, Any]) -> str:
    return str(run.get("fingerprint", ""))[:12]


def _program(record: RunRecord) -> dict[str, Any]:
    return {"commit": record.run.get("commit")} | _flat(record.run.get("versions")) | _flat(record.run.get("machine"))


def _verdict(record: RunRecord) -> dict[str, Any]:
    decision, further = record.decision or {}, record.run.get("verdicts", [])
    look = read_look(decision, run=record.run)
    return {
        "verdict": decision.get("verdict", "none yet"),
        "fragile": "yes" if decision.get("fragile") else "no",
        "verdict of the run": f"{further[-1]['number']}, by {further[-1]['by']}" if further else "1",
        "look": look.short() if look is not None else None,
        "level of intervals": f"{100 * look.level:.4g} %" if look is not None else None,
        "decided on": SPLIT_NAMES.get((record.evidence or {}).get("split", ""), None),
    } | {f"reason {i}": reason for i, reason in enumerate(decision.get("reasons", []), 1)}


def _by_key(runs: Pair, field: str, say: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Entry's name -> what is said of it, in both runs; entries are told by their key.

    One of another suspect has the same key and asks something else: there they are told by their names too.
    """
    apart = _suspects_differ(runs)
    found = [
        {f"{entry['key']} {entry['name'] if apart else ''}": entry for entry in (r.decision or {}).get(field, [])}
        for r in runs
    ]
    names = {key: label(entry["name"]) for entries in reversed(found) for key, entry in entries.items()}
    one, two = ({names[key]: say(entry) for key, entry in entries.items()} for entries in found)
    return one, two


def _gate(gate: Mapping[str, Any]) -> str:
    if gate["status"] in ("not applicable", "not measured"):
        return str(gate["status"])
    return " ".join(filter(None, (f"{gate['status']}:", measured(gate), bounds(gate), f"({wanted(gate)})")))


def _rule(rule: Mapping[str, Any]) -> str:
    if not rule["measured"]:
        return "not measured"
    between = interval(rule["ci_low"], rule["ci_high"])
    return f"{'holds' if rule['holds'] else 'does not hold'}: {number(rule['value'])} {between}".strip()


def _finalist(record: RunRecord) -> dict[str, Any]:
    chosen = record.finalist
    if chosen is None:
        return {}
    return {"trial": chosen["trial_id"], "is the base recipe": "yes" if chosen.get("is_base") else "no"} | {
        "trainings averaged": (record.evidence or {}).get("members")
    }


def _artefact(record: RunRecord) -> dict[str, str]:
    evidence = record.evidence or {}
    names = {"ndcg": record.phase.metric.name}
    found = {
        names.get(name) or label(name): _interval(value, name) for name, value in evidence.get("quantities", {}).items()
    }
    gains = evidence.get("refit_gain", {})
    return found | {f"Refit gain of {name}": _interval(value, "gain") for name, value in gains.items()}


def _interval(value: Mapping[str, Any], name: str) -> str:
    return f"{number(value['mean'], name)} {interval(value['ci_low'], value['ci_high'], name)}".strip()


def _rivals(record: RunRecord) -> dict[str, str]:
    """nDCG of every reference ranker, on the split that decided where it was opened."""
    table = record.baselines
    if table.empty or "split" not in table:
        return {}
    opened = [split for split in dict.fromkeys(table["split"]) if split != "validation"]
    rows = table[table["split"] == (opened[-1] if opened else "validation")]
    return {short_ranker(row["role"], str(row["name"])): number(row["ndcg"]) for row in rows.to_dict("records")}


def _front(record: RunRecord) -> dict[str, Any]:
    searched = [r for r in record.records if r.stage == "search"]
    if not searched:
        return {}
    states = pd.Series([r.state for r in searched]).value_counts()
    best = record.pareto["ndcg_gain"].max() if len(record.pareto) else None
    return {
        "trials": ", ".join(f"{count} {state}" for state, count in states.items()),
        "trials on the front": len(record.pareto),
        "hypervolume": f"{hypervolume(record.phase, searched):.3f}",
        "best gain (validation)": number(best, "ndcg_gain"),
    }
