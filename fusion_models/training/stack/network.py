"""One ranker's code called with the weights of many: S rows of a matrix in, S losses and S gradients out.

`torch.func.functional_call` puts a row's weights into a template, `vmap` calls it for all rows at once. The gradient is
ordinary autograd through the stacked operations: the members' losses are summed, and no member's loss reads another's
weights. So only forward operations need a batching rule.
Shapes: S members, P parameters of one ranker, B queries, L candidates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fusion_models.config import Recipe
from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch
from fusion_models.losses import (
    THUMBNAIL_DOCUMENTS,
    Drawn,
    Step,
    Suspect,
    modulation_coefficients,
    sample_documents,
    sum_of_terms,
)
from fusion_models.models import FusionRanker, RankerOutput, build_ranker
from fusion_models.screening import keep_columns
from fusion_models.training.stack.member_dropout import MemberDropout, document_hashes
from fusion_models.training.stack.structure import copy_buffers, member_config, numbers_of, terms_on
from fusion_models.training.step import half_precision, kept_by_chance

PRODUCTS = (nn.Linear, nn.Conv2d)
"""Layers that autocast runs in bfloat16."""
DROPOUTS = ("model.dropout", "model.token_dropout")


class StepNumbers(NamedTuple):
    """What a step is given beside its batch."""

    chances: Sequence[Tensor]
    """Uniform numbers in the order in which the step takes them, `[S, ...]` each."""
    reversal: Tensor
    """`[S]`: the strength of the gradient reversal."""
    keys: Tensor
    """`[S]`: what each member's dropout masks of this step follow from."""


