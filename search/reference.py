"""The rankers that a fusion must beat, on one split: V1, each modality alone, their weighted sum, LambdaMART."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from fusion_models.baselines import Baseline, lambdamart, tuned_weights, weighted_sum
from fusion_models.config import MODALITIES, Recipe
from fusion_models.data.clusters import Clusters
from fusion_models.evaluation import Scored, score
from fusion_models.metrics import Interval, centred_correlation, paired_bootstrap
from search.artifacts import load_ranker
from search.context import Run
from search.depot import DataTicket, ticket_for
from search.job import Job
from search.opening import require_finalist

V1_MODALITIES = ("text", "metadata")
"""What the production ranker reads."""
TUNED_V1 = "tuned V1"
"""How the names of the baselines begin that use V1's score and V1's own modalities alone."""


def single_modality_jobs(recipe: Recipe, seed: int) -> list[Job]:
    """One training a modality: the recipe with that modality alone, no term that needs another one, and no V1 score."""
    jobs = []
    for modality in MODALITIES:
        alone = recipe.restricted((modality,)).updated({"model.v1_in_context": False}).flat()
        jobs.append(Job(trial_id=f"alone-{modality}", name=f"{modality} alone", recipe=alone, seed=seed))
    return jobs


def reference_rankers(run: Run, split: str) -> list[Baseline]:
    """Every baseline on `split`, V1 first; single-modality rankers that failed to train are left out.

    The weights of the weighted sum are tuned on the validation split, whichever split is measured. Any other split than
    that raises ClosedError before a finalist is fixed.
    """
    if split != "validation":
        require_finalist(run.folder)
    data = run.data
    out: list[Baseline] = []
    trees = _begin_trees(run, split)
    tuning, scored = {}, {}
    for record in run.records("baselines"):
        if not record.finished:
            continue
        model = load_ranker(run.folder.checkpoints / record.trial_id, data)
        found = scored[record.name] = score(model, data, split)
        known = split == "validation" or run.tuned  # all weights at once, or none
        tuning[record.name] = found if known else score(model, data, "validation")
        if not out:
            out.append(Baseline(name="V1", ndcg=found.v1_ndcg(), detail="the production ranker", v1_correlation=1.0))
        out.append(
            Baseline(
                name=record.name,
                ndcg=found.ndcg(),
                detail="one fusion ranker with one modality",
                v1_correlation=centred_correlation(found.scores, found.v1, found.valid),
            )
        )
    with_v1 = run.phase.base.model.v1_in_context
    if len(scored) > 1:
        out.append(_weighted_sum(run, tuning, scored, "weighted sum"))
        ranker = next(iter(scored))
        tuning["V1"], scored["V1"] = tuning[ranker].as_v1(), scored[ranker].as_v1()
        if with_v1:
            out.append(_weighted_sum(run, tuning, scored, "weighted sum with V1"))
        own = [f"{m} alone" for m in V1_MODALITIES if f"{m} alone" in scored] + ["V1"]
        of_own = ({n: tuning[n] for n in own}, {n: scored[n] for n in own})
        name = f"{TUNED_V1} (weighted sum with {' and '.join(V1_MODALITIES)} alone)"
        out.append(_weighted_sum(run, *of_own, name))
    return [*out, *(tree() for tree in trees)]


def _weighted_sum(run: Run, tuning: dict[str, Scored], scored: dict[str, Scored], name: str) -> Baseline:
    """Tuned once a run: the validation split stays what it is."""
    if name not in run.tuned:
        run.tuned[name] = tuned_weights(tuning)
    return weighted_sum(run.tuned[name], scored, name=name)


def _begin_trees(run: Run, split: str) -> list[Callable[[], Baseline]]:
    """LambdaMART on everything, and on V1's own features; where processes idle, beside what the driver does."""
    common: dict[str, Any] = {"seed": run.options.seed, "threads": run.options.cpus_per_worker}
    of_v1: dict[str, Any] = {
        "modalities": V1_MODALITIES,
        "with_v1": True,
        "name": f"{TUNED_V1} (LambdaMART on V1's own features)",
    }
    ticket = ticket_for(run.data)
    wanted = [{"with_v1": run.phase.base.model.v1_in_context}, of_v1]
    if run.session is not None and run.session.keeps:
        return [run.call(_trees, ticket, split, options | common) for options in wanted]
    return [partial(_trees, ticket, split, options | common) for options in wanted]


def _trees(ticket: DataTicket, split: str, options: dict[str, Any]) -> Baseline:
    return lambdamart(ticket.open(), split, **options)


def strongest_tuned_v1(baselines: Sequence[Baseline], validation: pd.DataFrame) -> Baseline:
    """The tuned V1 that is best on the validation split (`reference_table`), measured where `baselines` are.

    Chosen where it is not read: the better of two on the deciding split would be favoured by that choice, and an
    archive rule reads it. On validation the weighted sum is favoured, whose weights were tuned there.
    """
    known = dict(zip(validation["name"], validation["ndcg"], strict=True))
    tuned = (b for b in baselines if b.measured and b.name.startswith(TUNED_V1))
    return max(tuned, key=lambda b: known.get(b.name, -np.inf))


def reference_table(baselines: Sequence[Baseline], *, clusters: Clusters | None = None, seed: int) -> pd.DataFrame:
    """name, ndcg, gain over V1 with CI95 (paired bootstrap over queries, clusters together), V1 correlation, detail."""
    v1 = next(b.ndcg for b in baselines if b.name == "V1")
    rows = []
    for baseline in baselines:
        gain = baseline.ndcg - v1
        known = np.isfinite(gain)
        standing = clusters[known] if clusters is not None else None
        interval = (
            paired_bootstrap(gain[known], clusters=standing, generator=np.random.default_rng(seed))
            if known.any()
            else Interval(np.nan, np.nan, np.nan)
        )
        rows.append(
            {
                "name": baseline.name,
                "ndcg": float(np.nanmean(baseline.ndcg)) if baseline.measured else np.nan,
                "ndcg_gain": interval.mean,
                "ndcg_gain_ci_low": interval.low,
                "ndcg_gain_ci_high": interval.high,
                "v1_correlation": baseline.v1_correlation,
                "detail": baseline.detail,
            }
        )
    return pd.DataFrame(rows)
