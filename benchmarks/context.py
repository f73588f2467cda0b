"""What a ranker gains from its context: `python benchmarks/context.py --data clipart planted:seed-case`.

Trains the base recipe with nothing, V1's score, or a tuned V1 in its context, with and without the image, over the
same seeds, and prints what they reach on the validation split (the test split stays closed): nDCG@10 of one training
with its deviation over seeds, nDCG of all of them as one ensemble, the image's refit gain likewise, what blanking the
image costs, and the correlation with V1. Each training keeps its best epoch by validation, which flatters all alike.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from fusion_models.config import Recipe
from fusion_models.data import RankingDataset, open_dataset
from fusion_models.evaluation import evaluate, score
from fusion_models.models import Ensemble, FusionRanker
from fusion_models.training import start, train
from fusion_models.tuned_v1 import prepare
from spaces import PHASES

COLUMNS = (
    "data",
    "context",
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
        found = evaluate(ranker, data, "validation", blanks=("visual",)).numbers()
        drops.append(found["visual_masking_drop"])
        correlations.append(found["v1_correlation"])
    gain = whole.ndcg.mean() - blind.ndcg.mean()
    spread = float(np.hypot(whole.ndcg.std(ddof=1), blind.ndcg.std(ddof=1)))
    numbers = (whole.ndcg.mean(), whole.ndcg.std(ddof=1), whole.ensemble, gain, spread, whole.ensemble - blind.ensemble)
    said = [f"{x:+.4f}" if index in (3, 5) else f"{x:.4f}" for index, x in enumerate(numbers)]
    return [data.source, name, *said, f"{np.mean(drops):.3f}", f"{np.mean(correlations):.3f}", f"{whole.seconds:.1f}"]


def main(sources: list[str], contexts: list[str], seeds: int, changes: Mapping[str, str]) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(" | ".join(COLUMNS), flush=True)
    for source in sources:
        data = open_dataset(source)
        for context in contexts:
            recipe = PHASES["phase3"].base.updated({**changes, "model.context": context})
            print(" | ".join(row(context, recipe, data, seeds)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["clipart", "planted:seed-case", "planted:healthy"])
    parser.add_argument("--contexts", nargs="+", default=["v1", "tuned_v1"])
    parser.add_argument("--seeds", type=int, default=4, help="trainings a row; at least two")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes to the base recipe")
    given = parser.parse_args()
    main(given.data, given.contexts, given.seeds, dict(change.split("=", 1) for change in given.set))
