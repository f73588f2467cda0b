"""Run in a process of its own: trainings of one worker on two machines of a cluster, one of which is taken away."""

import json
import sys
import threading
import time
from pathlib import Path

from ray.cluster_utils import Cluster

from search.execution.cluster import ray_session
from search.execution.failures import NODE
from search.execution.file_transfer import DataTicket
from search.execution.tuning import TuneSession
from search.options import RunOptions
from search.run_store.job import Job
from search.run_store.journal import open_journal
from search.study.stages import FixedStage
from spaces import PHASES

BASE = PHASES["phase1"].base.updated({"model.layers": 1, "train.epochs": 6, "train.patience": 6})
MEMORY = {"object_store_memory": 100 * 1024**2}


class Thief:
    """An observer that takes a machine away, its raylet killed -9, once a training on it has a checkpoint."""

    def __init__(self, cluster, machines):
        self.cluster = cluster
        self.machines = {machine.node_id: machine for machine in machines}
        self.victim = None
        self.reports = {}

    def on_epoch(self, stage, job, result):
        self.reports.setdefault(job.trial_id, []).append([result["epochs"], result[NODE]])
        if self.victim is None and result[NODE] in self.machines and result["epochs"] == 2:
            self.victim = result[NODE]
            self.cluster.remove_node(self.machines[self.victim], allow_graceful=False)  # before its next epoch begins
            threading.Thread(target=lambda: self.cluster.add_node(num_cpus=1, **MEMORY)).start()

    def on_end(self, stage, record, result):
        self.reports.setdefault(record.trial_id, []).append([record.epochs, result.get(NODE)])


def main() -> None:
    folder, source = Path(sys.argv[1]), sys.argv[2]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **MEMORY})
    machines = [cluster.add_node(num_cpus=1, **MEMORY) for _ in range(2)]
    options = RunOptions(phase="phase1", data=source, scheduler="none", address=cluster.address)
    jobs = [Job(trial_id=f"job-{i}", name="job", recipe=BASE.flat(), seed=i) for i in range(4)]
    began = time.monotonic()
    with ray_session(options):
        thief = Thief(cluster, machines)
        stage = FixedStage(open_journal(folder / "study.journal"), "baselines", jobs)
        session = TuneSession(
            options,
            DataTicket(source=source),
            checkpoints=folder / "checkpoints",
            tune_folder=folder / "tune",
            report_seconds=0.0,
        )
        session.train([stage], [thief], on_waiting=lambda *_: None)
    cluster.shutdown()
    records = {
        r.trial_id: {"state": r.state, "epochs": r.epochs, "numbers": r.numbers, "reason": r.state_reason}
        for r in stage.records()
    }
    said = {"records": records, "reports": thief.reports, "victim": thief.victim, "seconds": time.monotonic() - began}
    print("SAID", json.dumps(said))


if __name__ == "__main__":
    main()
