"""What the roadmap's literal loss terms do, beside the forms built here: `python benchmarks/literal_forms.py`.

Trains one recipe with each term in both forms, at the same weight and with the same seeds, and the same recipes without
the image. Prints, on the test split, nDCG@10, what blanking the image costs, what the image is worth (refit gain), the
largest attention share, the correlation with V1, and the corrected form's nDCG minus the literal one's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from fusion_models.config import Flat, Recipe
from fusion_models.data import RankingDataset, open_dataset
from fusion_models.evaluation import Blanking, evaluate
from fusion_models.metrics import Interval
from fusion_models.quantities import Outputs
from fusion_models.training import start, train
from search.analysis.effects import objective_arm
from search.analysis.measure import linear_interval
from spaces import PHASES

TERMS: Mapping[str, tuple[Flat, Flat, Flat]] = {
    "visual importance": (
        {"loss.visual_importance": 0.1},
        {"loss.visual_importance_form": "literal"},
        {"loss.visual_importance_form": "reliance"},
    ),
    "attention entropy": (
        {"loss.attention_entropy": 0.05},
        {"loss.attention_entropy_form": "literal"},
        {"loss.attention_entropy_form": "hinge"},
    ),
    "adversarial": (
        {"loss.adversarial": 0.15},
        {"loss.adversarial_form": "literal"},
        {"loss.adversarial_form": "reversal"},
    ),
    "decorrelation": (
        {"loss.decorrelation": 1.0},
        {"loss.decorrelation_target": 0.0},
        {"loss.decorrelation_target": 0.9},
    ),
}
"""Term -> its weight (the roadmap's where it names one), its literal form, the form built here. Decorrelation has no
form in the roadmap: its literal reading presses the correlation down without end, the hinge stops at its target."""


COLUMNS = (
    "term",
    "form",
    "nDCG@10",
    "visual drop",
    "image's refit gain",
    "largest share",
    "V1 correlation",
    "corrected - literal",
)


def recipes(base: Recipe, weight: float | None) -> Iterator[tuple[str, str, Recipe]]:
    """(term, form, recipe) of every row; `weight` in place of each term's own."""
    yield "none", "", base
    for term, (switch, literal, corrected) in TERMS.items():
        on = switch if weight is None else dict.fromkeys(switch, weight)
        yield term, "literal", base.updated(on | literal)
        yield term, "corrected", base.updated(on | corrected)


class Trainings:
    """Each recipe and seed trained once, and measured on the test split."""

    def __init__(self, data: RankingDataset) -> None:
        self.data = data
        self._known: dict[tuple[Any, ...], Outputs] = {}

    def of(self, recipe: Recipe, seeds: int) -> list[Outputs]:
        """What the recipe's trainings say, a seed each."""
        return [self._one(recipe, seed) for seed in range(seeds)]

    def _one(self, recipe: Recipe, seed: int) -> Outputs:
        key = (*sorted(recipe.flat().items()), seed)
        if key not in self._known:
            state = start(recipe, self.data, seed=seed)
            for _ in train(state, self.data):
                pass
            state.model.load_state_dict(state.best_weights)
            self._known[key] = evaluate(state.model, self.data, "test", Blanking(("visual",))).outputs
        return self._known[key]


def interval(runs: Sequence[Outputs], quantity: str, less: Sequence[Outputs] = ()) -> Interval:
    """Of a quantity of single trainings, over trainings and queries; less that of `less`, unpaired over trainings."""
    terms = [(sign, arm) for sign, side in ((1.0, runs), (-1.0, less)) if (arm := objective_arm(side, quantity))]
    return linear_interval(terms)


def rows(data: RankingDataset, base: Recipe, seeds: int, weight: float | None) -> Iterator[str]:
    """One line of a Markdown table a recipe."""
    trainings, literal = Trainings(data), None
    for term, form, recipe in recipes(base, weight):
        runs = trainings.of(recipe, seeds)
        blind = trainings.of(recipe.restricted(("text", "metadata")), seeds)
        cells = [interval(runs, "ndcg"), interval(runs, "visual_masking_drop"), interval(runs, "ndcg", blind)]
        said = [f"{x.mean:+.4f} [{x.low:+.4f}, {x.high:+.4f}]" for x in cells]
        share = max(interval(runs, f"attention_{m}").mean for m in recipe.model.modalities)
        said += [f"{share:.3f}", f"{interval(runs, 'v1_correlation').mean:.3f}"]
        better = ""
        if form == "corrected" and literal is not None:
            gap = interval(runs, "ndcg", literal)
            better = f"{gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
        literal = runs
        yield f"| {term} | {form} | {' | '.join(said)} | {better} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=["planted:seed-case", "planted:no-visual"])
    parser.add_argument("--recipe", default="base", help="base, or a known point of phase 1 (balanced)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--weight", type=float, help="of every term, in place of its own")
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE: changes to the recipe")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipe = PHASES["phase1"].known_recipes()[arguments.recipe]
    recipe = recipe.updated(dict(change.split("=", 1) for change in arguments.set))
    for source in arguments.data:
        data, began = open_dataset(source), time.monotonic()
        tested = np.size(data.rows("test"))
        print(f"\n{source}, {arguments.recipe} recipe, {arguments.seeds} seeds, {tested} test queries\n")
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
        for line in rows(data, recipe, arguments.seeds, arguments.weight):
            print(line, flush=True)
        print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
