"""Cold lists: whether V2 holds on items that nothing which decides was trained on.

Where test items recur in training, an image (or whatever the suspect is) may be no more than its item's name: what
looks like a gain is learnt by heart. So a fifth of the items leave the training of every arm that decides, and gains
must show on them too.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fusion_models.data.views.cold import ColdLists, cold_items, cold_lists
from fusion_models.data.views.cold import needs_cold_lists as items_recur
from fusion_models.quantities import Lists, Outputs
from fusion_models.quantities.outputs import Values, tensor
from search.analysis.judged import Cold
from search.analysis.measure import mean_interval
from search.pipeline.confirmation.gathering import Measured, refit_gains
from search.pipeline.context import Run
from search.run_store.facts import Facts
from search.run_store.looks import DECIDING_SPLIT, Look


def needs_cold_lists(run: Run, facts: Facts) -> bool:
    """Whether test items recur in training, in a phase that judges for new ones, and no fact says that none comes.

    It reads the items of the test split and none of its labels.
    """
    return _asks(run, facts) and items_recur(run.data, DECIDING_SPLIT, run.phase.suspect)


def expects_cold_lists(run: Run, facts: Facts) -> bool:
    """The same as validation's items have it, for a plan: while a run is planned the test split stays closed."""
    return _asks(run, facts) and items_recur(run.data, "validation", run.phase.suspect)


def _asks(run: Run, facts: Facts) -> bool:
    return run.phase.late and run.deciding == DECIDING_SPLIT and not facts.closed_catalogue


def read_cold(run: Run, whole: Measured, look: Look, *, needed: bool) -> Cold:
    """Gain over V1 and refit gains on the cold lists of the test split; unmeasured with fewer than two that count."""
    if not needed:
        return Cold(needed=False)
    lists = cold_lists(run.data, DECIDING_SPLIT, cold_items(run.data, suspect=run.phase.suspect))
    count = int((whole.artefact.lists.weights[lists.kept] > 0).sum())
    if count < 2:
        return Cold(needed=True, queries=count)
    cut = {key: [_cut(outputs, lists) for outputs in runs] for key, runs in whole.trained.items()}
    clusters = None if whole.clusters is None else whole.clusters[lists.kept]
    found = dataclasses.replace(whole, trained=cut, references=(), clusters=clusters)
    artefact = found.artefact
    gain = artefact.ndcg - artefact.lists.v1_ndcg
    return Cold(
        needed=True,
        queries=count,
        gain=mean_interval(gain, artefact.lists.uneven, clusters=clusters, level=look.level),
        refit_gain=refit_gains(found, look.level),
    )


def _cut(outputs: Outputs, cold: ColdLists) -> Outputs:
    """One ranker on the cold lists: the same scores, of fewer candidates."""
    whole = outputs.lists

    def kept(values: Values) -> Values:
        return np.asarray(cold.take(tensor(values)).numpy())

    lists = Lists(
        rows=whole.rows[cold.kept],
        labels=kept(whole.labels),
        v1=kept(whole.v1),
        valid=cold.valid.numpy(),
        weight=None if whole.weight is None else whole.weight[cold.kept],
        metric=whole.metric,
    )
    return Outputs(lists=lists, scores=kept(outputs.scores), modalities=outputs.modalities)
