"""How sure a place on the front is: the front recomputed on query replicates of the validation split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import moocore
import numpy as np
import numpy.typing as npt

from fusion_models.data.clusters import Clusters
from fusion_models.quantities import Lists, Outputs, quantity
from search.run_store.artifacts import OUTPUTS, read_outputs
from search.run_store.folder import RunFolder
from search.run_store.job import TrialRecord
from spaces import Phase

REPLICATES = 400


def p_on_front(
    folder: RunFolder,
    phase: Phase,
    searched: Sequence[TrialRecord],
    lists: Lists,
    *,
    clusters: Clusters | None = None,
    seed: int,
) -> dict[str, float]:
    """Trial id -> share of query replicates in which no finished trial dominates it (bounded objectives).

    Queries are drawn with replacement, clusters of them together (`clusters` `[Q]`), and the same ones for every trial,
    so that what is common to them cancels. `lists` are those of validation. Trials whose outputs are gone are left
    out, with those that have not finished.
    """
    finished = [r for r in searched if r.finished and (folder.checkpoints / r.trial_id / OUTPUTS).exists()]
    if not finished:
        return {}
    standing = np.arange(len(lists.rows)) if clusters is None else clusters
    _, member = np.unique(standing[lists.relevant], return_inverse=True)
    count = int(member.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1.0 / count), size=REPLICATES)
    weights = np.zeros((REPLICATES, len(lists.rows)))
    weights[:, lists.relevant] = drawn[:, member]
    values = []
    for record in finished:
        outputs = read_outputs(folder.checkpoints / record.trial_id / OUTPUTS, lists)
        values.append(objective_replicates(phase, outputs, weights))
    signs = np.array([-1.0 if o.direction == "maximize" else 1.0 for o in phase.objectives])
    on_front = np.zeros(len(finished))
    for replicate in range(REPLICATES):
        rows = [phase.objective_values({name: column[replicate] for name, column in found.items()}) for found in values]
        on_front += moocore.is_nondominated(np.array(rows) * signs, keep_weakly=True)
    return {record.trial_id: float(count / REPLICATES) for record, count in zip(finished, on_front, strict=True)}


def objective_replicates(phase: Phase, outputs: Outputs, drawn: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Each objective on every replicate, `[R]`; `drawn` is `[R, Q]`, how often each query was drawn."""
    return {o.name: quantity(o.name, outputs.modalities).replicates(outputs, drawn) for o in phase.objectives}
