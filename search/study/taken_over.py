"""What earlier phases of a roadmap have trained already, and how a later one takes it over.

A training is decided by its recipe (epochs included), its seed and the data. Where all three are the same it is not
done again: its outcome is told to the new study and its files are linked into the new run folder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from fusion_models.data.sources import HALVED
from fusion_models.files import link_or_copy
from fusion_models.metrics.ranking_metric import NDCG_10, RankingMetric
from search.run_store.artifacts import OUTPUTS, RECIPE, WEIGHTS
from search.run_store.folder import RunFolder
from search.run_store.job import Job, Outcome, TrialRecord
from search.run_store.journal import open_journal
from search.run_store.records import journal_records

Identity = tuple[object, ...]


class EarlierRuns:
    """Finished trainings of earlier runs on the same data, wherever it lay, the latest run first.

    The data are the same by their fingerprint, and by whether validation is halved, as at the end of `source`.
    Runs that were measured by another metric are left out: a training stops at the epoch that it finds best.
    """

    def __init__(
        self,
        runs: Sequence[RunFolder],
        *,
        into: RunFolder,
        source: str,
        fingerprint: str,
        metric: RankingMetric = NDCG_10,
    ) -> None:
        self._into = into
        self._searched: dict[Identity, tuple[RunFolder, TrialRecord]] = {}
        self._weighty: dict[Identity, tuple[RunFolder, TrialRecord]] = {}
        """Those whose weights are still there, of whatever stage."""
        own = _sources(into.read() or {})
        for run in reversed(runs):
            described = run.read() or {}
            there = str(described.get("data")).endswith(HALVED), described.get("fingerprint")
            if not run.journal.exists() or there != (source.endswith(HALVED), fingerprint):
                continue
            said = (described.get("definition") or {}).get("metric")
            if said is not None and said != dataclasses.asdict(metric):
                continue
            if _sources(described) != own:
                continue  # another source of somebody's own module, or other weights to start from
            for record in journal_records(open_journal(run.journal)):
                place = run.checkpoints / record.trial_id
                if not record.finished or not (place / OUTPUTS).exists():
                    continue
                identity = _identity(record.recipe, record.seed, record.items)
                if record.stage == "search":
                    self._searched.setdefault(identity, (run, record))
                if (place / WEIGHTS).exists():
                    self._weighty.setdefault(identity, (run, record))

    def searched(self) -> list[Job]:
        """Search trials, named `phase1-t0003` after the phase that trained them."""
        return [
            Job(trial_id=_trial_id(run, record), name=_name(run, record), recipe=record.recipe, seed=record.seed)
            for run, record in self._searched.values()
        ]

    def outcome(self, job: Job) -> Outcome | None:
        """How the same training ended; links its weights, recipe, values per query and curves."""
        identity = _identity(job.recipe, job.seed, job.items)
        found = self._weighty.get(identity) or self._searched.get(identity)
        if found is None or job.detail != "brief":
            return None
        run, record = found
        source = run.checkpoints / record.trial_id
        for name in (WEIGHTS, RECIPE, OUTPUTS):
            link_or_copy(source / name, self._into.checkpoints / job.trial_id / name)
        curves = run.tensorboard / record.trial_id
        for path in curves.glob("*") if curves.exists() else ():
            link_or_copy(path, self._into.tensorboard / job.trial_id / path.name)
        origin = record.taken_over or f"{run.path.name}, trial {record.trial_id}"
        there = f"; there: {record.state_reason}" if record.state_reason and record.taken_over is None else ""
        return Outcome(
            state="finished",
            reason=record.state_reason if record.taken_over else f"taken over from {origin}{there}",
            epochs=record.epochs,
            numbers=record.numbers,
            seconds=record.seconds,
            taken_over=origin,
        )


def _identity(recipe: dict[str, object], seed: int, items: str) -> Identity:
    return (seed, items, *sorted(recipe.items()))


def _sources(described: Mapping[str, Any]) -> tuple[str | None, ...]:
    """Hashes of what decides a training beside recipe, seed and data."""
    return tuple((described.get(name) or {}).get("sha256") for name in ("model", "weights"))


def _name(run: RunFolder, record: TrialRecord) -> str:
    """Known points of two phases may share a name and not a recipe."""
    return record.name if record.name == "sampled" or record.taken_over else f"{record.name} of {run.path.name}"


def _trial_id(run: RunFolder, record: TrialRecord) -> str:
    return record.trial_id if record.taken_over else f"{run.path.name}-{record.trial_id}"
