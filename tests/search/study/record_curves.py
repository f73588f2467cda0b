"""Record the learning curves that the rungs are tested on: `python tests/search/study/record_curves.py`.

Phase 1's known recipes and then recipes drawn at random, trained one after the other on small planted data; an epoch
holds the objectives of the best weights so far, as a trial reports them.
"""

import json
from pathlib import Path

import optuna
import torch

from fusion_models.config import Recipe
from fusion_models.data import open_dataset
from fusion_models.training import start, train
from spaces import PHASES, suggest

SOURCE = "planted?queries=400&candidates=10"
TRIALS = 60
PHASE = PHASES["phase1"]


def recipes():
    """`TRIALS` pairs of name and recipe."""
    known = PHASE.known_recipes()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=5))
    base = PHASE.base.flat()
    drawn = [base | suggest(study.ask(), PHASE.ranges, base) for _ in range(TRIALS - len(known))]
    return [*known.items(), *(("sampled", Recipe.from_flat(recipe)) for recipe in drawn)]


def main():
    torch.set_num_threads(1)
    data = open_dataset(SOURCE)
    keys = [objective.name for objective in PHASE.objectives]
    lines = []
    for name, recipe in recipes():
        state = start(recipe, data, seed=0, device=torch.device("cpu"))
        curve = [[round(float(state.best_numbers[key]), 4) for key in keys] for _ in train(state, data)]
        lines.append(json.dumps({"name": name, "curve": curve}))
    head = f'{{"source": {json.dumps(SOURCE)}, "keys": {json.dumps(keys)}, "trials": [\n'
    Path(__file__).with_name("recorded_curves.json").write_text(head + ",\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main()
