"""What a trial of two workers costs on top of its training: `python benchmarks/ddp_start.py`.

The same small training (three epochs, three reports) as one `TorchTrainer.fit()` a trial with Ray's own settings, the
same with the knobs of `search/execution/ddp/worker_groups.py`, and as trials of a run from a worker group that stays
up. Each way in a process and a Ray of its own, one after the other; a trial's cost is its wall time less its workers'
seconds in epochs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

DATA = "planted?queries=160&candidates=8"
WAYS = ("fit", "fit with knobs", "group")


def plain_job(name: str) -> dict[str, Any]:
    """A training of three epochs."""
    from search.run_store.job import Job
    from spaces import PHASES

    recipe = PHASES["phase3"].base.updated({"model.layers": 1, "train.epochs": 3, "train.patience": 3})
    return Job(trial_id=name, name=name, recipe=recipe.flat(), seed=0).plain()


def train_job(config: dict[str, Any]) -> None:
    """What a worker of a fit of its own runs: the same steps, each reported to Ray Train."""
    import ray.train

    from fusion_models.process_group import TorchProcessGroup
    from search.execution.job_training import JobTraining

    training = JobTraining(config, TorchProcessGroup())
    while True:
        result = training.step()
        ray.train.report({"seconds": result["seconds"], "epochs": result["epochs"]})
        if result.get("done"):  # a fit returns only metrics that came with a checkpoint
            Path(config["told"]).write_text(str(result["seconds"]))
            return


def fits(trials: int, scratch: Path) -> list[tuple[float, float]]:
    """Wall seconds and training seconds of each trial."""
    import ray.train
    from ray.train.torch import TorchTrainer

    from search.execution.file_transfer import DataTicket

    found = []
    for index in range(trials):
        began = time.perf_counter()
        config = {"job": plain_job(f"fit{index}"), "data": DataTicket(source=DATA), "gpus": 0.0}
        told = scratch / f"told{index}"
        TorchTrainer(
            train_job,
            train_loop_config=config | {"checkpoints": str(scratch / "checkpoints"), "told": str(told)},
            scaling_config=ray.train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
            run_config=ray.train.RunConfig(name=f"fit{index}", storage_path=str(scratch)),
        ).fit()
        found.append((time.perf_counter() - began, float(told.read_text())))
    return found


def grouped(trials: int, scratch: Path) -> list[tuple[float, float]]:
    """The same as trials of a run: Tune, journal and all."""
    from search.execution.file_transfer import DataTicket
    from search.execution.tuning import TuneSession
    from search.options import RunOptions
    from search.run_store.job import Job, TrialRecord
    from search.run_store.journal import open_journal
    from search.study.stages import FixedStage, Stage

    ends: list[float] = [time.perf_counter()]

    class Clock:
        def on_epoch(self, stage: Stage, job: Job, result: dict[str, Any]) -> None: ...
        def on_end(self, stage: Stage, record: TrialRecord, result: dict[str, Any]) -> None:
            ends.append(time.perf_counter())

    jobs = [Job.from_plain(plain_job(f"trial{i}")) for i in range(trials)]
    stage = FixedStage(open_journal(scratch / "study.journal"), "baselines", jobs)
    TuneSession(
        RunOptions(phase="phase3", data=DATA, workers_per_trial=2),
        DataTicket(source=DATA),
        checkpoints=scratch / "checkpoints",
        tune_folder=scratch / "tune",
    ).train([stage], [Clock()])
    seconds = [record.seconds for record in stage.records()]
    return [(end - begin, spent) for begin, end, spent in zip(ends, ends[1:], seconds, strict=False)]


def one_way(way: str, trials: int) -> list[tuple[float, float]]:
    """Measure one way in this process, in a Ray of its own."""
    from search.execution.cluster import ray_session
    from search.execution.ddp.worker_groups import TRAIN_SETTINGS
    from search.options import RunOptions

    if way != "fit":
        os.environ.update(TRAIN_SETTINGS)
    with tempfile.TemporaryDirectory() as scratch, ray_session(RunOptions(phase="phase3")):
        return (grouped if way == "group" else fits)(trials, Path(scratch))


def main() -> None:
    """Measure every way and print seconds a trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--way", choices=WAYS)
    arguments = parser.parse_args()
    if arguments.way is not None:
        print(json.dumps(one_way(arguments.way, arguments.trials)))
        return
    from fusion_models.data import open_dataset

    open_dataset(DATA)
    print(f"{len(os.sched_getaffinity(0))} CPUs, load {os.getloadavg()[0]:.1f}; seconds a trial on top of its training")
    print(f"{'way':<16}{'first':>8}{'later (median)':>16}{'training itself':>17}")
    for way in WAYS:
        trials = arguments.trials if way != "group" else 2 * arguments.trials
        command = [sys.executable, __file__, "--way", way, "--trials", str(trials)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(done.stderr[-2000:])
        found = json.loads(done.stdout.strip().splitlines()[-1])
        over = [wall - spent for wall, spent in found]
        later, spent = sorted(over[1:]), sorted(seconds for _, seconds in found)
        print(f"{way:<16}{over[0]:>8.1f}{later[len(later) // 2]:>16.2f}{spent[len(spent) // 2]:>17.2f}")


if __name__ == "__main__":
    main()
