"""Members that share their weights (TabM, Gorishniy et al. 2024), beside members of their own:
`python benchmarks/shared_members.py --data clipart planted:healthy`.

The base recipe as k members, on validation (the test split stays closed): *apart*, k trainings whose standardised
scores are averaged, as `train.members` has it; *tokens*, one training of k members that share all weights but a factor
for each token before the fusion (started at random signs) and a score head each, as TabM-mini; *layers*, that and a
factor before and behind each linear layer of the fusion, as TabM (BatchEnsemble, Wen et al. 2020). A shared training
keeps its best epoch by the ensemble, which flatters it a little. Seconds are of one thread; drops are the image's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from fusion_models.config import Recipe
from fusion_models.data import RankingDataset, open_dataset
from fusion_models.data.batch import Batch
from fusion_models.evaluation import score, score_with
from fusion_models.models import Ensemble, FusionRanker, RankerOutput
from fusion_models.models.ensemble import standardised
from fusion_models.models.ranker import INITIAL_SCORE_STD
from fusion_models.training import start, train
from fusion_models.training.optimiser import EagerAdamW
from fusion_models.training.step import train_step
from spaces import PHASES

WAYS = ("apart", "tokens", "layers")
COLUMNS = ("data", "members", "way", "nDCG", "deviation", "without the image", "drop", "s", "parameters")


class Factors(nn.Module):
    """A linear layer that k members share: each has a factor of its own before it and behind it."""

    def __init__(self, shared: nn.Linear, members: int) -> None:
        super().__init__()
        self.shared, self.members = shared, members
        self.before = nn.Parameter(torch.ones(members, shared.in_features))
        self.behind = nn.Parameter(torch.ones(members, shared.out_features))

    def forward(self, x: Tensor) -> Tensor:
        """`[k * N, ..., D]`, member by member."""
        y = self.shared((x.unflatten(0, (self.members, -1)) * _along(self.before, x)).flatten(0, 1))
        return (y.unflatten(0, (self.members, -1)) * _along(self.behind, y)).flatten(0, 1)

    @property
    def weight(self) -> Tensor:
        """Where a variant multiplies by the matrix itself, all members share it."""
        return self.shared.weight

    @property
    def bias(self) -> Tensor:
        """As `weight`."""
        return self.shared.bias


def _along(factor: Tensor, x: Tensor) -> Tensor:
    """`[k, D]` as `[k, 1, ..., 1, D]`, to multiply `x` `[k * N, ..., D]` once its members stand apart."""
    return factor.reshape(len(factor), *[1] * (x.dim() - 1), -1)


class Shared(nn.Module):
    """A ranker as k members that share it. Batches hold their lists k times, member by member."""

    def __init__(self, ranker: FusionRanker, members: int, *, layers: bool) -> None:
        super().__init__()
        self.ranker, self.members = ranker, members
        tokens, width = len(ranker.projections.owner), ranker.score_head.in_features
        self.signs = nn.Parameter(torch.randn(members, tokens, width).sign())
        self.heads = nn.Parameter(torch.randn(members, width) * INITIAL_SCORE_STD * width**-0.5)
        if layers:
            for parent in [*ranker.fusion.modules()]:
                for name, child in [*parent.named_children()]:
                    if type(child) is nn.Linear:
                        setattr(parent, name, Factors(child, members))

    def __getattr__(self, name: str) -> object:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("ranker"), name)

    def forward(
        self, batch: Batch, keep: Tensor | None = None, reversal: float = 0.0, decode: Tensor | None = None
    ) -> RankerOutput:
        """Scores `[k * B, L]`; no auxiliary heads."""
        inputs = self.ranker.projections(batch, keep)
        tokens = (inputs.tokens.unflatten(0, (self.members, -1)) * self.signs[:, None]).flatten(0, 1)
        vector = self.ranker.fusion(tokens, inputs.query).vector
        scores = (vector.unflatten(0, (self.members, -1)) * self.heads[:, None]).sum(-1)
        lists = batch.labels.shape
        return RankerOutput(
            scores=scores.reshape(lists),
            fused=vector.reshape(*lists, -1),
            projected=inputs.modalities.reshape(*lists, *inputs.modalities.shape[1:]),
            shares=None,
            value_shares=None,
            auxiliary={},
        )

    def together(self, batch: Batch) -> Tensor:
        """The mean of the members' standardised scores, `[B, L]`."""
        many = repeated(batch, self.members)
        return standardised(self(many).scores, many.valid).unflatten(0, (self.members, -1)).mean(0)


def repeated(batch: Batch, times: int) -> Batch:
    """Every list `times` times, the whole batch behind itself."""
    return batch.changed(lambda x: x.repeat(times, *[1] * (x.dim() - 1)))


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """Inside, no gradients and no dropout."""
    model.eval()
    with torch.no_grad():
        yield
    model.train()


