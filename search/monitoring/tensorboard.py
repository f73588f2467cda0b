"""TensorBoard for comparing trials: one run a trial, written while it trains, and the search's own curves and front.

Ray's own logger writes HParams only at a trial's end, drops None and odd types, and prefixes every name; here the
HParams of a trial stand from its first epoch, with every objective as a metric column under its plain name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from fusion_models.config import Flat
from fusion_models.markdown import plain_text
from search.analysis.front import GrowingFront
from search.monitoring.front_picture import front_picture
from search.monitoring.hparams import kinds, write_end, write_experiment, write_png, write_start
from search.run_store.job import Job, TrialRecord, below
from search.study.search_stage import SearchStage
from search.study.stages import Stage
from spaces import Phase

PICTURE_EVERY = 4
"""Searched trials between two pictures of the front."""
_END = b"\x0a\x08finished"
"""In an event file, the scalar that only a trial's end writes: field 1 of Summary.Value, its length, its tag."""


class TensorBoardObserver:
    """Writes curves and HParams of every trial, and the search's own curves at experiment level."""

    def __init__(self, folder: Path, phase: Phase) -> None:
        self._folder = folder
        self._phase = phase
        self._kinds = kinds(phase)
        self._writers: dict[str, SummaryWriter] = {}
        self._searched: list[TrialRecord] = []
        self._front = GrowingFront(phase)
        self._seconds = 0.0
        self._experiment = SummaryWriter(str(folder))
        write_experiment(self._experiment, phase)
        self._experiment.flush()
        self._artist = ThreadPoolExecutor(1, thread_name_prefix="front-picture")
        self._drawing: Future[None] | None = None
        self._drawn = 0

    def take(self, records: Sequence[TrialRecord]) -> None:
        """Count what an interrupted run had already searched, so that the hypervolume's curve goes on from there."""
        for record in records:
            self._count(record)
        self._drawn = len(self._searched)

    def mend(self, records: Sequence[TrialRecord]) -> None:
        """Write the end of trials that were told, but whose driver died before TensorBoard heard of it.

        Their HParams and last numbers are complete then; curves that nobody has written are lost.
        """
        for record in records:
            events = (self._folder / record.trial_id).glob("events.*")
            if record.state != "running" and not any(_END in path.read_bytes() for path in events):
                self._write_end(record)

    def on_epoch(self, stage: Stage, job: Job, result: dict[str, Any]) -> None:
        """Loss parts and objectives of an epoch, and of those that were trained since the last result."""
        writer = self._writer(job.trial_id, job.recipe)
        _write_before(writer, result)
        _scalars(writer, below(result, "parts"), "loss", int(result["epochs"]))
        _scalars(writer, below(result, "numbers"), "", int(result["epochs"]))
        writer.flush()

    def on_end(self, stage: Stage, record: TrialRecord, result: dict[str, Any]) -> None:
        """The final numbers, the trial's state, and the front's hypervolume."""
        writer = self._writer(record.trial_id, record.recipe)
        _write_before(writer, result)
        _scalars(writer, below(result, "parts"), "loss", record.epochs)
        self._write_end(record)
        if isinstance(stage, SearchStage):
            self._count(record)
            self._write_search()

    def close(self) -> None:
        """Draw the last picture and close every file."""
        if self._drawn < len(self._searched):
            self._draw(wait=True)
        self._artist.shutdown(wait=True)
        for writer in [*self._writers.values(), self._experiment]:
            writer.close()

    def _write_end(self, record: TrialRecord) -> None:
        writer = self._writer(record.trial_id, record.recipe)
        ended = {"epochs": float(record.epochs), "finished": float(record.finished)}
        _scalars(writer, record.numbers | ended, "", record.epochs)
        writer.add_text("state", plain_text(f"{record.state} {record.state_reason}".strip()))
        write_end(writer, record.state)
        writer.close()
        del self._writers[record.trial_id]

    def _count(self, record: TrialRecord) -> None:
        self._searched.append(record)
        self._front.add(record)
        self._seconds += record.seconds if math.isfinite(record.seconds) else 0.0

    def _write_search(self) -> None:
        step = len(self._searched)
        front = self._front
        found = {"hypervolume": front.hypervolume, "front size": float(len(front))}
        if len(front):
            found["best gain on the front"] = front.best_gain
        _scalars(self._experiment, found, "", step)
        self._experiment.add_scalar("hypervolume by training seconds", front.hypervolume, round(self._seconds))
        self._experiment.flush()
        if step - self._drawn >= max(PICTURE_EVERY, self._drawn // 4):  # rarer and rarer: each shows all trials anew
            self._draw(wait=False)

    def _draw(self, *, wait: bool) -> None:
        """The front as a picture, beside the search; one that is still being drawn is not waited for."""
        if not wait and self._drawing is not None and not self._drawing.done():
            return
        self._drawn = len(self._searched)
        self._drawing = self._artist.submit(self._picture, tuple(self._searched))
        if wait:
            self._drawing.result()

    def _picture(self, searched: Sequence[TrialRecord]) -> None:
        try:
            write_png(self._experiment, "front", *front_picture(self._phase, searched), len(searched))
        except Exception as error:  # a picture is not worth a run; that it is missing is said where it would be
            self._experiment.add_text("front", plain_text(f"not drawn: {type(error).__name__}: {error}"), len(searched))
        self._experiment.flush()

    def _writer(self, trial_id: str, recipe: Flat) -> SummaryWriter:
        if trial_id not in self._writers:
            self._writers[trial_id] = SummaryWriter(str(self._folder / trial_id))
            write_start(self._writers[trial_id], trial_id, recipe, self._kinds)
        return self._writers[trial_id]


def _write_before(writer: SummaryWriter, result: dict[str, Any]) -> None:
    for epoch in result.get("before", ()):
        _scalars(writer, epoch["parts"], "loss", epoch["epochs"])
        _scalars(writer, epoch["numbers"], "", epoch["epochs"])


def _scalars(writer: SummaryWriter, values: dict[str, float], prefix: str, step: int) -> None:
    for name, value in values.items():
        writer.add_scalar(f"{prefix}/{name}" if prefix else name, value, step)
