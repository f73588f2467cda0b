"""Does a search find better rankers? `python benchmarks/finalists.py --data clipart planted:seed-case planted:healthy`.

For each dataset and search seed: a run of phase 3 with README's budget, then its finalist beside the base recipe and
the best of `--random` recipes drawn from phase 3's space at random (one training each; the best by validation). Each of
the three is trained `--fresh` times with seeds that no run has used and judged as ensembles of the recipe's members,
on validation and on test; so are LambdaMART and the tuned sums, from the run's own baselines.csv. Nothing is chosen by
a test split. Regret: the best of all by validation, less the finalist, on test.

Every part is a line in `--lines` and is not done twice: an interrupted benchmark goes on where it was. The table is
printed from the lines.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch

from fusion_models.config import Recipe
from fusion_models.data import RankingDataset, open_dataset
from fusion_models.evaluation import score
from fusion_models.metrics.intervals.ensembles import arm_of, ndcg_of
from fusion_models.training import start, train
from fusion_models.tuned_v1 import prepare
from search.api import read
from spaces import PHASES, suggest

HOME = Path(__file__).parents[1]
PHASE = PHASES["phase3"]
FIRST_SEED = 70_000
"""No run trains with seeds so high."""
TUNED_SUMS = ("sum", "sum with v1", "tuned v1 sum")
SPLITS = ("validation", "test")
Line = dict[str, Any]


def main() -> int:
    """Do what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["clipart", "planted:seed-case", "planted:healthy"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the search")
    parser.add_argument("--budget", default="7m", help="of a run")
    parser.add_argument("--random", type=int, default=100, help="recipes drawn at random")
    parser.add_argument("--fresh", type=int, default=8, help="trainings of each recipe that is judged")
    parser.add_argument("--lines", type=Path, default=HOME / "benchmarks" / "finalists.jsonl")
    parser.add_argument("--results", type=Path, default=Path("results/finalists"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for source in asked.data:
        data = open_dataset(source)
        for seed in asked.seeds:
            name = "-".join("".join(c if c.isalnum() else " " for c in source).split()) + f"-{seed}"
            key = {"data": source, "budget": asked.budget, "seed": seed}
            if not done(asked.lines, key | {"way": "run"}):
                keep(asked.lines, key | searched(source, seed, asked.budget, asked.results, name))
            recipe = json.loads((asked.results / name / "finalist.json").read_text())["recipe"]
            judged(asked.lines, key | {"way": "finalist"}, Recipe().updated(recipe), data, asked.fresh)
        own = {"data": source, "budget": "", "seed": -1}
        judged(asked.lines, own | {"way": "base"}, PHASE.base, data, asked.fresh)
        best = best_at_random(asked.lines, own, data, asked.random)
        judged(asked.lines, own | {"way": f"best of {asked.random} at random"}, best, data, asked.fresh)
    print(table(lines_of(asked.lines)))
    return 0


def searched(source: str, seed: int, budget: str, results: Path, name: str) -> Line:
    """Run phase 3 by the command line; its verdict, its baselines and how long it took."""
    command = [sys.executable, "-m", "search.run", "phase3", "--data", source, "--seed", str(seed), "--fresh"]
    command += ["--time-budget", budget, "--no-ablation", "--results", str(results), "--name", name]
    began = time.monotonic()
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(HOME)}, stdout=subprocess.DEVNULL)
    found = read(results / name)
    rows = found.baselines.to_dict("records")
    baselines = {f"{r['role']}.{r['split']}": float(r["ndcg"]) for r in rows if r["split"] in SPLITS}
    return {"way": "run", "seconds": time.monotonic() - began, "verdict": found.verdict, "baselines": baselines}


def judged(file: Path, key: Line, recipe: Recipe, data: RankingDataset, fresh: int) -> None:
    """Train `recipe` with fresh seeds; the mean nDCG of ensembles of its members, and of single trainings."""
    if done(file, key):
        return
    prepare(data, [recipe])
    began, scored = time.monotonic(), {split: [] for split in SPLITS}
    for number in range(fresh):
        model = trained(recipe, data, FIRST_SEED + number)[0]
        for split in SPLITS:
            scored[split].append(score(model, data, split))
    line: Line = key | {"seconds": time.monotonic() - began, "members": recipe.train.members}
    for split, runs in scored.items():
        labels, valid = runs[0].labels.double().numpy(), runs[0].valid.numpy()
        values = ndcg_of(labels, valid)
        outputs = np.stack([run.scores.double().numpy() for run in runs])
        found = arm_of(outputs, valid, values, min(recipe.train.members, fresh - 1))
        single = [float(np.nanmean(values(one))) for one in outputs]
        line |= {
            split: float(np.nanmean(found.mean)),
            f"{split}_single": float(np.mean(single)),
            f"{split}_deviation": float(np.std(single, ddof=1)),
        }
    keep(file, line)


def trained(recipe: Recipe, data: RankingDataset, seed: int) -> tuple[Any, float]:
    """One training's best weights, and its nDCG on validation."""
    state = start(recipe, data, seed=seed)
    for _ in train(state, data):
        pass
    state.model.load_state_dict(state.best_weights)
    return state.model.eval(), float(state.best_ndcg)


def best_at_random(file: Path, key: Line, data: RankingDataset, count: int) -> Recipe:
    """The best by validation of `count` recipes drawn from phase 3's ranges, one training each."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    base, found = PHASE.base.flat(), []
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for number in range(count):
        recipe = PHASE.base.updated(suggest(study.ask(), PHASE.ranges, base))
        own = key | {"way": f"random {number}"}
        known = done(file, own)
        if known is None:
            prepare(data, [recipe])
            began, ndcg = time.monotonic(), trained(recipe, data, FIRST_SEED)[1]
            known = own | {"validation_single": ndcg, "seconds": time.monotonic() - began}
            keep(file, known)
        found.append((known["validation_single"], number, recipe))
    return max(found, key=lambda one: one[:2])[2]


def lines_of(file: Path) -> list[Line]:
    """What has been done."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def done(file: Path, key: Line) -> Line | None:
    """The line of `key`, where there is one."""
    return next((line for line in lines_of(file) if key.items() <= line.items()), None)


def keep(file: Path, line: Line) -> None:
    """Add a line."""
    with file.open("a") as lines:
        lines.write(json.dumps(line) + "\n")


def table(lines: Sequence[Line]) -> str:
    """One row a finalist: it and its rivals on test, the regret, and the hours that it took."""
    head = ("data", "seed", "verdict", "finalist", "one training", "base", "LambdaMART", "best tuned sum", "random")
    rows = [(*head, "regret", "hours")]
    for mine in (line for line in lines if line["way"] == "finalist"):
        beside = [line for line in lines if line["data"] == mine["data"]]
        run = next(
            x for x in beside if x["way"] == "run" and (x["seed"], x["budget"]) == (mine["seed"], mine["budget"])
        )
        base = next((x for x in beside if x["way"] == "base"), None)
        drawn = next((x for x in beside if x["way"].startswith("best of")), None)
        sums = max(TUNED_SUMS, key=lambda role: run["baselines"].get(f"{role}.validation", -1.0))
        rivals = {
            "finalist": (mine["validation"], mine["test"]),
            "trees": tuple(run["baselines"][f"trees.{split}"] for split in SPLITS),
            "sum": tuple(run["baselines"][f"{sums}.{split}"] for split in SPLITS),
        }
        rivals |= {name: (x["validation"], x["test"]) for name, x in (("base", base), ("random", drawn)) if x}
        best = max(rivals.values())
        shown = [f"{rivals[name][1]:.4f}" if name in rivals else "–" for name in ("base", "trees", "sum", "random")]
        hours = (run["seconds"] + mine["seconds"]) / 3600
        single = f"{mine['test_single']:.4f} ± {mine['test_deviation']:.4f}"
        regret = f"{best[1] - mine['test']:+.4f}"
        own = (mine["data"], str(mine["seed"]), run["verdict"], f"{mine['test']:.4f}", single)
        rows.append((*own, *shown, regret, f"{hours:.2f}"))
    lined = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lined[0], "|" + " --- |" * len(rows[0]), *lined[1:]])


if __name__ == "__main__":
    sys.exit(main())
