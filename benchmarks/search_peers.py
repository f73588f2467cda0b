"""Search against its peers, in one run: `python benchmarks/search_peers.py --seeds 0 1 2 3 4 --seconds 60`.

Every way of searching gets the same planted data, the same space (phase 1's), the same base recipe first where it
takes first points, the same training (its seed, too) and measurement of a finished ranker, two trainings at once, and
the same wall time, from the first import on. Ways:

    ours, ours without MO-ASHA     search.execution.tuning.TuneSession as a run calls it, TensorBoard included
    Tune + OptunaSearch            a function trainable, as Ray's documentation shows it
    Optuna alone                   study.optimize in two processes on one journal (TPE)
    random search                  the same with RandomSampler
    syne-tune MOASHA               its local backend, rungs as ours (`pip install -e '.[bench]'`)

`--seeds N --out FILE` appends one seed's measurements, `--table FILE` prints the table of all that FILE holds; the
seeds' order of ways is rotated. Printed are medians and ranges over the seeds: the hypervolume of finished trainings
after a third of the wall time and at its end, there also of those alone that meet the phase's gates; after as many
epochs as the slowest way has done, and after as many as each of "ours", "Optuna alone" and "random search" has; when a
way reaches the final hypervolume of Optuna alone and of Tune + OptunaSearch; trainings an hour, processor time an epoch
of all processes (which a busy machine distorts less than wall time), and peak memory (PSS, summed over its processes).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
DATA = "planted?queries=600&candidates=12"
EPOCHS = 10
WORKERS = 2
MANY = 10_000
SYNE_TUNE_CONFIG = "--st_config_json_filename"
Way = Callable[[int, Path], None]


def phase() -> Any:
    """Phase 1's space around a small base recipe, without known points beside it; every training runs to its end."""
    import dataclasses

    from spaces import PHASES

    small = {"model.layers": 1, "train.epochs": EPOCHS, "train.patience": EPOCHS}
    return dataclasses.replace(PHASES["phase1"], known={}).with_base(small)


class Log:
    """One line an epoch, appended whole by whichever process trains."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "log.jsonl"

    def write(self, trial: str, epoch: int, numbers: dict[str, float], *, ended: bool) -> None:
        values = [float(numbers.get(o.name, math.nan)) for o in phase().objectives]
        line = {"time": time.time(), "trial": trial, "epoch": epoch, "values": values, "ended": ended}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def train_once(recipe: dict[str, Any], trial: str, folder: Path, seed: int) -> Any:
    """The training that every peer runs: yields each epoch's objectives, measures the finished ranker."""
    import torch

    from fusion_models.data import open_dataset
    from fusion_models.training import start, train
    from search.run_store.artifacts import measure, write_finished
    from search.run_store.job import Job

    torch.set_num_threads(1)
    data, log = open_dataset(DATA), Log(folder)
    job = Job(trial_id=trial, name="peer", recipe=recipe, seed=seed, latency=True)
    state = start(job.to_recipe(), data, seed=job.seed)
    for epoch in train(state, data):
        numbers = state.best_numbers
        if epoch.finished:
            numbers = write_finished(measure(state, data, job), state, data, job, folder / trial)
        log.write(trial, state.epoch, numbers, ended=epoch.finished)
        yield numbers


