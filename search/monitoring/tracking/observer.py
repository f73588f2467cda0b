"""Carries a run to a tracker without making it wait: a tracker that fails or hangs costs itself, never the run."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from fusion_models.files import write_whole
from search.options import RunOptions
from search.run_store.folder import RunFolder
from search.run_store.job import Job, TrialRecord, below
from search.study.stages import Stage

FILE = "tracking.json"
"""In the run folder: tracker -> id of the parent run there, so that a resumed run goes on in it."""
FILES = ("report.html", "decision.json", "decision.md", "pareto.csv", "confirmed.csv", "baselines.csv", "trials.csv")
"""Artifacts of the parent run."""
PATIENCE = 60.0
"""Seconds that the end of a run waits for its tracker."""
STOPPING = 10.0
"""Seconds that an interrupted run waits for it."""
CHILDREN = "trainings"
"""In that file: tracker -> trainings that stand there."""
Curve = Sequence[tuple[int, dict[str, float]]]
"""(epoch, objectives by name) of one training."""


class Tracker(Protocol):
    """One parent run in a tracker, and its children. Any method may raise anything: nothing more is then tracked."""

    def begin(self, name: str, description: dict[str, Any], known: str | None) -> str:
        """Open the parent run, the one with the id `known` where there is one; returns its id."""

    def trial(self, record: TrialRecord, curve: Curve) -> None:
        """A training that has ended, as a child."""

    def end(self, decision: dict[str, Any], files: Sequence[Path]) -> None:
        """Verdict and gates of the parent run, and its artifacts."""

    def stop(self) -> None:
        """Close the parent run as one that was interrupted, in which a resumed run goes on."""


class Tracking:
    """An observer of trainings that hands what has ended to a tracker, in order, on one thread."""

    def __init__(self, folder: RunFolder, console: Console, name: str, build: Callable[[], Tracker] | None) -> None:
        """`build` makes the tracker (on the thread, whose connection may hang); None: nothing is tracked."""
        self._folder, self._console, self._name, self._build = folder, console, name, build
        self._curves: dict[str, list[tuple[int, dict[str, float]]]] = {}
        self._waiting: queue.SimpleQueue[Callable[[Tracker], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._told: set[str] = set()

    def take(self, records: Sequence[TrialRecord]) -> None:
        """Hand over what ended before and stands nowhere yet, since the run was interrupted; its curves are lost.

        A run whose trainings were not noted was tracked by an older version: nothing of it is written twice.
        """
        if self._build is None or (self._name in self._described() and CHILDREN not in self._described()):
            return
        told = self._told.union(self._children())
        for record in records:
            if record.trial_id not in told and record.taken_over is None and record.state != "running":
                self._tell(record, [])

    def on_epoch(self, stage: Stage, job: Job, result: dict[str, Any]) -> None:
        """Keep the epoch's objectives until the training ends."""
        if self._build is not None:
            curve = self._curves.setdefault(job.trial_id, [])
            curve += [(int(epoch["epochs"]), dict(epoch["numbers"])) for epoch in result.get("before", ())]
            curve.append((int(result["epochs"]), below(result, "numbers")))

    def on_end(self, stage: Stage, record: TrialRecord, result: dict[str, Any]) -> None:
        """Hand over what ended."""
        if self._build is not None:
            self._tell(record, self._curves.pop(record.trial_id, []))

    def end(self) -> None:
        """Verdict and files of a run that has ended; waits for the tracker a while, and then no longer."""
        if self._build is None:
            return
        decision = self._folder.path / "decision.json"
        said = json.loads(decision.read_text()) if decision.exists() else {}
        files = [path for name in FILES if (path := self._folder.path / name).exists()]
        self._do(lambda tracker: tracker.end(said, files))
        self._close(PATIENCE)

    def stop(self) -> None:
        """Wait a little until what has ended stands there, where a run is interrupted or fails."""
        if self._thread is not None:
            self._do(lambda tracker: tracker.stop())
            self._close(STOPPING)

    @contextlib.contextmanager
    def stopped_by_errors(self) -> Iterator[None]:
        """Inside, whatever ends the run before `end`, Ctrl-C too, leaves no parent run that seems to go on."""
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def _close(self, patience: float) -> None:
        self._waiting.put(None)
        assert self._thread is not None
        self._thread.join(patience)
        silent = self._thread.is_alive()
        self._thread = None
        if silent:
            self._say(f"it does not answer; {patience:.0f} s were enough")

    def _tell(self, record: TrialRecord, curve: Curve) -> None:
        self._told.add(record.trial_id)

        def told(tracker: Tracker) -> None:
            tracker.trial(record, curve)
            known = self._described()
            if CHILDREN in known:
                children = known[CHILDREN] | {self._name: [*self._children(), record.trial_id]}
                write_whole(self._folder.path / FILE, json.dumps(known | {CHILDREN: children}, indent=1) + "\n")

        self._do(told)

    def _do(self, call: Callable[[Tracker], None]) -> None:
        if self._thread is None:
            self._waiting = queue.SimpleQueue()
            self._thread = threading.Thread(target=self._work, args=(self._waiting,), name=self._name, daemon=True)
            self._thread.start()
        self._waiting.put(call)

    def _work(self, waiting: queue.SimpleQueue[Callable[[Tracker], None] | None]) -> None:
        assert self._build is not None
        tracker: Tracker | None = None
        try:
            tracker = self._build()
            described = self._folder.read() or {}
            known = self._described()
            name = "/".join(self._folder.path.parts[-2:]) if described.get("roadmap") else self._folder.path.name
            mine = tracker.begin(name, described, known.get(self._name))
            said = {CHILDREN: {}} | known if self._name not in known else known
            write_whole(self._folder.path / FILE, json.dumps(said | {self._name: mine}, indent=1) + "\n")
            while (call := waiting.get()) is not None:
                call(tracker)
        except Exception as error:
            what = " ".join(str(error).split())[:300]
            if self._thread is threading.current_thread():  # else the run has said that it waits no longer
                self._say(f"{type(error).__name__}: {what}")
            while waiting.get() is not None:
                pass

    def _described(self) -> dict[str, Any]:
        """The file."""
        path = self._folder.path / FILE
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def _children(self) -> list[str]:
        """Trainings that stand in the tracker already."""
        return list(self._described().get(CHILDREN, {}).get(self._name, []))

    def _say(self, why: str) -> None:
        said = f"{self._name} is not written any more, and the run goes on without it: {why}"
        self._console.print(said, style="yellow", highlight=False, markup=False, emoji=False, soft_wrap=True)


def tracking_for(options: RunOptions, folder: RunFolder, console: Console) -> Tracking:
    """What `--track` asks for; without it a Tracking that does nothing."""
    if options.track is None:
        return Tracking(folder, console, "nothing", None)
    if options.track == "mlflow":
        from search.monitoring.tracking.mlflow import MlflowTracker

        return Tracking(folder, console, "mlflow", MlflowTracker)
    from search.monitoring.tracking.wandb import WandbTracker

    return Tracking(folder, console, "wandb", lambda: WandbTracker(folder.path))
