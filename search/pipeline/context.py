"""What every step of a run needs, in one place."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from optuna.storages import BaseStorage
from rich.console import Console

from fusion_models.data import RankingDataset
from fusion_models.metrics import WeightedSum
from search.analysis.tables import write_tables
from search.execution.timeouts import epoch_limit
from search.execution.tuning import TuneSession, call_in_ray
from search.monitoring.background import InBackground
from search.monitoring.mirroring import MirrorObserver
from search.monitoring.progress import ProgressObserver
from search.monitoring.tensorboard import TensorBoardObserver
from search.options import RunOptions
from search.pipeline.training_time import seconds_a_training
from search.run_store.folder import RunFolder
from search.run_store.job import TrialRecord
from search.run_store.looks import DECIDING_SPLIT
from search.run_store.mirror import Mirror
from search.run_store.records import journal_records
from search.study.stages import Earlier, Stage
from spaces import Phase


@dataclass
class Run:
    """One run of one phase."""

    options: RunOptions
    console: Console
    phase: Phase
    data: RankingDataset
    folder: RunFolder
    storage: BaseStorage
    began: float = field(default_factory=time.monotonic)
    stages: list[Stage] = field(default_factory=list)
    deciding: str = DECIDING_SPLIT
    """The split that the verdict reads, opened after the finalist is fixed."""
    earlier: Earlier | None = None
    """Trainings of earlier phases, which are taken over and not done again."""
    mirror: Mirror | None = None
    """Where the run folder is kept as well, when --results is a URI."""
    tuned: dict[str, WeightedSum] = field(default_factory=dict)
    """Weights of reference rankers, by name, tuned on the validation split."""
    p_on_front: Mapping[str, float] | None = None
    """See `replicates.p_on_front`, where it has been computed: what trains more in a run that has ended keeps it."""
    session: TuneSession | None = None
    """What trains, inside `tuning`."""

    @property
    def deadline(self) -> float | None:
        """`time.monotonic()` after which the time budget is spent."""
        budget = self.options.budget_seconds
        return None if budget is None else self.began + budget

    def records(self, *names: str) -> list[TrialRecord]:
        """Trials of the named stages, or of all that have been opened so far."""
        return [r for stage in self.stages if not names or stage.name in names for r in stage.records()]

    @cached_property
    def training_seconds(self) -> float:
        """About how long the base recipe trains: measured once, before processes start that would disturb it."""
        return seconds_a_training(self.data, self.phase)

    @contextlib.contextmanager
    def tuning(self, *, keep: bool = True) -> Iterator[None]:
        """Inside, with Ray running, the run can train; with `keep`, in processes that stay from stage to stage."""
        session = TuneSession(
            self.options,
            source=self.data.source,
            fingerprint=self.data.fingerprint,
            arrays=self.data.folder,
            checkpoints=self.folder.checkpoints,
            tune_folder=self.folder.tune,
            epoch_limit=epoch_limit(self.options, self.phase, self.training_seconds),
            keep=keep,
        )
        before, self.session = self.session, session
        try:
            with session:
                yield
        finally:
            self.session = before
            shutil.rmtree(self.folder.tune, ignore_errors=True)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        """See `TuneSession.call`; without a session, as a Ray task."""
        return self.session.call(function, *arguments) if self.session else call_in_ray(function, *arguments)

    def train(self, stages: Sequence[Stage], *, deadline: float | None = None) -> None:
        """Train what the stages still have, and write the tables."""
        self.stages += [stage for stage in stages if stage not in self.stages]
        left = sum(stage.left for stage in stages)
        if left <= 0:
            return
        board = TensorBoardObserver(self.folder.tensorboard, self.phase)
        progress = ProgressObserver(self.console, self.phase, left)
        searched = [r for r in self.records("search") if r.state != "running"]
        progress.take(searched)
        board.take(searched)
        if self.options.resume:
            board.mend([r for r in self.records() if not r.state_reason.startswith("taken over")])
        mirror = [MirrorObserver(self.mirror, self.console)] if self.mirror is not None else []
        try:
            with progress, InBackground(board) as in_background:
                assert self.session is not None, "trainings need a session: see Run.tuning"
                self.session.train(
                    stages,
                    [progress, in_background, *mirror],
                    deadline=deadline,
                    on_waiting=progress.on_waiting,
                )
        finally:
            board.close()
            for observer in mirror:
                observer.close()
        write_tables(self.folder, self.phase, journal_records(self.storage), self.p_on_front)
