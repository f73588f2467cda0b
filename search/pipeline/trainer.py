"""What trains a run's stages, and writes the tables after each of them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from rich.console import Console

from fusion_models.data import RankingDataset
from search.analysis.tables import write_tables
from search.execution.capacity import keep_stack_size, knows_stack_size, stack_size
from search.execution.file_transfer import DataTicket, ticket_for
from search.execution.searcher import Deadline, Observer
from search.execution.stacks.stack_sizing import measure_stack_size
from search.execution.tuning import TuneSession, call_in_ray
from search.monitoring.background import InBackground
from search.monitoring.mirroring import MirrorObserver
from search.monitoring.progress import ProgressObserver
from search.monitoring.tensorboard import TensorBoardObserver
from search.monitoring.tracking import tracking_for
from search.options import RunOptions
from search.pipeline.late import costs_itself
from search.pipeline.store import RunStore
from search.pipeline.training_time import epoch_limit, seconds_a_training, seconds_found
from search.run_store.job import TrialRecord
from search.run_store.records import journal_records
from search.study.stages import Stage
from spaces import Phase


class Trainer:
    """Trains stages through Ray, inside `tuning`."""

    def __init__(
        self,
        store: RunStore,
        phase: Phase,
        data: RankingDataset,
        options: RunOptions,
        console: Console,
        *,
        p_on_front: Mapping[str, float] | None = None,
    ) -> None:
        """`p_on_front`: of a run that has ended and trains more, so that its pareto.csv keeps it."""
        self._store, self._phase, self._data = store, phase, data
        self._options, self._console, self._p_on_front = options, console, p_on_front
        self._stages: dict[str, Stage] = {}
        self._session: TuneSession | None = None
        self._stopped: Exception | None = None
        self.tracking = tracking_for(options, store.folder, console)
        """The experiment tracker that hears of every training; `end` it when the run's files are written."""

    @cached_property
    def training_seconds(self) -> float:
        """About how long the base recipe trains: measured once, before processes start that would disturb it."""
        return seconds_a_training(self._data, self._phase)

    def seconds_found(self, *names: str) -> float:
        """About how long a training takes, by those of the named stages that have finished, once a few have."""
        return seconds_found(self.records(*names), self.training_seconds)

    @property
    def keeps_processes(self) -> bool:
        """Whether calls run in processes that stay, beside what the driver does."""
        return self._session is not None and self._session.keeps

    def records(self, *names: str) -> list[TrialRecord]:
        """Trials of the named stages, or of all that have been opened so far."""
        return [r for name, stage in self._stages.items() if not names or name in names for r in stage.records()]

    @contextlib.contextmanager
    def tuning(self, *, keep: bool = True) -> Iterator[None]:
        """Inside, with Ray running, stages can be trained; with `keep`, in processes that stay from stage to stage."""
        folder, ticket = self._store.folder, ticket_for(self._data)
        self._size_stacks(ticket)
        session = TuneSession(
            self._options,
            ticket,
            checkpoints=folder.checkpoints,
            tune_folder=folder.tune,
            epoch_limit=epoch_limit(self._options, self._phase, self.training_seconds),
        )
        before, self._session = self._session, session
        try:
            with session if keep else contextlib.nullcontext():
                yield
        except BaseException:  # Ctrl-C too: what has ended is to stand in the tracker
            self.tracking.stop()
            raise
        finally:
            self._session = before
            shutil.rmtree(folder.tune, ignore_errors=True)

    def _size_stacks(self, ticket: DataTicket) -> None:
        """Find out how large a stack pays where that is to be found, and keep it in run.json: what the search proposes
        hangs on how many train at once, so a run that goes on takes the size that it began with."""
        folder, options = self._store.folder, self._options
        described = folder.read()
        known = (described or {}).get("stack_size")
        if known is not None:
            keep_stack_size(options, int(known))
        said = measure_stack_size(options, ticket, self._phase.base)
        if said:
            self._console.print(said, highlight=False)
        if described is not None and known is None and knows_stack_size(options):
            folder.write(described | {"stack_size": stack_size(options)})

    def call(self, function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        """See `TuneSession.call`; without a session, as a Ray task."""
        return self._session.call(function, *arguments) if self._session else call_in_ray(function, *arguments)

    def train(self, stages: Sequence[Stage], *, deadline: Deadline | None = None) -> None:
        """Train what the stages still have, and write the tables."""
        self._stages |= {stage.name: stage for stage in stages}  # one that is opened again reads the same journal
        left = sum(stage.left for stage in stages)
        if left <= 0:
            return
        folder, mirror = self._store.folder, self._store.mirror
        board = TensorBoardObserver(folder.tensorboard, self._phase)
        of = [stage.name for stage in stages if stage.left > 0]
        progress = ProgressObserver(self._console, self._phase, left, of=of)
        searched = [r for r in self.records("search") if r.state != "running"]
        progress.take(searched)
        board.take(searched)
        if self._options.resume:
            board.mend([r for r in self.records() if r.taken_over is None])
            self.tracking.take(self.records())
        mirroring = [MirrorObserver(mirror, self._console)] if mirror is not None else []
        try:
            with progress, InBackground(board, self._board_failed) as in_background:
                assert self._session is not None, "trainings need a session: see Trainer.tuning"
                observers: list[Observer] = [progress, in_background, self.tracking, *mirroring]
                self._session.train(stages, observers, deadline=deadline, on_waiting=progress.on_waiting)
        except Exception as error:
            self._stopped = error
            raise
        finally:
            with costs_itself(self._console, "TensorBoard's last lines", "the tables are whole"):
                board.close()
            for observer in mirroring:
                observer.close()
        self.write_tables()

    def _board_failed(self, error: Exception) -> None:
        with costs_itself(self._console, "TensorBoard", "its curves end here, and the run goes on without it"):
            raise error

    def stopped_by(self, error: Exception) -> bool:
        """Whether `error` ended trainings before their end: `--resume` goes on with them, so the run ends too."""
        return error is self._stopped

    def write_tables(self) -> None:
        """Write what the journal knows, so that what has finished is in the tables however a run ends."""
        write_tables(self._store.folder, self._phase, journal_records(self._store.journal), self._p_on_front)

    def write_what_finished(self) -> None:
        """`write_tables` on the way of an error, which a disk that is full does not replace."""
        with contextlib.suppress(OSError):
            self.write_tables()


class TrainerOfEnded(Trainer):
    """Of a run that has ended and trains more: its trials are those of its journal."""

    def records(self, *names: str) -> list[TrialRecord]:
        """Trials of the named stages, or of all."""
        return [r for r in journal_records(self._store.journal) if not names or r.stage in names]
