"""A search on many nodes, without training: `python benchmarks/many_nodes.py --nodes 1 2 4 8`.

Every node is a real raylet on this machine with room for two trainings; a training sleeps through its epochs and sends
a checkpoint of the default recipe's size to the driver's machine after each. All else is what a run does: Tune, the
searcher, the journal, the depot. Printed are epochs a second, against what the nodes could do if nothing cost anything,
and the driver's processor time; then what one depot and one coordinator do alone.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

EPOCHS = 8
ROOM = 2
"""Trainings at once on a node."""


def sleeping_trial(epoch_seconds: float, checkpoint_bytes: int) -> type:
    """A Tune Trainable that stands in for a training."""
    from ray import tune

    class SleepingTrial(tune.Trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            from search.execution.file_transfer import TrialFolder

            trial = new_config["job"]["trial_id"]
            self._folder = TrialFolder(new_config["data"].home, new_config["checkpoints"], trial)
            self._epochs = 0
            return True

        def step(self) -> dict[str, Any]:
            time.sleep(epoch_seconds)
            self._epochs += 1
            self._folder.training.mkdir(parents=True, exist_ok=True)
            (self._folder.training / "state").write_bytes(os.urandom(checkpoint_bytes))
            self._folder.send_checkpoint()
            done = {"done": True, "outcome": "finished", "reason": ""} if self._epochs == EPOCHS else {}
            numbers = dict.fromkeys(("ndcg_gain", "visual_masking_drop", "attention_max_share", "v1_correlation"), 0.5)
            return done | {"numbers": numbers | {"ndcg": 0.5}, "epochs": self._epochs, "seconds": epoch_seconds}

        def save_checkpoint(self, checkpoint_dir: str) -> None: ...

        def load_checkpoint(self, checkpoint: Any) -> None: ...

    return SleepingTrial


def search_on(nodes: int, trials: int, epoch_seconds: float, checkpoint_bytes: int) -> dict[str, float]:
    """Wall seconds, processor seconds of the driver, and epochs of a search of sleeping trainings."""
    import ray
    from ray.cluster_utils import Cluster

    import search.execution.tuning
    from search.execution.file_transfer import DataTicket
    from search.execution.tuning import TuneSession
    from search.options import RunOptions
    from search.run_store.job import Job
    from search.run_store.journal import open_journal
    from search.study.stages import FixedStage
    from spaces import PHASES

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=ROOM, object_store_memory=80 * 1024**2)
        ray.init(address=cluster.address, log_to_driver=False)
        search.execution.tuning.FusionTrial = sleeping_trial(epoch_seconds, checkpoint_bytes)  # type: ignore[misc, assignment]
        recipe = PHASES["phase1"].base.flat()
        jobs = [Job(trial_id=f"s{i:04d}", name="sleeping", recipe=recipe, seed=0) for i in range(trials)]
        with tempfile.TemporaryDirectory() as name:
            scratch = Path(name)
            began, reports = time.perf_counter(), []

            class Clock:
                def on_epoch(self, stage: Any, job: Any, result: dict[str, Any]) -> None:
                    reports.append(time.perf_counter())

                def on_end(self, stage: Any, record: Any, result: dict[str, Any]) -> None: ...

            driver = time.process_time()
            session = TuneSession(
                RunOptions(phase="phase1", address=cluster.address, max_concurrent=nodes * ROOM),
                DataTicket(source="clipart"),
                checkpoints=scratch / "checkpoints",
                tune_folder=scratch / "tune",
            )
            session.train([FixedStage(open_journal(scratch / "study.journal"), "baselines", jobs)], [Clock()])
            middle = reports[len(reports) // 4 : 3 * len(reports) // 4]  # starts and ends of processes left out
            return {
                "wall": time.perf_counter() - began,
                "rate": len(middle) / (middle[-1] - middle[0]),
                "driver": time.process_time() - driver,
                "epochs": float(trials * EPOCHS),
            }
    finally:
        ray.shutdown()
        cluster.shutdown()


def depot_alone(sizes: list[int]) -> None:
    """Milliseconds for one checkpoint to reach the driver's machine and its disk, and MB a second."""
    import ray

    from search.execution.file_transfer import Depot

    depot = ray.remote(Depot).remote()
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            files = {"state": os.urandom(size)}
            times = []
            for _ in range(12):
                began = time.perf_counter()
                ray.get(depot.put_folder.remote(f"{scratch}/training", files))
                times.append(time.perf_counter() - began)
            each = sorted(times[2:])[len(times[2:]) // 2]
            print(
                f"depot, a checkpoint of {size / 1e6:.1f} MB: {1e3 * each:.1f} ms, {size / 1e6 / each:.0f} MB a second"
            )


def coordinator_alone(rounds: int = 300) -> None:
    """Epochs a second of one group of two workers that do nothing: ask, command, two results, outcome."""
    import ray

    from search.execution.ddp.coordinator import Coordinator

    board = ray.remote(num_cpus=0, max_concurrency=1000)(Coordinator).remote(1, 2, 2)
    after = [ray.get(board.register.remote(0, "one", rank, rank, None)) for rank in (0, 1)]
    began = time.perf_counter()
    for _ in range(rounds):
        number = ray.get(board.give.remote(0, {"key": "k"}))
        ray.get([board.command.remote(0, "one", a) for a in after])
        ray.get([board.deliver.remote(0, "one", rank, number, {}) for rank in (0, 1)])
        ray.get(board.outcome.remote(0, number))
        after = [number, number]
    each = (time.perf_counter() - began) / rounds
    print(f"coordinator, an epoch of two workers: {1e3 * each:.2f} ms, {1 / each:.0f} a second, six calls each")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--epoch-seconds", type=float, default=0.5)
    parser.add_argument("--checkpoint-mb", type=float, default=0.5)
    parser.add_argument("--trials-a-place", type=int, default=4)
    arguments = parser.parse_args()
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    print(f"{len(os.sched_getaffinity(0))} CPUs, load {os.getloadavg()[0]:.1f}; epochs of {arguments.epoch_seconds} s")
    print(f"{'nodes':>5}{'at once':>9}{'epochs a second':>17}{'of the possible':>17}{'driver, ms an epoch':>21}")
    for nodes in arguments.nodes:
        places = nodes * ROOM
        found = search_on(
            nodes, places * arguments.trials_a_place, arguments.epoch_seconds, int(1e6 * arguments.checkpoint_mb)
        )
        share = found["rate"] * arguments.epoch_seconds / places
        cost = 1e3 * found["driver"] / found["epochs"]
        print(f"{nodes:>5}{places:>9}{found['rate']:>17.1f}{share:>17.0%}{cost:>21.1f}", flush=True)
    from search.execution.cluster import ray_session
    from search.options import RunOptions

    with ray_session(RunOptions(phase="phase1")):
        depot_alone([100_000, 1_000_000, 10_000_000])
        coordinator_alone()


if __name__ == "__main__":
    main()