class StackedRanker:
    """The code that a stack's members share, and how their weights lie in the rows of a matrix."""

    def __init__(
        self, recipes: Sequence[Recipe], data: RankingDataset, device: torch.device, *, like: nn.Module | None = None
    ) -> None:
        """`recipes` are of one structure (see `structure`), one a member; `like`: a member, whose buffers all have."""
        self.recipes = list(recipes)
        self.device = device
        self.terms = terms_on(recipes[0].loss)
        self.numbers = numbers_of(recipes, device)
        self.modulates = recipes[0].train.gradient_modulation > 0.0
        self._drops = recipes[0].train.modality_dropout > 0.0
        most_dropped = _with_dropout(recipes)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            template = build_ranker(most_dropped, data.schema, data.statistics)
        if not isinstance(template, FusionRanker):
            raise ValueError(f"{recipes[0].model.variant} is a ranker of somebody's own, which trains alone")
        self.template: FusionRanker = template.to(device)
        if like is None:
            keep_columns(self.template, data)
        else:
            copy_buffers(like, self.template)
        self._dropout = _member_dropout(self.template, most_dropped, self.numbers)
        self._dropout_layers = [m for m in self.template.modules() if isinstance(m, MemberDropout)]
        parameters = dict(self.template.named_parameters())
        self.names = list(parameters)
        self.shapes = [p.shape for p in parameters.values()]
        self.sizes = [p.numel() for p in parameters.values()]
        per_weight = torch.repeat_interleave(torch.tensor(self.sizes))
        self.decays = torch.tensor([p.ndim > 1 for p in parameters.values()])[per_weight].to(device)
        encoders = [f"projections.encoders.{m}." for m in self.template.modalities]
        self.encoder_MP = torch.stack(
            [torch.tensor([name.startswith(e) for name in self.names])[per_weight] for e in encoders]
        ).to(device)
        """Bool: which weights belong to each modality's encoder."""
        self._suspect = Suspect.of(self.template)
        self.part_names = ("ranking", *map(self._suspect.part, self.terms), "total")
        place = self._suspect.place
        self.suspect_P = self.encoder_MP[place] if place >= 0 else torch.zeros_like(self.decays)
        """Bool: which weights belong to the suspect's encoder."""
        for parameter in parameters.values():
            parameter.requires_grad_(False)
        self.half = half_precision(recipes[0].train.precision, self.numbers["train.learning_rate"])
        self._cast = [n for n in self.names if isinstance(self.template.get_submodule(n.rpartition(".")[0]), PRODUCTS)]

    def replace(self, place: int, recipe: Recipe) -> bool:
        """Give a place to a member of the same structure; False where that needs the stack to be built anew."""
        flat = recipe.flat()
        per_member = {name for name in DROPOUTS if any(self.numbers[name] is held for held in self._dropout.values())}
        if any(flat[name] != self.recipes[0].flat()[name] for name in DROPOUTS if name not in per_member):
            return False
        self.recipes[place] = recipe
        for name, values in self.numbers.items():
            values[place] = float(flat[recipe.key(name)])
        return True

    def named(self, weights: Tensor) -> dict[str, Tensor]:
        """`[S, P]` (or one row `[P]`) as views by name, `[S, ...]`; one node of the graph on the way back."""
        parts = torch.split(weights, self.sizes, dim=-1)
        lead = weights.shape[:-1]
        return {n: x.view((*lead, *shape)) for n, x, shape in zip(self.names, parts, self.shapes, strict=True)}

    def _for_step(self, weights: Tensor) -> dict[str, Tensor]:
        """`named`, with what products read in bfloat16 where the ranker runs in it.

        Under `vmap` a linear map is a product, which autocast casts, and a sum, which it does not: a bias in float32
        would make everything after it float32. One cast of the matrix is also cheaper than one a weight.
        """
        if not self.half:
            return self.named(weights)
        half = self.named(weights.bfloat16())
        return self.named(weights) | {name: half[name] for name in self._cast}

    def row(self, named: dict[str, Tensor]) -> Tensor:
        """The row `[P]` of one ranker's weights (or of whatever has a value a weight)."""
        return torch.cat([named[name].detach().flatten() for name in self.names])

    def gradients(
        self, weights: Tensor, batch: Batch, given: StepNumbers, pictures: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Gradients `[S, P]` of every member's total loss, and the loss parts `[parts, S]` in `part_names`' order.

        `batch` has S in front of its shapes; `pictures` `[items, 3, S, S]`, where thumbnails are decoded.
        """
        self.template.train()
        leaf = weights.detach().requires_grad_(True)

        def member(
            own: dict[str, Tensor], numbers: dict[str, Tensor], inputs: Batch, chance: list[Tensor], reverse: Tensor
        ) -> tuple[dict[str, Tensor], Tensor]:
            return self._loss(own, numbers, inputs, chance, reverse, pictures)

        parts, coefficients = vmap(member, randomness="different")(
            self._for_step(leaf) | self._masks(given.keys, batch),
            self.numbers,
            batch,
            list(given.chances),
            given.reversal,
        )
        (gradient,) = torch.autograd.grad(parts["total"].sum(), leaf)
        if self.modulates:
            gradient = gradient * (1.0 + (coefficients - 1.0) @ self.encoder_MP.float())
        return gradient, torch.stack([parts[name].detach().float() for name in self.part_names])

    def _masks(self, keys: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Buffers of the dropout layers for one step, by name, `[S, ...]`."""
        if not self._dropout:
            return {}
        for layer in self._dropout_layers:
            layer.calls = 0
        rows = document_hashes(keys, *batch.labels.shape[1:])
        return self._dropout | {name.replace(".probability", ".rows"): rows for name in self._dropout}

    def _loss(
        self,
        own: dict[str, Tensor],
        numbers: dict[str, Tensor],
        batch: Batch,
        chances: list[Tensor],
        reversal: Tensor,
        pictures: Tensor | None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """`train_step`'s loss for one member: parts by name, and the factors of its encoders' gradients `[M]`."""
        recipe, queries = self.recipes[0], len(batch.query)
        source = Drawn(chances)
        keep = decoded = shown = None
        if self._drops:
            chance = source.take(queries, len(self.template.modalities))
            keep = kept_by_chance(chance, numbers["train.modality_dropout"])
        if self.template.thumbnail is not None and pictures is not None:
            decoded = sample_documents(batch.valid, THUMBNAIL_DOCUMENTS, source)
            shown = pictures[batch.item.flatten()[decoded]]

        def run(inputs: Batch, decode: Tensor | None = None) -> RankerOutput:
            kwargs = {"keep": keep, "reversal": reversal, "decode": decode}
            with self.autocast():
                found: RankerOutput = functional_call(self.template, own, (inputs,), kwargs)
            return found

        out = run(batch, decoded)
        config = member_config(recipe.loss, numbers)
        step = Step(
            forward=run,
            batch=batch,
            config=config,
            out=out,
            generator=source,
            suspect=self._suspect,
            decoded=decoded,
            thumbnails=shown,
        )
        _, parts = sum_of_terms(self.terms, step)
        if not self.modulates:
            return parts, parts["total"].detach()
        strength = numbers["train.gradient_modulation"]
        return parts, modulation_coefficients(out.auxiliary["unimodal"], batch, strength=strength)

    def autocast(self) -> Any:
        """bfloat16 where a training alone would use it. Its cache of weights would outlive a recorded graph."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half, cache_enabled=False)


def _with_dropout(recipes: Sequence[Recipe]) -> Recipe:
    """A recipe whose ranker has dropout layers where any member drops anything."""
    largest = {key: max(r.flat()[key] for r in recipes) for key in DROPOUTS}
    return recipes[0].updated(largest)


def _member_dropout(model: nn.Module, built: Recipe, numbers: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put `MemberDropout` in the place of every dropout layer of `model`; their probabilities `[S]` by name.

    A layer that does not drop what the recipe `built` says, in a fusion of somebody's own, keeps its own probability.
    """
    buffers, said = {}, built.flat()
    for layer, (name, module) in enumerate(list(model.named_modules())):
        if isinstance(module, nn.Dropout):
            key = "model.token_dropout" if name == "projections.dropout" else "model.dropout"
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, MemberDropout(layer).to(numbers[key].device))
            own = numbers[key] if module.p == said[key] else torch.full_like(numbers[key], module.p)
            buffers[f"{name}.probability"] = own
    return buffers


def broken_parts(names: Sequence[str], parts: Sequence[float]) -> list[str]:
    """Names of the loss parts, `total` apart, that are no number."""
    return [name for name, part in zip(names, parts, strict=True) if name != "total" and not math.isfinite(part)]
