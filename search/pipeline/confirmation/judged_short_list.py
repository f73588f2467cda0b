"""The short list as validation judges it: retrained with fresh seeds, each candidate as an ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fusion_models.data.clusters import query_clusters
from fusion_models.evaluation import split_lists
from fusion_models.metrics import Interval
from fusion_models.quantities import Outputs, ensemble
from search.analysis.measure import ConfirmedRow, mean_interval, mean_ndcg, quantities
from search.pipeline.baselines import Reference, by_role
from search.pipeline.confirmation.finalist import Finalist, next_rung, standing_finalist
from search.pipeline.confirmation.short_list import (
    BASE,
    SHORT_LIST,
    Candidate,
    as_it_was,
    candidates,
    of_first_seeds,
    short_list,
    short_list_jobs,
)
from search.pipeline.context import Run
from search.run_store.artifacts import OUTPUTS, read_outputs
from search.run_store.job import TrialRecord
from search.study.seeds import MOST_ON_SHORT_LIST
from search.study.stages import FixedStage

SHORT_LISTED = "short list"
"""What confirmed.csv calls the trainings by which the finalist is chosen."""
CONFIRM = "confirm"
"""The stage's name in a run's journal."""


@dataclass(frozen=True, kw_only=True)
class JudgedShortList:
    """The short list with fresh seeds, on validation: each candidate as an ensemble."""

    candidates: Sequence[Candidate]
    outputs: Mapping[str, Outputs]
    """By trial; so are the quantities."""
    quantities: Mapping[str, Mapping[str, Interval]]
    trainings: Mapping[str, Sequence[Outputs]]

    @property
    def best(self) -> Candidate | None:
        """The best ranker of all, whatever its gates, by nDCG of ensembles of one size."""
        size = min((len(runs) for runs in self.trainings.values()), default=0)
        means = {name: mean_ndcg(ensemble(runs[:size])) for name, runs in self.trainings.items()}
        return max(self.candidates, key=lambda c: means[c.trial_id], default=None)

    def rows(self, finalist: Finalist | None) -> list[ConfirmedRow]:
        """Of confirmed.csv."""
        return [
            ConfirmedRow(
                trial_id=c.trial_id,
                name="base" if c.is_base else c.trial_id,
                finalist=finalist is not None and c.trial_id == finalist.trial_id,
                split="validation",
                seeds=len(c.trainings),
                quantities=self.quantities[c.trial_id],
                trainings=SHORT_LISTED,
            )
            for c in self.candidates
        ]


def judge_short_list(run: Run, references: Sequence[Reference]) -> JudgedShortList:
    """Trained where it is not yet, rung by rung, and read. `references`: as validation has them.

    All of the first rung get one training; the best of them and the base recipe a second; of these, those whose order
    is not clear yet a third. Where the finalist stands already, the list is the one that it was chosen from, whatever
    the front is now.
    """
    asked = run.options.confirm_seeds
    seeds = MOST_ON_SHORT_LIST if asked is None else min(MOST_ON_SHORT_LIST, asked)
    searched = run.trainer.records("search")
    chosen = short_list(run.phase, searched) if seeds else []
    standing = standing_finalist(run.folder, run.verdict, chooses_anew=run.chooses_anew)
    if standing is not None:
        if standing.of:
            place = {name: at for at, name in enumerate(dict.fromkeys((*standing.of, standing.trial_id)))}
            chosen = sorted((r for r in searched if r.trial_id in place), key=lambda r: place[r.trial_id])
        run.trainer.train([FixedStage(run.store.journal, CONFIRM, [])])  # nothing new; what there is, is read
        return _read(run, as_it_was(chosen, run.trainer.records(CONFIRM)))
    rung = chosen
    for members in range(1, seeds + 1):
        jobs = short_list_jobs(rung, members)
        run.trainer.train([FixedStage(run.store.journal, CONFIRM, jobs, earlier=run.earlier)])
        if members < seeds:
            rung = _next_rung(run, rung, references, members)
    out = {record.trial_id for record in chosen} - {record.trial_id for record in rung}
    return _read(run, candidates(chosen, run.trainer.records(CONFIRM), left_out=out))


def _next_rung(
    run: Run, rung: Sequence[TrialRecord], references: Sequence[Reference], members: int
) -> list[TrialRecord]:
    """Who of a rung gets one more training, by the first `members` of each: another's third is none of its business."""
    listed = _read(run, candidates(rung, of_first_seeds(run.trainer.records(CONFIRM), members), least=1))
    found = listed.candidates
    if not found:
        return list(rung)  # each has failed so far: its next training may not
    leads = {c.trial_id: validation_leads(run, c, listed, references) for c in found}
    kept = {c.trial_id for c in next_rung(run.phase, listed.quantities, leads, found, SHORT_LIST)}
    out = [record.trial_id for record in rung if record.trial_id not in kept and record.name != BASE]
    if out:
        run.console.print(f"short list: no further training of {', '.join(out)}, by validation", highlight=False)
    return [record for record in rung if record.trial_id in kept or record.name == BASE]


def _read(run: Run, found: Sequence[Candidate]) -> JudgedShortList:
    lists, clusters = split_lists(run.data, "validation"), query_clusters(run.data, "validation")
    trainings = {
        c.trial_id: [read_outputs(run.folder.checkpoints / t / OUTPUTS, lists) for t in c.trainings] for c in found
    }
    outputs = {trial_id: ensemble(members) for trial_id, members in trainings.items()}
    measured = {trial_id: quantities(together, clusters=clusters) for trial_id, together in outputs.items()}
    return JudgedShortList(candidates=found, outputs=outputs, quantities=measured, trainings=trainings)


def validation_leads(
    run: Run, candidate: Candidate, listed: JudgedShortList, references: Sequence[Reference]
) -> list[Interval]:
    """Of a candidate's ensemble over the base recipe's, and from phase 3 on over trees and the weighted sum."""
    outputs = listed.outputs[candidate.trial_id]
    mine = outputs.ndcg
    rivals = [listed.outputs[c.trial_id].ndcg for c in listed.candidates if c.is_base and not candidate.is_base]
    if run.phase.late:
        wanted = [by_role(references, "trees"), by_role(references, "sum with v1")]
        rivals += [reference.outputs.ndcg for reference in wanted if reference is not None]
    clusters = query_clusters(run.data, "validation")
    return [mean_interval(mine - rival, outputs.lists.uneven, clusters=clusters) for rival in rivals]
