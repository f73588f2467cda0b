"""What each component does, and which search dimensions mattered."""

from __future__ import annotations

import altair as alt

from search.reporting.charts.figure import EMPHASIS, FAINT, MUTED, Figure, Panel, missing
from search.reporting.charts.forest import MeanAxis, forest, signed_tips
from search.reporting.records import RunRecord
from search.reporting.words import FRACTIONS, label

COLOURS = {"beyond chance": EMPHASIS, "within chance": MUTED, "screened (one training)": FAINT}
SHOWN_KEYS = 8
"""Search dimensions of each objective in the figure; all of them are in importances.csv."""


def ablation(run: RunRecord) -> Figure:
    """Forest plot of every ablated component and pair, one panel an objective."""
    title = "What each component does"
    if not run.ablations:
        return missing("ablation", title, "No ablation was run: it follows the confirmation of a finalist.")
    name, table = next(iter(run.ablations.items()))
    if table.empty:
        return missing("ablation", title, "The recipe holds no component that could be taken out.")
    drawn = table[table["change"].notna()].copy()
    if drawn.empty:
        return missing("ablation", title, f"Nothing of the ablation was trained ({name} says why).")
    drawn["interval"] = [
        "screened (one training)" if status == "screened" else "beyond chance" if p < 0.05 else "within chance"
        for status, p in zip(drawn["status"], drawn["p_holm"].fillna(1.0), strict=True)
    ]
    order = list(dict.fromkeys(drawn["removed"]))
    panels = []
    shown = [kind for kind in COLOURS if kind in set(drawn["interval"])]
    for objective in dict.fromkeys(drawn["objective"]):
        rows = drawn[drawn["objective"] == objective]
        form = "+.1%" if objective.endswith(FRACTIONS) else "+.4f"
        numbers = signed_tips("change", "ci_low", "ci_high", form=form)
        colour = alt.Color(
            "interval:N",
            title=None,
            legend=None,
            scale=alt.Scale(domain=shown, range=[COLOURS[kind] for kind in shown]),
        )
        chart = forest(
            rows,
            row="removed",
            axis=MeanAxis("change", "change when taken out, CI95", "~%" if objective.endswith(FRACTIONS) else ""),
            tips=["removed", "changes", "status", "seeds", *numbers, "p_holm"],
            colour=colour,
            size=60,
        )
        panels.append(
            Panel(
                name=f"ablation-{objective}",
                title=label(objective),
                alt=f"Forest plot of changes in {label(objective)}: "
                + "; ".join(f"without {r['removed']} {r['change']:+.3f}" for r in rows.to_dict("records")),
                chart=chart,
                height=31 * len(order) + 20,
            )
        )
    split = drawn["split"].mode().iloc[0]
    caption = (
        f"{table['trial_id'].iloc[0]} trained again without a component, or two, with the same fresh seeds "
        f"({split} split): value without it less value with it, so left of the line the component raises what is "
        "measured. Blue: told from 0 after Holm's correction for all that were tried. Pale dots without a bar were "
        "screened in one training on validation. Nothing here decides."
    )
    return Figure(name="ablation", title=title, caption=caption, table=drawn, panels=panels)


def importances(run: RunRecord) -> Figure:
    """PED-ANOVA importance of the search's dimensions, an objective a panel."""
    title = "Which search dimensions mattered"
    table = run.importances
    if table.empty:
        return missing("importances", title, "Too few trials have finished to say which dimension mattered.")
    panels = []
    for objective in dict.fromkeys(table["objective"]):
        rows = table[table["objective"] == objective].nlargest(SHOWN_KEYS, "importance")
        base = alt.Chart(rows).encode(
            y=alt.Y("key:N", sort=list(rows["key"]), title=None, axis=alt.Axis(labelLimit=200))
        )
        colour = alt.condition("datum.importance > datum.chance_p95", alt.value(EMPHASIS), alt.value(FAINT))
        chart = alt.layer(
            base.mark_bar(height={"band": 0.6}).encode(
                x=alt.X("importance:Q", title="importance (PED-ANOVA)", axis=alt.Axis(format=".0%", titleAnchor="end")),
                color=colour,
                tooltip=[
                    "key",
                    alt.Tooltip("importance:Q", format=".1%"),
                    alt.Tooltip("chance_p95:Q", format=".1%"),
                    "trials",
                ],
            ),
            base.mark_tick(color="#8a5a00", thickness=2, height={"band": 0.8}).encode(x="chance_p95:Q"),
        )
        above = rows[rows["importance"] > rows["chance_p95"]]["key"].to_list()
        panels.append(
            Panel(
                name=f"importances-{objective}",
                title=label(objective),
                alt=f"Importances for {label(objective)}; above chance: {', '.join(above) or 'none'}",
                chart=chart,
                height=24 * len(rows) + 20,
            )
        )
    caption = (
        f"From {int(table['trials'].iloc[0])} finished trials. The tick is what one dimension in twenty reaches when "
        "the objective's values are shuffled over the trials: a bar that stays below it says nothing. Names are keys "
        "of the recipe (config.* in trials.csv)."
    )
    return Figure(name="importances", title=title, caption=caption, table=table, panels=panels)
