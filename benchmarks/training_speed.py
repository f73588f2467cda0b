"""Seconds of a whole training, this tree against another one: `python benchmarks/training_speed.py --base FOLDER`.

FOLDER is a checkout of the commit to compare with (`git worktree add FOLDER COMMIT`). Both trees train the base recipe
from its start to its last evaluation, on one thread, in turns, each in a process of its own; printed are the seconds of
one processor that training and evaluation took, their ratio, and the best validation nDCG of every seed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
WORKER = """
import json, sys, time
import torch
torch.set_num_threads(1)
from fusion_models.data import open_dataset
from fusion_models.evaluation import evaluate
from fusion_models.training import start, train
from spaces.phases import BASE
source, seed, changes = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
data = open_dataset(source)
data.gather(data.rows("validation")[:1])
began, wall = time.process_time(), time.perf_counter()
state = start(BASE.updated(changes), data, seed=seed)
for _ in train(state, data):
    pass
trained = time.process_time()
state.model.load_state_dict(state.best_weights)
evaluate(state.model, data, "validation")
ended = time.process_time()
print(json.dumps({"train": trained - began, "measure": ended - trained, "wall": time.perf_counter() - wall,
                  "epochs": state.epoch, "ndcg": state.best_ndcg}))
"""


def one(tree: Path, source: str, seed: int, changes: str) -> dict[str, float]:
    """One training with the code of `tree`."""
    environment = os.environ | {"PYTHONPATH": str(tree)}
    command = [sys.executable, "-c", WORKER, source, str(seed), changes]
    done = subprocess.run(command, env=environment, cwd=tree, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{tree}: {done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Train in turns and print a row a pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="checkout of the commit to compare with")
    parser.add_argument("--data", default="clipart")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="changes to the base recipe")
    parser.add_argument("--set-new", action="append", default=[], metavar="KEY=VALUE", help="this tree's alone")
    asked = parser.parse_args()
    changes = dict(pair.split("=", 1) for pair in asked.set)
    here = changes | dict(pair.split("=", 1) for pair in asked.set_new)
    print(f"{asked.data}, {json.dumps(here)}: CPU seconds of one training, before -> now")
    per_epoch, per_measure, change = [], [], []
    for seed in range(asked.seeds):
        old = one(asked.base.resolve(), asked.data, seed, json.dumps(changes))
        new = one(HERE, asked.data, seed, json.dumps(here))
        per_epoch.append(old["train"] / old["epochs"] / (new["train"] / new["epochs"]))
        per_measure.append(old["measure"] / new["measure"])
        change.append(new["ndcg"] - old["ndcg"])
        print(
            f"seed {seed}: training {old['train']:.1f} -> {new['train']:.1f} s ({old['epochs']}, {new['epochs']} "
            f"epochs), an epoch {per_epoch[-1]:.2f} times quicker; last evaluation {old['measure']:.2f} -> "
            f"{new['measure']:.2f} s; validation nDCG {old['ndcg']:.4f} -> {new['ndcg']:.4f}",
            flush=True,
        )
    spread = statistics.stdev(change) / len(change) ** 0.5 if len(change) > 1 else float("nan")
    print(
        f"median: an epoch {statistics.median(per_epoch):.2f} times quicker, the last evaluation "
        f"{statistics.median(per_measure):.2f} times; nDCG {statistics.mean(change):+.4f} ± {spread:.4f} (s.e.)"
    )


if __name__ == "__main__":
    main()