class Given:
    """Parameters that were drawn elsewhere, asked for as a study is."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(self._parameters[name])

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(self._parameters[name])

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return self._parameters[name]


def recipe_of(suggester: Any) -> dict[str, Any]:
    """The flat recipe that a point of the space stands for."""
    from spaces import suggest

    base = phase().base.flat()
    return base | suggest(suggester, phase().ranges, base)


def base_point() -> dict[str, Any]:
    """The base recipe as parameters of the space."""
    from spaces import parameters

    base = phase().base.flat()
    return parameters(phase().ranges, base, base)


def ours(seed: int, folder: Path, *, scheduler: str = "moasha") -> None:
    """As `Run.train` does it, with one more observer."""
    from rich.console import Console

    from search.execution.cluster import ray_session
    from search.execution.file_transfer import DataTicket
    from search.execution.tuning import TuneSession
    from search.monitoring.background import InBackground
    from search.monitoring.progress import ProgressObserver
    from search.monitoring.tensorboard import TensorBoardObserver
    from search.options import RunOptions
    from search.run_store.folder import RunFolder
    from search.run_store.journal import open_journal
    from search.study.search_stage import SearchStage

    log = Log(folder)

    class Logging:
        def on_epoch(self, stage: Any, job: Any, result: dict[str, Any]) -> None:
            self._write(job.trial_id, result, ended=False)

        def on_end(self, stage: Any, record: Any, result: dict[str, Any]) -> None:
            if result.get("epochs"):  # Tune tells of a result that stops a trial here alone
                self._write(record.trial_id, result, ended=record.finished)

        def _write(self, trial: str, result: dict[str, Any], *, ended: bool) -> None:
            numbers = {k.removeprefix("numbers/"): v for k, v in result.items() if k.startswith("numbers/")}
            for epoch in result.get("before", ()):
                log.write(trial, epoch["epochs"], epoch["numbers"], ended=False)
            log.write(trial, int(result["epochs"]), numbers, ended=ended)

    options = RunOptions(phase="phase1", data=DATA, scheduler=scheduler, max_concurrent=WORKERS)  # type: ignore[arg-type]
    place = RunFolder(folder / "run")
    place.prepare(resume=False, fresh=True)
    with ray_session(options):
        stage = SearchStage(open_journal(place.journal), phase(), sampler="tpe", trials=60, seed=seed)
        stage.total = MANY
        board = InBackground(TensorBoardObserver(place.tensorboard, phase()))
        with ProgressObserver(Console(stderr=True), phase(), MANY) as progress, board:
            session = TuneSession(
                options, DataTicket(source=DATA), checkpoints=place.checkpoints, tune_folder=place.tune
            )
            session.train([stage], [progress, board, Logging()])


def ours_without_moasha(seed: int, folder: Path) -> None:
    """Every training runs to its end."""
    ours(seed, folder, scheduler="none")


def optuna_space(trial: Any) -> dict[str, Any]:
    """The space, defined by run; at the top of the module, since Tune pickles it into its snapshot."""
    recipe_of(trial)
    return {}


def tune_with_optuna(seed: int, folder: Path) -> None:
    """A function trainable that reports, and `OptunaSearch` over the same space, defined by run."""
    from ray import tune
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    def trainable(config: dict[str, Any]) -> None:
        name = tune.get_context().get_trial_id()
        for numbers in train_once(recipe_of(Given(config)), name, folder, seed):
            tune.report(dict(zip(names, phase().objective_values(numbers), strict=True)))

    import optuna

    names = [o.name for o in phase().objectives]
    modes = ["max" if o.direction == "maximize" else "min" for o in phase().objectives]
    search = OptunaSearch(
        space=optuna_space,
        metric=names,
        mode=modes,
        points_to_evaluate=[base_point()],
        sampler=optuna.samplers.TPESampler(seed=seed),
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(search_alg=ConcurrencyLimiter(search, max_concurrent=WORKERS), num_samples=MANY),
        run_config=tune.RunConfig(storage_path=str(folder / "tune")),
    )
    tuner.fit()


def optuna_alone(seed: int, folder: Path, *, sampler: str = "TPESampler") -> None:
    """Two processes that optimise one study."""
    import multiprocessing

    study = _study(seed, folder, sampler)
    study.enqueue_trial(base_point())
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_optimise, args=(seed, w, folder, sampler)) for w in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def random_search(seed: int, folder: Path) -> None:
    """Optuna's random sampler in two processes."""
    optuna_alone(seed, folder, sampler="RandomSampler")


def _study(seed: int, folder: Path, sampler: str) -> Any:
    import optuna

    backend = optuna.storages.journal.JournalFileBackend(str(folder / "journal"))
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(backend),
        study_name="peer",
        directions=[o.direction for o in phase().objectives],
        sampler=getattr(optuna.samplers, sampler)(seed=seed),
        load_if_exists=True,
    )


def _optimise(seed: int, worker: int, folder: Path, sampler: str) -> None:
    def objective(trial: Any) -> list[float]:
        numbers: dict[str, float] = {}
        for numbers in train_once(recipe_of(trial), f"t{trial.number:04d}", folder, seed):  # noqa: B007
            pass
        return list(phase().objective_values(numbers))

    _study(seed + 1000 * worker, folder, sampler).optimize(objective)


def syne_tune_moasha(seed: int, folder: Path) -> None:
    """MOASHA on the local backend, with our rungs; one process a trial."""
    os.environ["SYNETUNE_FOLDER"] = str(folder / "syne")
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.backend import LocalBackend
    from syne_tune.config_space import choice, loguniform, uniform
    from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

    from search.execution.moasha import REDUCTION_FACTOR, grace_period
    from spaces.ranges import Choice, Float, Weight

    space: dict[str, Any] = {}
    for key, span in phase().ranges.items():
        if isinstance(span, Float):
            space[key] = (loguniform if span.log else uniform)(span.low, span.high)
        elif isinstance(span, Weight):
            space[f"{key}.on"] = choice([False, True])
            space[key] = loguniform(span.low, span.high)
        elif isinstance(span, Choice):
            space[key] = choice(list(span.values))
    import random

    import numpy as np

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (its config spaces draw from the global state)
    scheduler = MOASHA(
        space | {"folder": str(folder), "training_seed": seed},
        metrics=[o.name for o in phase().objectives],
        time_attr="epoch",
        max_t=EPOCHS,
        grace_period=grace_period(EPOCHS),
        reduction_factor=REDUCTION_FACTOR,
        random_seed=seed,
    )
    backend = LocalBackend(entry_point=__file__, pass_args_as_json=True)
    Tuner(
        trial_backend=backend,
        scheduler=scheduler,
        stop_criterion=StoppingCriterion(max_num_trials_started=MANY),
        n_workers=WORKERS,
        sleep_time=0.1,
        max_failures=MANY,
    ).run()


