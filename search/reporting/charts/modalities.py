"""What each modality is worth, where the attention goes, and how far V2 leaves V1."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from search.reporting.charts.figure import Figure, Panel, missing, modality_scale
from search.reporting.charts.forest import MeanAxis, forest, signed_tips
from search.reporting.charts.standing import level
from search.reporting.records import RunRecord
from search.reporting.words import TUNED_V1, modality_name, short_ranker
from search.run_store.looks import SPLIT_NAMES

NOT_OPENED = (
    "The run did not come to its evidence: nothing was confirmed with fresh seeds, or it was interrupted before."
)


MOST_SUBDOMAINS = 40
"""Rows that a reader still reads; a dataset may name hundreds."""


def contribution(run: RunRecord) -> Figure:
    """Masked against refitted Shapley values, and refit gains with their intervals."""
    title = "What each modality is worth"
    found = run.evidence
    if found is None:
        return missing("contribution", title, NOT_OPENED)
    rows: list[dict[str, Any]] = [
        {"measure": "Shapley value", "how": "blanked", "modality": modality_name(m), "value": value, "unit": "nDCG"}
        for m, value in (found.get("masked_shapley") or {}).items()
    ]
    for measure, key, unit in (("Shapley share", "refit_shapley", "share"), ("refit gain", "refit_gain", "nDCG")):
        rows += [
            {"measure": measure, "how": "retrained without", "modality": modality_name(m), "value": worth["mean"]}
            | {"unit": unit, "ci_low": worth["ci_low"], "ci_high": worth["ci_high"]}
            for m, worth in (found.get(key) or {}).items()
        ]
    table = pd.DataFrame(rows, columns=["measure", "how", "modality", "value", "unit", "ci_low", "ci_high"])
    if table.empty:
        return missing("contribution", title, "Neither refits nor blanks of every subset of the modalities were given.")
    order = [modality_name(m) for m in run.modalities]
    colour = alt.Color("modality:N", scale=modality_scale(run.modalities, run.phase.base.model.of_dataset), legend=None)
    measures = ("Shapley value", "Shapley share", "refit gain")
    shapley, shares, gains = (table[table["measure"] == m] for m in measures)
    panels = []
    if len(shapley):
        bars = alt.Chart(shapley).encode(
            x=alt.X("modality:N", sort=order, title=None, axis=alt.Axis(labelAngle=0)),
            y=alt.Y("value:Q", title="Shapley value (nDCG)"),
            color=colour,
            tooltip=["modality", alt.Tooltip("value:Q", format="+.4f")],
        )
        panels.append(
            Panel(
                name="contribution-shapley",
                title="Shapley values of the trained ranker, modalities blanked",
                alt="Bars of the Shapley value of each modality, blanked: "
                + ", ".join(f"{r['modality']} {r['value']:.3f}" for r in shapley.to_dict("records")),
                chart=bars.mark_bar(),
            )
        )
    if len(gains):
        said = "Refit gain: what is lost when retrained without it"
        panels.append(_worth_panel("refit", said, "refit gain (nDCG), interval", gains, colour))
    if len(shares):
        said = "Share of the Shapley values, every subset retrained"
        panels.append(_worth_panel("shares", said, "share, interval", shares, colour))
    caption = (
        "Blanking asks the trained ranker to do without a modality, and can be gamed. Retraining without it asks "
        "what it is worth: refit gains compare ensembles of fresh trainings on both sides. Shapley values credit each "
        "modality with its part over all subsets of the others, so one that tells the same as the others has a high "
        "value beside a refit gain near 0."
    )
    return Figure(name="contribution", title=title, caption=caption, table=table, panels=panels)


def _worth_panel(name: str, title: str, axis: str, rows: pd.DataFrame, colour: alt.Color) -> Panel:
    """What each modality is worth when the recipe is retrained, with its interval."""
    tips = ["modality", *signed_tips("value", "ci_low", "ci_high")]
    said = "; ".join(
        f"{r['modality']} {r['value']:+.3f} from {r['ci_low']:+.3f} to {r['ci_high']:+.3f}"
        for r in rows.to_dict("records")
    )
    return Panel(
        name=f"contribution-{name}",
        title=title,
        alt=f"{title}, with intervals: {said}",
        chart=forest(rows, row="modality", axis=MeanAxis("value", axis), tips=tips, colour=colour),
        height=150,
    )


def attention(run: RunRecord) -> Figure:
    """Shares of attention by layer, beside what the modalities are worth."""
    title = "Where the attention goes"
    found = run.evidence
    if found is None:
        return missing("attention", title, NOT_OPENED)
    layers = found.get("attention_by_layer") or []
    rows: list[dict[str, Any]] = [
        {"where": f"layer {i + 1}", "modality": modality_name(m), "share": share}
        for i, shares in enumerate(layers)
        for m, share in zip(run.modalities, shares, strict=False)
        if share is not None  # a ranker of somebody's own whose shares were no numbers
    ]
    worth = {m: max(0.0, float(v["mean"])) for m, v in (found.get("refit_shapley") or {}).items()}
    if sum(worth.values()) > 0:
        total = sum(worth.values())
        rows += [
            {"where": "worth, retrained", "modality": modality_name(m), "share": v / total} for m, v in worth.items()
        ]
    names = [modality_name(m) for m in run.modalities]
    rows = [row | {"place": names.index(row["modality"])} for row in rows]
    table = pd.DataFrame(rows, columns=["where", "modality", "share", "place"])
    if table.empty:
        said = "V2's shares were not given." if run.audited else "This finalist has no shares by layer."
        return missing("attention", title, said)
    order = list(dict.fromkeys(table["where"]))
    chart = (
        alt.Chart(table)
        .mark_bar(stroke="#ffffff", strokeWidth=1)
        .encode(
            y=alt.Y("where:N", sort=order, title=None),
            x=alt.X("share:Q", title="share", axis=alt.Axis(format=".0%"), scale=alt.Scale(domain=[0, 1])),
            color=alt.Color(
                "modality:N", title=None, scale=modality_scale(run.modalities, run.phase.base.model.of_dataset)
            ),
            order=alt.Order("place:Q"),
            tooltip=["where", "modality", alt.Tooltip("share:Q", format=".1%")],
        )
    )
    panel = Panel(
        name="attention",
        title="Attention by layer" + (", and what the modalities are worth" if worth else ""),
        alt="Stacked bars of attention shares: "
        + "; ".join(f"{r['where']}, {r['modality']} {r['share']:.0%}" for r in rows),
        chart=chart,
        height=max(90, 36 * len(order)),
    )
    caption = (
        "Attention is not contribution: an untrained ranker with one token a modality spreads it evenly and would "
        "pass a gate on shares."
    )
    if sum(worth.values()) > 0:
        caption += " The lowest bar shows each modality's part of what retraining says it is worth."
    return Figure(name="attention", title=title, caption=caption, table=table, panels=[panel])


def agreement(run: RunRecord) -> Figure:
    """Where V1's ten first documents stand in V2's order, and the correlation of every confirmed recipe."""
    title = "How far V2 leaves V1"
    if run.agreement.empty:
        return missing("agreement", title, NOT_OPENED)
    table = run.agreement
    ranks = [*(str(i) for i in range(1, 11)), "later"]
    base = alt.Chart(table).encode(
        x=alt.X("v2_rank:N", sort=ranks, title="rank in V2's order", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("v1_rank:N", sort=ranks, title="rank in V1's order"),
        tooltip=["v1_rank", "v2_rank", alt.Tooltip("share:Q", format=".1%"), "documents"],
    )
    chart = base.mark_rect().encode(
        color=alt.Color(
            "share:Q",
            title="share of V1's documents at that rank",
            scale=alt.Scale(scheme="blues", domainMin=0),
            legend=alt.Legend(format=".0%", gradientLength=160, titleLimit=240),
        )
    )
    stays = table[(table["v1_rank"].astype(str) == "1") & (table["v2_rank"].astype(str) == "1")]["share"]
    top = f"{100 * float(stays.iloc[0]):.0f} %" if len(stays) else "none"
    panel = Panel(
        name="agreement",
        title="From V1's order to V2's",
        alt=f"Heat map of ranks: {top} of V1's first documents stay first.",
        chart=chart,
        height=260,
    )
    caption = (
        f"Each row is a rank in V1's order and shows where its documents stand in {run.subject}'s ({_split(run)}). "
        f"A dark diagonal is a V2 that repeats V1. {top} of V1's first documents stay first." + _ceiling(run.baselines)
    )
    return Figure(name="agreement", title=title, caption=caption, table=table, panels=[panel])


def _ceiling(baselines: pd.DataFrame) -> str:
    """How alike V1 and rankers that read what it reads are: nothing that repeats V1 can be much nearer to it."""
    if not len(baselines):
        return ""
    alike = _latest(baselines[baselines["role"].isin(TUNED_V1)].dropna(subset="v1_correlation"))
    said = ", ".join(
        f"{short_ranker(row['role'], row['name'])} {row['v1_correlation']:.3f}" for row in alike.to_dict("records")
    )
    return f" For scale, the correlation with V1's scores of rankers that read what V1 reads: {said}." if said else ""


def _latest(baselines: pd.DataFrame) -> pd.DataFrame:
    """The rows of the split that was opened last: the deciding one, or validation before."""
    return baselines if baselines.empty else baselines.loc[baselines["split"] == baselines["split"].iloc[-1]]


def _split(run: RunRecord) -> str:
    return SPLIT_NAMES[(run.evidence or {}).get("split", "test")]


def rivals(run: RunRecord) -> Figure:
    """The finalist's lead over every baseline."""
    title = "What a fusion must beat"
    gains = (run.evidence or {}).get("fusion_gain") or {}
    roles = dict(zip(run.baselines["name"], run.baselines["role"], strict=True)) if len(run.baselines) else {}
    if gains:
        rows = [
            {"rival": name if found["rival"] == name else f"{name} ({found['rival']})", "lead": found["mean"]}
            | {"ci_low": found["ci_low"], "ci_high": found["ci_high"]}
            | {"ranker": short_ranker(roles.get(name, ""), name)}
            for name, found in gains.items()
        ]
        said, what = f"nDCG lead of {run.subject}, {level(run)} interval", "rivals"
    elif len(run.baselines):
        latest = _latest(run.baselines)
        rows = [
            {
                "rival": r["name"],
                "lead": r["ndcg_gain"],
                "ci_low": r["ndcg_gain_ci_low"],
                "ci_high": r["ndcg_gain_ci_high"],
                "ranker": short_ranker(r["role"], r["name"]),
            }
            for r in latest.to_dict("records")
            if r["role"] != "v1"
        ]
        said, what = f"gain over V1 ({latest['split'].iloc[-1]}), CI95", "baselines"
    else:
        return missing("rivals", title, "The reference rankers have not been measured yet.")
    table = pd.DataFrame(rows)
    tips = ["rival", *signed_tips("lead", "ci_low", "ci_high")]
    chart = forest(table, row="ranker", axis=MeanAxis("lead", said), tips=tips)
    panel = Panel(
        name="rivals",
        title=title,
        alt=f"{said}: " + "; ".join(f"{r['rival']} {r['lead']:+.3f}" for r in rows),
        chart=chart,
        height=34 * len(rows) + 20,
    )
    caption = (
        f"{run.subject[:1].upper()}{run.subject[1:]} against {len(rows)} {what} on the {_split(run)}. To the right of "
        "the line the fusion is better. A tuned V1 is made from V1's own features alone; of single modalities and "
        "pairs the best one stands here."
        if gains
        else f"{len(rows)} {what} beside V1; the finalist's own lead is measured once the run has been confirmed."
    )
    return Figure(name="rivals", title=title, caption=caption, table=table, panels=[panel])


