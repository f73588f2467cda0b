"""One optimisation step: a function of a training's state, a batch and numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fusion_models.data.batch import Batch
from fusion_models.losses import THUMBNAIL_DOCUMENTS, Step, Suspect, modulate_gradients, sample_documents, total_loss
from fusion_models.models import RankerOutput
from fusion_models.process_group import WHOLE, Shard
from fusion_models.training.state import TrainingState


class DivergedError(FloatingPointError):
    """A loss that is no number any more: where, and which term."""


Forward = Callable[..., RankerOutput]
Thumbnails = Callable[[Tensor], Tensor]
"""Item rows `[n]` -> their pictures, uint8 `[n, 3, S, S]`."""


def learning_rate_at(progress: float, warmup: float) -> float:
    """Share of the peak rate at `progress` in [0, 1]: a linear rise over `warmup`, then a half cosine to 0."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (progress - warmup) / (1.0 - warmup)))


def kept_modalities(queries: int, modalities: int, dropout: float, generator: torch.Generator) -> Tensor:
    """`[B, M]` bool: which modalities each query keeps; never none of them."""
    return kept_by_chance(torch.rand(queries, modalities, generator=generator), dropout)


def kept_by_chance(chance: Tensor, dropout: float | Tensor) -> Tensor:
    """`[..., M]` bool from uniform numbers `[..., M]`: those from `dropout` on, and the largest where none is."""
    keep = chance >= dropout
    return keep | (chance == chance.amax(dim=-1, keepdim=True)) & ~keep.any(dim=-1, keepdim=True)


def train_step(
    state: TrainingState,
    batch: Batch,
    *,
    progress: float,
    forward: Forward | None = None,
    thumbnails: Thumbnails | None = None,
    shard: Shard = WHOLE,
) -> dict[str, Tensor]:
    """Train `state`'s model on one batch; the loss parts come back detached: the caller decides when to wait for them.

    `progress` in (0, 1] is the share of all steps done with this one. `forward` is the model wrapped for several
    workers, or to save memory. `thumbnails` looks up the pictures of items, where the dataset has them. `shard` says
    which part of the workers' common batch `batch` is; what is drawn at random is drawn for all of it.
    """
    model, optimiser, generator, train = state.model, state.optimiser, state.generator, state.recipe.train
    forward = forward or model
    keep = None
    if train.modality_dropout > 0.0:
        queries = shard.queries(len(batch.query))
        keep = kept_modalities(queries, len(model.modalities), train.modality_dropout, generator)
        keep = shard.own(keep).to(batch.labels.device)
    reversal = 2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0  # Ganin et al. 2016, section 5.2.2
    for group in optimiser.param_groups:
        group["lr"] = train.learning_rate * group["scale"] * learning_rate_at(progress, train.warmup)
    decoded = pictures = None
    if model.thumbnail is not None and thumbnails is not None:
        drawn = sample_documents(shard.valid(batch.valid), THUMBNAIL_DOCUMENTS, generator)
        decoded = shard.inside(drawn, batch.valid.shape[1])
        pictures = thumbnails(batch.item.flatten()[decoded].cpu())

    def run(inputs: Batch, decode: Tensor | None = None) -> RankerOutput:
        with torch.autocast(
            inputs.labels.device.type, torch.bfloat16, enabled=half_precision(train.precision, inputs.labels)
        ):
            return forward(inputs, keep=keep, reversal=reversal, decode=decode)

    out = run(batch, decoded)
    total, parts = total_loss(
        Step(
            forward=run,
            batch=batch,
            config=state.recipe.loss,
            out=out,
            generator=generator,
            suspect=Suspect.of(model),
            decoded=decoded,
            thumbnails=pictures,
            shard=shard,
        )
    )
    optimiser.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    if train.gradient_modulation > 0.0:
        modulate_gradients(model, out, batch, strength=train.gradient_modulation, shard=shard)
    torch.nn.utils.clip_grad_norm_(model.parameters(), train.gradient_clip)
    optimiser.step()
    return {name: part.detach() for name, part in parts.items()}


def half_precision(precision: str, like: Tensor) -> bool:
    """Whether the ranker runs in bfloat16 autocast; `like`: a tensor of the device that it runs on."""
    if precision == "auto":
        return like.is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)  # emulated, it is slower
    return precision == "bfloat16"
