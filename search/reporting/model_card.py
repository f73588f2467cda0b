"""The card of the ranker that would be released, beside its weights: trained on what, judged how, not tested on what.

References: Mitchell et al. 2019, "Model cards for model reporting".
"""

from __future__ import annotations

import json
from typing import Any

import jinja2

from fusion_models.config import Recipe
from fusion_models.files import write_whole
from fusion_models.markdown import plain_text
from search.reporting.records import RunRecord
from search.reporting.words import NEW_ITEMS, bounds, label, meaning, measured, modality_name, of_the_team, wanted
from search.run_store.artefact import ARTEFACT
from search.run_store.looks import SPLIT_NAMES, is_practice
from spaces import PHASE4

CARD = "README.md"
"""Its name in the folder of the weights."""
EXPORT = "export"
"""Phase 4's, in the run folder: the graphs, and what their inputs hold."""
INPUTS = "inputs.json"
GRAPHS = {"ranker.pt2": "torch.export", "ranker.onnx": "ONNX", "ranker-int8.onnx": "ONNX in int8, which is lossy"}


def write_card(run: RunRecord) -> None:
    """Write `checkpoints/artefact/README.md`; nothing where a run has come to no artefact."""
    place = run.folder.checkpoints / ARTEFACT
    if run.decision is None or not (place / "recipe.json").exists():
        return
    write_whole(place / CARD, card_text(run, json.loads((place / "recipe.json").read_text())))


def card_text(run: RunRecord, made: dict[str, Any]) -> str:
    """The card; `made` is the artefact's recipe.json."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("search.reporting"),
        autoescape=False,  # Markdown
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "text": plain_text,
        "measured": measured,
        "wanted": wanted,
        "bounds": bounds,
        "label": label,
    }
    evidence, decision = run.evidence or {}, run.decision or {}
    recipe = Recipe.from_flat(made["recipe"])
    base = run.phase.base.flat()
    return environment.get_template("model_card.md.j2").render(
        run=run,
        decision=decision,
        meaning=_meaning(run),
        practice=_practice(run),
        graphs=[f"`{name}` ({how})" for name, how in GRAPHS.items() if (run.path / EXPORT / name).exists()],
        inputs=(run.path / EXPORT / INPUTS).exists(),
        description=run.run,
        split=SPLIT_NAMES[evidence.get("split", "test")],
        metric=run.phase.metric.name,
        model=recipe.model,
        seeds=made.get("seeds", []),
        trainings=made.get("trainings", []),
        changed={key: value for key, value in made["recipe"].items() if value != base.get(key)},
        of_the_team=of_the_team(run.run),
        subdomains=evidence.get("subdomains") or [],
        limits=limits(run, recipe),
        cold=any(g["group"] == NEW_ITEMS and g["status"] != "not applicable" for g in decision.get("gates", [])),
    )


def _meaning(run: RunRecord) -> str:
    """What a GO of this run's phase says, and where the rollout is planned; empty for another verdict."""
    said = meaning((run.decision or {}).get("verdict", ""), run.phase.name, audited=run.audited)
    return f"{said} The plan is in rollout.json." if said and run.rollout is not None else said


def _practice(run: RunRecord) -> bool:
    look = (run.decision or {}).get("look") or {}
    return bool(look.get("practice")) or is_practice(str(run.run.get("data")))


def limits(run: RunRecord, recipe: Recipe) -> list[str]:
    """What the verdict does not speak of, in sentences."""
    decision, evidence = run.decision or {}, run.evidence or {}
    counts: dict[str, int] = run.run.get("counts") or {}
    out = []
    if decision.get("verdict") != "GO":
        out.append(f"Its verdict is {decision.get('verdict')}: it is not fit for release as it stands.")
    elif run.phase.name != PHASE4.name:
        out.append(_meaning(run))
    if _practice(run):
        out.append("Practice: the data are bundled or planted, so it says nothing of anybody's own queries.")
    if decision.get("fragile"):
        suspect = modality_name(run.phase.suspect)
        out.append(
            f"It breaks without the {suspect}, and is not surely worse when retrained without: fragile, not fused."
        )
    named = [str(entry["subdomain"]) for entry in evidence.get("subdomains") or []]
    losing = [str(e["subdomain"]) for e in evidence.get("subdomains") or [] if e["ci_low"] is None or e["ci_low"] <= 0]
    if named:
        out.append(f"Tested on the subdomains {', '.join(named)}, and on no other kind of query.")
    else:
        out.append("The data name no subdomain with two judged queries: for whom it holds is not known.")
    if losing:
        out.append(f"Not shown to be better than V1 on {', '.join(losing)}.")
    if run.run.get("weights") is not None:
        out.append("What the weights that it started from were trained on, the run does not know; see above.")
    cold = [gate for gate in decision.get("gates", []) if gate["group"] == NEW_ITEMS]
    if any(gate["status"] in ("fail", "undecided", "not measured") for gate in cold):
        out.append("Not shown to hold on items that no training saw.")
    if decision.get("closed_catalogue"):
        out.append("Judged for a closed catalogue: nothing here speaks of new items.")
    if counts.get("queries_without_relevant"):
        out.append(f"{counts['queries_without_relevant']:,} queries without a relevant candidate were not measured.")
    unmeasured = [gate["name"] for gate in decision.get("gates", []) if gate["status"] == "not measured"]
    if unmeasured:
        out.append(f"Not measured: {', '.join(unmeasured)}.")
    missing = [m for m in run.modalities if m not in recipe.model.modalities]
    if missing:
        out.append(f"It does not read {' and '.join(missing)}.")
    out.append("Tested on judged lists, not on users: whom the judgements stand for, the data do not say.")
    out.append("Scores order the candidates of one query; between queries they mean nothing.")
    return out