def subdomains(run: RunRecord) -> Figure:
    """Gain over V1 in each subdomain."""
    title = "Gain by subdomain"
    rows = (run.evidence or {}).get("subdomains") or []
    if not rows:
        return missing("subdomains", title, NOT_OPENED if run.evidence is None else "The dataset names no subdomains.")
    table = pd.DataFrame(rows).sort_values("mean", ascending=False)
    drawn = table.nlargest(MOST_SUBDOMAINS, "queries", keep="first").sort_values("mean", ascending=False)
    chart = forest(
        drawn,
        row="subdomain",
        axis=MeanAxis("mean", f"nDCG gain over V1, {level(run)} interval"),
        tips=["subdomain", "queries", *signed_tips("mean", "ci_low", "ci_high")],
    )
    panel = Panel(
        name="subdomains",
        title=title,
        alt="Gain over V1 by subdomain: "
        + "; ".join(f"{r['subdomain']} {r['mean']:+.3f}" for r in drawn.to_dict("records")),
        chart=chart,
        height=26 * len(drawn) + 30,
    )
    better = int(((table["ci_low"] > 0) & (table.get("p_holm", 1.0) < 0.05)).sum())
    caption = (
        f"{better} of {len(rows)} subdomains gain with an interval above 0 and Holm-corrected p below 0.05 "
        f"({_split(run)}, {run.subject.removeprefix('the ')})."
    )
    if len(drawn) < len(rows):
        caption += f" The {len(drawn)} with most queries are drawn; all are in figures/subdomains.csv."
    return Figure(name="subdomains", title=title, caption=caption, table=table, panels=[panel])
