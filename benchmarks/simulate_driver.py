"""The driver's own cost at scale, without training: `python benchmarks/simulate_driver.py --trials 1000 3000 10000`.

Learning curves that were recorded (tests/search/study/recorded_curves.json, shifted a little for every trial, so that
the front grows) arrive as results would, epoch by epoch from many workers, at the real searcher, scheduler, journal,
progress line, TensorBoard and tables. Every size runs in a process of its own. Printed are seconds of the processor by
part, events a second (an event is an epoch's result, a trial's start or a trial's end), peak memory, and the size of
what was written. What Optuna itself takes to propose a point stands in the part "ask".
"""

import argparse
import contextlib
import heapq
import io
import json
import math
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

CURVES = Path(__file__).parents[1] / "tests" / "search" / "study" / "recorded_curves.json"
PARTS = ("ask", "rungs", "tell", "progress", "tensorboard", "resume", "tables")


class Clock:
    """Processor seconds of this process by part."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        began = time.process_time()
        try:
            yield
        finally:
            self.seconds[name] += time.process_time() - began


class Timed:
    """An observer whose time is counted."""

    def __init__(self, observer: Any, clock: Clock, name: str) -> None:
        self._observer, self._clock, self._name = observer, clock, name

    def on_epoch(self, *arguments: Any) -> None:
        with self._clock.part(self._name):
            self._observer.on_epoch(*arguments)

    def on_end(self, *arguments: Any) -> None:
        with self._clock.part(self._name):
            self._observer.on_end(*arguments)


def recorded() -> tuple[list[str], list[np.ndarray]]:
    """Names of the objectives, and the curves `[E, O]`."""
    found = json.loads(CURVES.read_text())
    return found["keys"], [np.array(trial["curve"]) for trial in found["trials"]]


def measured_once() -> tuple[dict[str, float], dict[str, float]]:
    """Every number that a real training reports at its end, and the parts of its loss."""
    from fusion_models.data import open_dataset
    from fusion_models.training import start, train
    from search.run_store.artifacts import measure, write_finished
    from search.run_store.job import Job
    from spaces import PHASES

    recipe = PHASES["phase1"].base.updated({"train.epochs": 1, "model.layers": 1})
    data = open_dataset("planted?queries=160&candidates=8")
    state = start(recipe, data, seed=0)
    (epoch,) = train(state, data)
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(trial_id="once", name="once", recipe=recipe.flat(), seed=0)
        return write_finished(measure(state, data, job), state, data, job, Path(scratch)), dict(epoch.parts)


def simulate(trials: int, sampler: str, workers: int, folder: Path, *, board: bool) -> dict[str, Any]:
    """One search of `trials` simulated trainings; what it cost."""
    from rich.console import Console

    from search.analysis.tables import write_tables
    from search.execution.moasha import MultiObjectiveAsha
    from search.execution.searcher import StageSearcher
    from search.monitoring.progress import ProgressObserver
    from search.monitoring.tensorboard import TensorBoardObserver
    from search.run_store.folder import RunFolder
    from search.run_store.journal import open_journal
    from search.study.search_stage import SearchStage
    from spaces import PHASES

    keys, curves = recorded()
    numbers, parts = measured_once()
    clock = Clock()
    phase = PHASES["phase1"].with_base({"train.epochs": len(curves[0])})
    place = RunFolder(folder)
    place.prepare(resume=False, fresh=False)
    output = io.StringIO()
    journal = open_journal(place.journal)
    stage = SearchStage(journal, phase, sampler=sampler, trials=trials, seed=0)
    scheduler = MultiObjectiveAsha(stage)
    progress = ProgressObserver(Console(file=output, width=200), phase, trials)
    observers: list[Any] = [Timed(progress, clock, "progress")]
    tensorboard = TensorBoardObserver(place.tensorboard, phase)
    if board:
        observers.append(Timed(tensorboard, clock, "tensorboard"))
    searcher = StageSearcher(why_stopped=scheduler.reason)
    searcher.serve([stage], observers)
    generator = np.random.default_rng(0)
    waiting: list[tuple[float, int]] = []
    running: dict[int, tuple[SimpleNamespace, np.ndarray, int]] = {}
    epochs = ended = 0

    def start(number: int, now: float) -> None:
        with clock.part("ask"):
            config = searcher.suggest(str(number))
        if isinstance(config, dict):
            curve = curves[generator.integers(len(curves))] + generator.normal(0.0, 0.01, size=(1, len(keys)))
            trial = SimpleNamespace(config=config, should_recover=lambda: False)
            running[number] = trial, curve, 0
            heapq.heappush(waiting, (now + generator.exponential(), number))

    began, spent = time.perf_counter(), time.process_time()
    for number in range(workers):
        start(number, 0.0)
    started = workers
    while waiting:
        now, number = heapq.heappop(waiting)
        trial, curve, epoch = running[number]
        epochs += 1
        finished = epoch + 1 == len(curve)
        result: dict[str, Any] = {f"numbers/{k}": v for k, v in numbers.items()} if finished else {}
        result |= {f"parts/{k}": v for k, v in parts.items()}
        result |= {f"numbers/{k}": float(v) for k, v in zip(keys, curve[epoch], strict=True)}
        result |= {"epochs": epoch + 1, "seconds": float(epoch + 1)}
        if finished:
            result |= {"outcome": "finished", "reason": ""}
        with clock.part("rungs"):
            if finished:
                scheduler.on_trial_complete(None, trial, result)
            else:
                stopped = scheduler.on_trial_result(None, trial, result) == "STOP"
        if not finished:
            searcher.on_trial_result(str(number), result)
        if finished or stopped:
            observed = sum(clock.seconds[name] for name in ("progress", "tensorboard"))
            before = time.process_time()
            searcher.on_trial_complete(str(number), result)
            total = time.process_time() - before
            clock.seconds["tell"] += total - (clock.seconds["progress"] + clock.seconds["tensorboard"] - observed)
            del running[number]
            ended += 1
            start(started, now)
            started += 1
        else:
            running[number] = trial, curve, epoch + 1
            heapq.heappush(waiting, (now + generator.exponential(), number))
    with clock.part("tensorboard"):
        tensorboard.close()
    with clock.part("tables"):
        write_tables(place, phase, stage.records())
    wall, processor = time.perf_counter() - began, time.process_time() - spent
    with clock.part("resume"):
        again = SearchStage(open_journal(place.journal), phase, sampler=sampler, trials=trials, seed=0)
        MultiObjectiveAsha(again)
    assert again.ask() is None
    return {
        "trials": ended,
        "events": epochs + 2 * ended,
        "wall": wall,
        "processor": processor,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2,
        "journal": place.journal.stat().st_size / 1024**2,
        "board": sum(f.stat().st_size for f in place.tensorboard.rglob("*") if f.is_file()) / 1024**2,
        "tables": sum((folder / n).stat().st_size for n in ("trials.csv", "trials.parquet", "pareto.csv")) / 1024**2,
        "last": output.getvalue().strip().splitlines()[-1],
    } | {f"part {name}": seconds for name, seconds in clock.seconds.items()}


def print_table(rows: list[dict[str, Any]]) -> None:
    """One column a size, and by which power of the number of trials the last two sizes say that a row grows."""
    lines = {
        "wall, seconds": "wall",
        "processor, seconds": "processor",
        **{f"  {name}": f"part {name}" for name in PARTS},
        "events a second (wall)": "rate",
        "peak memory, GiB": "memory",
        "journal, MiB": "journal",
        "TensorBoard, MiB": "board",
        "tables, MiB": "tables",
    }
    print(f"| {'trials':<24} |" + "".join(f" {row['trials']:>9,} |" for row in rows) + " grows as |")
    print(f"|{'-' * 26}|" + "----------:|" * len(rows) + "----------:|")
    for label, key in lines.items():
        values = [row["events"] / row["wall"] if key == "rate" else row[key] for row in rows]
        power = ""
        if len(rows) > 1 and values[-1] > 0 and values[-2] > 0:
            power = f"n^{math.log(values[-1] / values[-2]) / math.log(rows[-1]['trials'] / rows[-2]['trials']):.2f}"
        print(f"| {label:<24} |" + "".join(f" {value:>9.2f} |" for value in values) + f" {power:>8} |")


def main() -> None:
    """Run every size in a process of its own, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[1000, 3000, 10000])
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--no-tensorboard", action="store_true")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        with tempfile.TemporaryDirectory() as scratch:
            found = simulate(
                arguments.trials[0],
                arguments.sampler,
                arguments.workers,
                Path(scratch) / "run",
                board=not arguments.no_tensorboard,
            )
        print(json.dumps(found))
        return
    rows = []
    for trials in arguments.trials:
        command = [sys.executable, __file__, "--one", "--trials", str(trials), "--sampler", arguments.sampler]
        command += ["--workers", str(arguments.workers)] + (["--no-tensorboard"] if arguments.no_tensorboard else [])
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        rows.append(json.loads(said.splitlines()[-1]))
        print(f"{trials:,} trials: {rows[-1]['wall']:.0f} s; {rows[-1]['last'][:120]}", file=sys.stderr)
    print(f"{platform.machine()}, sampler {arguments.sampler}, {arguments.workers} workers, one process")
    print_table(rows)


if __name__ == "__main__":
    main()