def syne_tune_trial(arguments: Sequence[str]) -> None:
    """A trial of syne-tune: started with its configuration as a JSON file; all objectives to be minimised."""
    from syne_tune import Reporter

    path = Path(arguments[arguments.index(SYNE_TUNE_CONFIG) + 1])
    config, trial = json.loads(path.read_text()), path.parent.name
    folder, seed = Path(config["folder"]), int(config["training_seed"])
    report = Reporter()
    objectives = phase().objectives
    signs = [-1.0 if o.direction == "maximize" else 1.0 for o in objectives]
    for epoch, numbers in enumerate(train_once(recipe_of(Given(config)), trial, folder, seed), start=1):
        values = zip(objectives, signs, phase().objective_values(numbers), strict=True)
        report(epoch=epoch, **{o.name: sign * value for o, sign, value in values})


WAYS: dict[str, Way] = {
    "ours": ours,
    "ours without MO-ASHA": ours_without_moasha,
    "Optuna alone": optuna_alone,
    "random search": random_search,
    "Tune + OptunaSearch": tune_with_optuna,
    "syne-tune MOASHA": syne_tune_moasha,
}


QUICK = ("ours", "Optuna alone", "random search")
"""Ways that train hundreds of epochs in a minute."""


def measure(way: str, seed: int, seconds: float) -> dict[str, Any]:
    """One way with one seed for `seconds`, then it and all it started is ended; its log, processor time and memory."""
    import psutil

    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, __file__, "--way", way, "--seed", str(seed), "--folder", scratch]
        errors = Path(scratch) / "errors.txt"
        began = time.time()
        with errors.open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, cwd=scratch)
        known = psutil.Process(process.pid)
        family: dict[tuple[int, float], tuple[Any, float]] = {}
        memory: list[float] = []
        while time.time() - began < seconds and process.poll() is None:
            time.sleep(1.0)
            total = 0.0
            for one in [known, *known.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    times = one.cpu_times()
                    family[one.pid, one.create_time()] = one, times.user + times.system
                    total += one.memory_full_info().pss
            memory.append(total / 1024**3)
        spent = time.time() - began
        early = process.poll()
        with contextlib.suppress(psutil.Error):
            for one in known.children(recursive=True):
                family.setdefault((one.pid, one.create_time()), (one, 0.0))
        processor = sum(seen for _, seen in family.values())
        for one, _ in [(known, 0.0), *family.values()]:
            with contextlib.suppress(psutil.Error):
                one.kill()
        process.wait()
        log = Path(scratch) / "log.jsonl"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        if early is not None or not lines:
            print(f"{way}, seed {seed}: ended by itself ({early}):\n{errors.read_text()[-2000:]}", file=sys.stderr)
    events = [line | {"time": line["time"] - began} for line in lines if line["time"] - began <= seconds]
    return {"way": way, "seed": seed, "seconds": seconds, "spent": spent, "events": events} | {
        "processor": processor,
        "memory": max(memory, default=math.nan),
    }


class Curve:
    """The hypervolume of one measurement, training by training."""

    def __init__(self, found: dict[str, Any]) -> None:
        from search.analysis.front import GrowingFront
        from search.run_store.job import TrialRecord

        objectives, front, seen, passing = phase().objectives, GrowingFront(phase()), set(), GrowingFront(phase())
        self.steps: list[tuple[float, int, float]] = [(0.0, 0, 0.0)]
        for event in sorted(found["events"], key=lambda e: e["time"]):
            seen.add((event["trial"], event["epoch"]))
            if event["ended"]:
                numbers = {o.name: value for o, value in zip(objectives, event["values"], strict=True)}
                record = TrialRecord(
                    trial_id=event["trial"],
                    stage="search",
                    name="",
                    state="finished",
                    state_reason="",
                    epochs=EPOCHS,
                    seed=0,
                    recipe={},
                    numbers=numbers,
                )
                front.add(record)
                if all(v <= 0.0 for v in phase().constraints(numbers).values()):
                    passing.add(record)
            self.steps.append((event["time"], len(seen), front.hypervolume))
        self.passing = passing.hypervolume
        """At the end, of the trainings alone that meet every gate."""

    @property
    def epochs(self) -> int:
        return self.steps[-1][1]

    def after(self, seconds: float) -> float:
        return max(volume for time_, _, volume in self.steps if time_ <= seconds)

    def after_epochs(self, epochs: int) -> float:
        return max(volume for _, count, volume in self.steps if count <= epochs)

    def reaches(self, volume: float) -> float:
        """Seconds; infinite where it never does."""
        return min((time_ for time_, _, reached in self.steps if reached >= volume > 0.0), default=math.inf)


def spread(values: Sequence[float], digits: int = 3) -> str:
    """`median (lowest to highest)`."""
    import numpy as np

    if not len(values) or any(math.isnan(v) for v in values):
        return "–"
    said = [f"{v:.{digits}f}" if math.isfinite(v) else "never" for v in (np.median(values), min(values), max(values))]
    return f"{said[0]} ({said[1]} to {said[2]})"


def print_table(found: list[dict[str, Any]]) -> None:
    """One row a way."""
    seeds = sorted({f["seed"] for f in found})
    curves = {(f["way"], f["seed"]): Curve(f) for f in found}
    seconds = found[0]["seconds"]
    ways = [way for way in WAYS if all((way, seed) in curves for seed in seeds)]
    print(f"{platform.machine()}, {os.cpu_count()} processors, {DATA}, {EPOCHS} epochs, {WORKERS} at once,")
    print(f"{seconds:.0f} s of wall time a way, {len(seeds)} seeds; median (lowest to highest)\n")
    head = ["way", f"hypervolume, {seconds / 3:.0f} s", f"{seconds:.0f} s", "that meet the gates"]
    head += ["the slowest's epochs", "equal epochs", "s to Optuna alone's final"]
    head += ["s to Tune + OptunaSearch's final", "trainings an hour", "epochs", "processor s an epoch", "memory, GiB"]
    print("| " + " | ".join(head) + " |\n|---|" + "--:|" * (len(head) - 1))
    least = {seed: min(curves[way, seed].epochs for way in ways) for seed in seeds}
    quick = [way for way in ways if way in QUICK]
    equal = {seed: min((curves[way, seed].epochs for way in quick), default=0) for seed in seeds}
    for way in ways:
        mine = [curves[way, seed] for seed in seeds]
        own = [f for f in found if f["way"] == way]
        to = {}
        for peer in ("Optuna alone", "Tune + OptunaSearch"):
            goals = [curves[peer, s].after(seconds) for s in seeds] if peer in ways else [math.nan] * len(seeds)
            to[peer] = [curve.reaches(goal) for curve, goal in zip(mine, goals, strict=True)]
        started = [len({e["trial"] for e in f["events"]}) * 3600 / f["spent"] for f in own]
        row = [
            way,
            spread([c.after(seconds / 3) for c in mine]),
            spread([c.after(seconds) for c in mine]),
            spread([c.passing for c in mine]),
            spread([c.after_epochs(least[s]) for c, s in zip(mine, seeds, strict=True)]),
            spread(
                [
                    c.after_epochs(equal[s]) if c.epochs >= equal[s] else math.nan
                    for c, s in zip(mine, seeds, strict=True)
                ]
            ),
            spread(to["Optuna alone"], 0),
            spread(to["Tune + OptunaSearch"], 0),
            spread(started, 0),
            spread([float(c.epochs) for c in mine], 0),
            spread([f["processor"] / max(1, c.epochs) for f, c in zip(own, mine, strict=True)], 2),
            spread([f["memory"] for f in own], 2),
        ]
        print("| " + " | ".join(row) + " |")


def main() -> None:
    """Measure, print, or be one of the ways."""
    if SYNE_TUNE_CONFIG in sys.argv:
        syne_tune_trial(sys.argv)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--seconds", type=float, default=60.0, help="wall time of each way with each seed")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--out", type=Path, help="append measurements here, one a line")
    parser.add_argument("--table", type=Path, help="print the table of what was appended there")
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        WAYS[arguments.way](arguments.seed, arguments.folder)
        return
    found = []
    if arguments.table:
        found = [json.loads(line) for line in arguments.table.read_text().splitlines()]
    else:
        from fusion_models.data import open_dataset

        open_dataset(DATA)  # built once, before anything is timed
        for seed in arguments.seeds:
            turn = seed % len(arguments.ways)
            for way in arguments.ways[turn:] + arguments.ways[:turn]:
                found.append(measure(way, seed, arguments.seconds))
                said = Curve(found[-1])
                print(f"{way}, seed {seed}: {said.epochs} epochs, {said.steps[-1][2]:.3f}", file=sys.stderr)
                if arguments.out:
                    with arguments.out.open("a") as file:
                        file.write(json.dumps(found[-1]) + "\n")
    print_table(found)


if __name__ == "__main__":
    main()
