"""One trial in the terminal: what it was, what it measured, and why it stands where it does."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console

from search.analysis.front import costs, gates_passed
from search.reporting.records import RunRecord
from search.reporting.terminal import Column, Row, print_table, say
from search.reporting.words import interval, label, number
from search.run_store.job import TrialRecord
from search.run_store.looks import SPLIT_NAMES

BLOCKS = "▁▂▃▄▅▆▇█"
"""A terminal that lacks them shows their heights as digits (`fusion_models.terminal`)."""
WITHIN = "validation split"
MORE = ("attention_balance", "latency_p95_ms", "parameters")


def explain(run: RunRecord, trial_id: str, console: Console) -> None:
    """Print all that the tables tell of one trial. Raises ValueError for one that is not there, naming near ones."""
    record = run.trial(trial_id)
    reason = f": {record.state_reason}" if record.state_reason else ""
    said = f"of stage {record.stage}: {record.state}{reason}, {record.epochs} epochs, {number(record.seconds)} s"
    say(console, f"{record.trial_id} {record.name}, {said}, seed {record.seed}")
    _recipe(run, record, console)
    _numbers(run, record, console)
    for sentence in standing(run, record):
        say(console, f"• {sentence}")
    _curve(run, record, console)


def _recipe(run: RunRecord, record: TrialRecord, console: Console) -> None:
    base = run.phase.base.flat()
    changed = [(key, value) for key, value in record.recipe.items() if value != base.get(key)]
    rows = [Row(cells=(key, str(base.get(key)), _short(value))) for key, value in changed]
    if rows:
        columns = [Column(name=name) for name in ("key", "base", "here")]
        print_table(console, "recipe, where it differs from the base", columns, rows)
    else:
        say(console, "its recipe is the base recipe")


def _numbers(run: RunRecord, record: TrialRecord, console: Console) -> None:
    columns = [Column(name="quantity"), Column(name="measured", right=True), Column(name="gate")]
    rows = []
    gates = {gate.quantity: gate for gate in run.phase.steering}
    drops = [f"{m}_masking_drop" for m in run.phase.base.model.of_dataset]
    for name in dict.fromkeys([*(o.name for o in run.phase.objectives), *gates, "ndcg", *drops, *MORE]):
        value = record.numbers.get(name, math.nan)
        gate = gates.get(name)
        known = not math.isnan(value)
        meets = "" if gate is None else "not measured" if not known else "yes" if gate.violation(value) <= 0 else "no"
        threshold = "" if gate is None else f"{'≥' if gate.at_least is not None else '≤'} {gate.threshold:g}"
        said = number(value, name)
        if name == "ndcg_gain" and known:
            low, high = record.numbers.get("ndcg_gain_ci_low"), record.numbers.get("ndcg_gain_ci_high")
            said += f" {interval(low, high, name)}"
        rows.append(Row(cells=(_label(run, name), said, threshold, meets)))
    print_table(console, "validation split", [*columns, Column(name="meets it")], rows)


def _label(run: RunRecord, name: str) -> str:
    """A quantity as a reader calls it; nDCG by the metric that this run measures in its place."""
    return run.phase.metric.name if name == "ndcg" else label(name)


def standing(run: RunRecord, record: TrialRecord) -> list[str]:
    """Why the trial stands where it does, in sentences."""
    out = []
    if record.stage == "search":
        out.append(_place(run, record))
    rows = run.confirmed[run.confirmed["trial_id"] == record.trial_id] if len(run.confirmed) else run.confirmed
    out += [
        f"retrained with {row['seeds']} fresh seeds, averaged, {SPLIT_NAMES.get(row['split'], WITHIN)}: "
        f"gain {number(row['ndcg_gain'], 'gain')} "
        f"{interval(row['ndcg_gain_ci_low'], row['ndcg_gain_ci_high'], 'gain')}, "
        f"{row['gates_passed']} of {row['gates_total']} search gates met by its estimates"
        for row in rows.to_dict("records")
    ]
    if run.finalist is not None and run.finalist["trial_id"] == record.trial_id:
        verdict = (run.decision or {}).get("verdict", "not decided yet")
        out.append(f"the finalist, fixed on {run.finalist['chosen_on']} of {', '.join(run.finalist['of'])}: {verdict}")
        open_gates = [g for g in (run.decision or {}).get("gates", []) if g["status"] not in ("pass", "not applicable")]
        out += [f"{label(g['name'])}: {g['status']}" + (f" ({g['needed']})" if g["needed"] else "") for g in open_gates]
    elif run.finalist is not None and record.trial_id in run.finalist["of"]:
        out.append(f"on the short list; {run.finalist['trial_id']} did better on validation and became the finalist")
    elif any(r.stage == "confirm" and r.name == record.trial_id for r in run.records):
        out.append("on the short list's first rung: others did better on validation with one fresh training")
    return out


def _place(run: RunRecord, record: TrialRecord) -> str:
    searched = [r for r in run.records if r.stage == "search" and r.finished]
    if not record.finished:
        return f"{record.state}, so it can stand on no front and in no short list"
    if len(run.pareto) and record.trial_id in set(run.pareto["trial_id"]):
        row = run.pareto[run.pareto["trial_id"] == record.trial_id].iloc[0]
        stays = row["p_on_front"]
        sure = f", where it stays in {stays:.0%} of query replicates" if stays == stays else ""
        passed, total = gates_passed(run.phase, record)
        return f"place {row['rank']} of {len(run.pareto)} on the front{sure}; meets {passed} of {total} search gates"
    blank = [label(o.name) for o in run.phase.objectives if o.name not in record.numbers]
    if blank:
        return f"not on the front; not measured: {', '.join(blank)}"
    points = costs(run.phase, searched)
    mine = points[[r.trial_id for r in searched].index(record.trial_id)]
    better = [r.trial_id for r, p in zip(searched, points, strict=True) if (p <= mine).all() and (p < mine).any()]
    return f"not on the front: {', '.join(better) or 'another trial'} is nowhere worse and somewhere better"


def _curve(run: RunRecord, record: TrialRecord, console: Console) -> None:
    if run.curves.empty:
        say(console, "no curve was kept")
        return
    mine = run.curves[run.curves["trial_id"] == record.trial_id]
    for name in ("ndcg_gain", "ndcg", "loss/total"):
        rows = mine[mine["name"] == name].sort_values("epoch")
        if len(rows) > 1:
            values = rows["value"].to_list()
            said = f"{_spark(values)}  {number(values[0])} → {number(values[-1])}"
            say(console, f"{_label(run, name)}, epoch {rows['epoch'].min()} to {rows['epoch'].max()}: {said}")


def _spark(values: list[float]) -> str:
    low, high = min(values), max(values)
    span = high - low or 1.0
    return "".join(BLOCKS[round((v - low) / span * (len(BLOCKS) - 1))] for v in values)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
