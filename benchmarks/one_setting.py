"""What one setting is worth: `python benchmarks/one_setting.py model.context v1 tuned_v1 --data clipart`.

Trains a recipe with each value of the setting, with and without the image, over the same seeds, and prints what they
reach on the validation split (the test split stays closed): nDCG@10 of one training with its deviation over seeds,
nDCG of all of them as one ensemble, the image's refit gain likewise, what blanking the image costs, and the correlation
with V1. Each training keeps its best epoch by validation, which flatters all alike.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch

from fusion_models.config import Recipe
from fusion_models.data import RankingDataset, open_dataset
from fusion_models.evaluation import Blanking, evaluate, score
from fusion_models.models import Ensemble, FusionRanker
from fusion_models.training import start, train
from fusion_models.tuned_v1 import prepare
from spaces import PHASES

COLUMNS = (
    "data",
    "value",
    "nDCG",
    "deviation",
    "ensemble",
    "refit gain",
    "deviation",
    "of ensembles",
    "drop",
    "V1 corr.",
    "s/training",
)


@dataclass(frozen=True)
class Arm:
    """One recipe over its seeds, on the validation split."""

    rankers: list[FusionRanker]
    ndcg: np.ndarray[tuple[int], np.dtype[np.float64]]
    """`[seeds]`."""
    ensemble: float
    seconds: float


def arm(recipe: Recipe, data: RankingDataset, seeds: int) -> Arm:
    """Train `recipe` with every seed."""
    rankers, values, began = [], [], time.perf_counter()
    for seed in range(seeds):
        state = start(recipe, data, seed=seed)
        for _ in train(state, data):
            pass
        state.model.load_state_dict(state.best_weights)
        rankers.append(state.model.eval())
        values.append(state.best_ndcg)
    seconds = (time.perf_counter() - began) / seeds
    together = float(np.nanmean(score(Ensemble(rankers), data, "validation").ndcg()))
    return Arm(rankers, np.array(values), together, seconds)


def row(name: str, recipe: Recipe, data: RankingDataset, seeds: int) -> list[str]:
    """One line of the table."""
    prepare(data, [recipe])
    whole = arm(recipe, data, seeds)
    blind = arm(recipe.restricted(("text", "metadata")), data, seeds)
    drops, correlations = [], []
    for ranker in whole.rankers:
        found = evaluate(ranker, data, "validation", Blanking(("visual",))).numbers()
        drops.append(found["visual_masking_drop"])
        correlations.append(found["v1_correlation"])
    gain = whole.ndcg.mean() - blind.ndcg.mean()
    spread = float(np.hypot(whole.ndcg.std(ddof=1), blind.ndcg.std(ddof=1)))
    numbers = (whole.ndcg.mean(), whole.ndcg.std(ddof=1), whole.ensemble, gain, spread, whole.ensemble - blind.ensemble)
    said = [f"{x:+.4f}" if index in (3, 5) else f"{x:.4f}" for index, x in enumerate(numbers)]
    return [data.source, name, *said, f"{np.mean(drops):.3f}", f"{np.mean(correlations):.3f}", f"{whole.seconds:.1f}"]


def main(key: str, values: list[str], base: Recipe, sources: list[str], seeds: int) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(" | ".join(COLUMNS), flush=True)
    for source in sources:
        data = open_dataset(source)
        for value in values:
            print(" | ".join(row(value, base.updated({key: value}), data, seeds)), flush=True)


if __name__ == "__main__":
    known = PHASES["phase3"].known_recipes()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("key", help="the setting, such as model.context")
    parser.add_argument("values", nargs="+")
    parser.add_argument("--data", nargs="+", default=["clipart", "planted:seed-case", "planted:healthy"])
    parser.add_argument("--recipe", choices=list(known), default="base", help="a known point of phase 3")
    parser.add_argument("--seeds", type=int, default=4, help="trainings a row; at least two")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes to the recipe")
    given = parser.parse_args()
    changes = dict(change.split("=", 1) for change in given.set)
    main(given.key, given.values, known[given.recipe].updated(changes), given.data, given.seeds)
