"""How sure a place on the front is: the front recomputed on query replicates of the validation split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import moocore
import numpy as np
import numpy.typing as npt

from fusion_models.data.groups import Groups
from search.run_store.artifacts import QUERIES, read_queries
from search.run_store.folder import RunFolder
from search.run_store.job import TrialRecord
from spaces import Phase

REPLICATES = 400


def p_on_front(
    folder: RunFolder, phase: Phase, searched: Sequence[TrialRecord], *, groups: Groups | None = None, seed: int
) -> dict[str, float]:
    """Trial id -> share of query replicates in which no finished trial dominates it (bounded objectives).

    Queries are drawn with replacement, groups of them together (`groups` `[Q]`), and the same ones for every trial, so
    that what is common to them cancels. Trials whose values per query are gone are left out, with those that have not
    finished.
    """
    finished = [r for r in searched if r.finished and (folder.checkpoints / r.trial_id / QUERIES).exists()]
    if not finished:
        return {}
    runs = [read_queries(folder.checkpoints / r.trial_id / QUERIES) for r in finished]
    relevant = np.isfinite(runs[0]["ndcg"])
    standing = np.arange(len(relevant)) if groups is None else groups
    _, member = np.unique(standing[relevant], return_inverse=True)
    count = int(member.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1.0 / count), size=REPLICATES)
    weights = np.zeros((REPLICATES, len(relevant)))
    weights[:, relevant] = drawn[:, member]
    values = [_objectives(run, weights) for run in runs]
    signs = np.array([-1.0 if o.direction == "maximize" else 1.0 for o in phase.objectives])
    on_front = np.zeros(len(finished))
    for replicate in range(REPLICATES):
        rows = [phase.objective_values({name: column[replicate] for name, column in found.items()}) for found in values]
        on_front += moocore.is_nondominated(np.array(rows) * signs, keep_weakly=True)
    return {record.trial_id: float(count / REPLICATES) for record, count in zip(finished, on_front, strict=True)}


def _objectives(run: Mapping[str, npt.NDArray[Any]], weights: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Each objective on every replicate, `[R]`; `weights` is `[R, Q]`, how often each query was drawn."""
    ndcg = np.nan_to_num(run["ndcg"])
    drawn = weights.sum(axis=1)
    full = weights @ ndcg
    masked = weights @ np.nan_to_num(run["masked.visual.zero"]) if "masked.visual.zero" in run else full
    documents = run["documents"]
    shares = np.einsum("rq,q,qm->rm", weights, documents, run["shares"].mean(axis=1)) / (weights @ documents)[:, None]
    ab, aa, bb = (weights @ run["moments"]).T
    return {
        "ndcg_gain": (full - weights @ np.nan_to_num(run["v1_ndcg"])) / drawn,
        "visual_masking_drop": 1.0 - masked / full,
        "attention_max_share": shares.max(axis=1),
        "v1_correlation": ab / np.sqrt(aa * bb),
    }
