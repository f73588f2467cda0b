"""What the search costs on top of its trainings: `python benchmarks/orchestration.py --trials 24`.

Runs a search (Tune, journal, checkpoints, TensorBoard, tables), then the same trainings, with the recipes and seeds
that its journal holds, in a bare loop in as many processes, and prints both wall times and their ratio. "whole" is from
the first import to the last file, the start of Ray and of every worker included; "steady" is from the first training's
first step to the last training's end. Both sides measure each finished ranker in full, since that is part of a trial;
only the search writes checkpoints while it trains. The processor time of all processes of a side, which a busy machine
distorts less than it does wall time, stands in the last row.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

os.environ.setdefault("OMP_NUM_THREADS", "1")

Span = tuple[float, float]


class ProcessorTime:
    """Processor seconds of this process's descendants while the block runs, read twice a second."""

    def __enter__(self) -> ProcessorTime:
        self._seen: dict[tuple[int, float], float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    times = process.cpu_times()
                    self._seen[process.pid, process.create_time()] = times.user + times.system

    @property
    def seconds(self) -> float:
        """What has been spent so far."""
        return sum(self._seen.values())


def bare_training(task: tuple[str, dict[str, Any], str]) -> Span:
    """One training and its measurement in this process; when it began and ended (UNIX seconds)."""
    import torch

    from fusion_models.training import start, train
    from search.run_store.artifacts import measure, write_finished
    from search.run_store.job import Job

    source, plain, folder = task
    data = _dataset(source)
    torch.set_num_threads(1)
    began = time.time()
    job = Job.from_plain(plain)
    state = start(job.to_recipe(), data, seed=job.seed)
    for _ in train(state, data):
        pass
    write_finished(measure(state, data, job), state, data, job, Path(folder) / job.trial_id)
    return began, time.time()


_OPEN: dict[str, Any] = {}


def _dataset(source: str) -> Any:
    if source not in _OPEN:
        from fusion_models.data import open_dataset

        _OPEN[source] = open_dataset(source)
    return _OPEN[source]


def run_search(arguments: argparse.Namespace, results: Path) -> float:
    """The search in a process of its own; its wall time from start to exit."""
    command = [sys.executable, "-m", "search.run", "phase3", "--data", arguments.data]
    command += ["--trials", str(arguments.trials), "--epochs", str(arguments.epochs), "--confirm-seeds", "0"]
    command += ["--scheduler", "none", "--sampler", "random", "--max-concurrent", str(arguments.processes)]
    command += ["--set", f"train.patience={arguments.epochs}", "--results", str(results)]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def read_journal(path: Path) -> tuple[list[dict[str, Any]], Span, float]:
    """The jobs that finished, in the order of their start; from the first step to the last tell; their own seconds."""
    from optuna import load_study
    from optuna.trial import TrialState

    from search.run_store.journal import open_journal

    storage = open_journal(path)
    studies = [load_study(study_name=name, storage=storage) for name in ("baselines", "search")]
    trials = [t for study in studies for t in study.get_trials(states=(TrialState.COMPLETE,))]
    trials.sort(key=lambda t: t.datetime_start.timestamp() if t.datetime_start else 0.0)
    seconds = [t.user_attrs["outcome"]["seconds"] for t in trials]
    ends = [t.datetime_complete.timestamp() for t in trials if t.datetime_complete]
    span = min(end - spent for end, spent in zip(ends, seconds, strict=True)), max(ends)
    return [t.user_attrs["job"] for t in trials], span, sum(seconds)


def run_bare(jobs: Sequence[dict[str, Any]], source: str, processes: int, folder: Path) -> tuple[float, list[Span]]:
    """The same trainings from a pool of fresh processes; wall time, and each training's span."""
    began = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        spans = pool.map(bare_training, [(source, job, str(folder)) for job in jobs], chunksize=1)
    return time.perf_counter() - began, spans


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--data", default="planted?queries=1200&candidates=16")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        _dataset(arguments.data)  # built once, before either side is timed
        with ProcessorTime() as search_processor:
            search_whole = run_search(arguments, Path(scratch))
        jobs, (first, last), search_work = read_journal(Path(scratch) / "phase3" / "study.journal")
        with ProcessorTime() as bare_processor:
            bare_whole, spans = run_bare(jobs, arguments.data, arguments.processes, Path(scratch) / "bare")
        run = json.loads((Path(scratch) / "phase3" / "run.json").read_text())
    bare_steady = max(end for _, end in spans) - min(begin for begin, _ in spans)
    bare_work = sum(end - begin for begin, end in spans)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{platform.processor() or platform.machine()}, {cpus} CPUs, {run['versions']}")
    print(f"{len(jobs)} trainings of {arguments.epochs} epochs on {arguments.data}, {arguments.processes} processes")
    print(f"{'seconds':<34}{'search':>9}{'bare':>9}{'ratio':>8}")
    rows = [
        ("whole, start and end included", search_whole, bare_whole),
        ("steady, first start to last end", last - first, bare_steady),
        ("inside the trainings, a training", search_work / len(jobs), bare_work / len(jobs)),
        ("processor time of all processes", search_processor.seconds, bare_processor.seconds),
    ]
    for name, search, bare in rows:
        print(f"{name:<34}{search:>9.2f}{bare:>9.2f}{search / bare:>8.3f}")


if __name__ == "__main__":
    main()