def shared_training(recipe: Recipe, data: RankingDataset, members: int, seed: int, *, layers: bool) -> Shared:
    """One training of k members, with the base recipe's rates, epochs and patience."""
    state = start(recipe, data, seed=seed)
    assert isinstance(state.model, FusionRanker)
    torch.manual_seed(seed)
    model = Shared(state.model, members, layers=layers)
    matrices = [p for n, p in model.named_parameters() if p.ndim > 1 and not n.endswith(("signs", "before", "behind"))]
    decaying = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in decaying]
    groups = [(matrices, recipe.train.weight_decay), (others, 0.0)]
    optimiser = EagerAdamW(
        [{"params": params, "scale": 1.0, "weight_decay": decay} for params, decay in groups],
        lr=recipe.train.learning_rate,
        fused=True,
    )
    shared = replace(state, model=model, optimiser=optimiser)  # type: ignore[arg-type]
    config, generator = recipe.train, state.generator
    steps = -(-len(data.rows("train")) // config.batch_queries)
    best, best_epoch, weights = -np.inf, 0, {k: v.clone() for k, v in model.state_dict().items()}
    for epoch in range(config.epochs):
        for step, batch in enumerate(data.batches("train", config.batch_queries, generator=generator)):
            progress = (epoch * steps + step + 1) / (config.epochs * steps)
            many = repeated(batch, members)
            train_step(shared, many, progress=progress)
        reached = ndcg(model, data)
        if reached > best:
            best, best_epoch = reached, epoch
            weights = {k: v.clone() for k, v in model.state_dict().items()}
        if epoch - best_epoch >= config.patience:
            break
    model.load_state_dict(weights)
    return model


def ndcg(model: Shared, data: RankingDataset, blank: str | None = None) -> float:
    """Mean nDCG of the members together on validation; `blank`: a modality whose features are their training mean."""

    def scorer(batch: Batch) -> Tensor:
        if blank is not None:
            mean = torch.from_numpy(data.statistics.mean[blank]).float()
            batch = batch._replace(features=batch.features | {blank: mean.expand_as(batch.features[blank]).clone()})
        return model.together(batch)

    with measuring(model):
        return score_with(scorer, data, "validation").mean_ndcg()


def apart(recipe: Recipe, data: RankingDataset, members: int, seed: int) -> Ensemble:
    """k trainings of their own."""
    rankers = []
    for member in range(members):
        state = start(recipe, data, seed=1_000 * seed + member)
        for _ in train(state, data):
            pass
        state.model.load_state_dict(state.best_weights)
        rankers.append(state.model.eval())
    return Ensemble(rankers)


def reached(way: str, recipe: Recipe, data: RankingDataset, members: int, seed: int) -> tuple[float, float, float, int]:
    """nDCG together, nDCG without the image's features (its mean in their place), seconds, parameters."""
    began = time.process_time()
    if way == "apart":
        ranker = apart(recipe, data, members, seed)
        seconds = time.process_time() - began
        mean = torch.from_numpy(data.statistics.mean["visual"]).float()

        def blanked(batch: Batch) -> Tensor:
            with torch.no_grad():
                features = batch.features | {"visual": mean.expand_as(batch.features["visual"]).clone()}
                return ranker(batch._replace(features=features)).scores

        blank = score_with(blanked, data, "validation").mean_ndcg() if "visual" in ranker.modalities else np.nan
        whole = score(ranker, data, "validation").mean_ndcg()
    else:
        ranker = shared_training(recipe, data, members, seed, layers=way == "layers")
        seconds = time.process_time() - began
        whole = ndcg(ranker, data)
        blank = ndcg(ranker, data, "visual") if "visual" in recipe.model.modalities else np.nan
    return whole, blank, seconds, sum(p.numel() for p in ranker.parameters())


def main(sources: list[str], members: list[int], seeds: int, settings: list[str]) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    recipe = PHASES["phase3"].base.updated(dict(setting.split("=", 1) for setting in settings))
    print(" | ".join(COLUMNS), flush=True)
    for source in sources:
        data = open_dataset(source)
        others = tuple(m for m in data.schema.modalities if m != "visual")
        for count in members:
            for way in WAYS:
                found = np.array([reached(way, recipe, data, count, seed) for seed in range(seeds)])
                blind = [reached(way, recipe.restricted(others), data, count, seed)[0] for seed in range(seeds)]
                whole, blank, seconds, parameters = found.T
                drop = np.mean(1.0 - blank / whole)
                numbers = [f"{whole.mean():.4f}", f"{whole.std(ddof=1):.4f}", f"{np.mean(blind):.4f}", f"{drop:.1%}"]
                numbers += [f"{seconds.mean():.1f}", f"{parameters[0]:,.0f}"]
                print(" | ".join([source, str(count), way, *numbers]), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["clipart", "planted:seed-case", "planted:healthy"])
    parser.add_argument("--members", nargs="+", type=int, default=[4])
    parser.add_argument("--seeds", type=int, default=3, help="of each way; at least two")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes to the base recipe")
    given = parser.parse_args()
    main(given.data, given.members, given.seeds, given.set)
