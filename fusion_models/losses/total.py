"""The weighted sum: total = ranking + Σ weight · term, with every part returned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

from torch import Tensor

from fusion_models.config import LossConfig
from fusion_models.data.batch import Batch
from fusion_models.losses import adversarial, importance, multitask
from fusion_models.losses.draws import Source
from fusion_models.losses.ranking import RANKING_LOSSES
from fusion_models.modalities import SUSPECT
from fusion_models.models.output import RankerOutput
from fusion_models.models.trainable import TrainableRanker
from fusion_models.process_group import WHOLE, Shard


class Suspect(NamedTuple):
    """The modality under suspicion, which some terms act on."""

    name: str
    place: int
    """Among the ranker's modalities; -1 where it has it not."""

    def part(self, term: str) -> str:
        """What a term's part is called: `visual_importance` where `visual` is the suspect."""
        return term.replace("suspect", self.name, 1) if term.startswith("suspect_") else term

    @staticmethod
    def of(model: TrainableRanker) -> Suspect:
        """The suspect of a ranker."""
        found = model.modalities.index(model.suspect) if model.suspect in model.modalities else -1
        return Suspect(model.suspect, found)


FIRST = Suspect(SUSPECT, 0)
"""The default suspect, as it stands in a ranker of the default modalities."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A batch that has passed forward once: all that its loss hangs on, and what a term may read."""

    forward: Callable[[Batch], RankerOutput]
    """For terms that need a second pass (the shuffled suspect): the ranker with everything but the batch fixed,
    dropped modalities included."""
    batch: Batch
    config: LossConfig
    out: RankerOutput
    """The ranker's output for `batch`."""
    generator: Source
    """Draws shuffles and samples."""
    suspect: Suspect = FIRST
    decoded: Tensor | None = None
    """`[n]`, where pictures show the suspect: the documents whose thumbnail the forward pass decoded."""
    thumbnails: Tensor | None = None
    """`[n, 3, S, S]`: their true pictures."""
    shard: Shard = WHOLE
    """Which part of a batch that several processes train on `batch` is: the loss is that of the whole."""

    @property
    def ranking(self) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """The ranking loss of scores, labels and `valid`, `[B, L]` each."""
        return partial(RANKING_LOSSES[self.config.ranking], temperature=self.config.temperature, shard=self.shard)

    @cached_property
    def ranking_loss(self) -> Tensor:
        """Of the ranker's own scores, `[]`."""
        return self.ranking(self.out.scores, self.batch.labels, self.batch.valid)


def total_loss(step: Step) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of `step.out`, `[]`, and its parts.

    Returns the total and the *unweighted* parts by name, `ranking` and `total` included. A term of weight 0 is
    neither computed nor among them.
    """
    return sum_of_terms([name for name in TERMS if getattr(step.config, name) > 0.0], step)


def sum_of_terms(terms: Sequence[str], step: Step) -> tuple[Tensor, dict[str, Tensor]]:
    """`total_loss` of the terms named, whatever their weights; the numbers in `step.config` may be tensors `[]`."""
    parts, total = {"ranking": step.ranking_loss}, step.ranking_loss
    for name in terms:
        part = parts[step.suspect.part(name)] = TERMS[name](step)
        total = total + getattr(step.config, name) * part
    return total, parts | {"total": total}


def _suspect_importance(step: Step) -> Tensor:
    if step.config.suspect_importance_form == "literal":
        return importance.literal_importance(step.out.projected[:, :, step.suspect.place], step.batch.valid, step.shard)
    margin, suspect = step.config.reliance_margin, step.suspect.name
    if step.config.suspect_importance_form == "masking":
        return importance.masking_gap(
            step.forward, step.batch, step.ranking_loss, step.ranking, suspect=suspect, margin=margin
        )
    shuffled = importance.suspect_shuffled(step.batch, suspect, step.generator, step.shard)
    return importance.reliance(step.forward, shuffled, step.ranking_loss, step.ranking, margin=margin)


def _variance(step: Step) -> Tensor:
    return importance.variance(step.out.projected, step.batch.valid, step.shard)


def _attention_entropy(step: Step) -> Tensor:
    assert step.out.shares is not None, "build_ranker refuses the term where a variant has no shares"
    if step.config.attention_entropy_form == "literal":
        return importance.literal_attention_entropy(step.out.shares, step.batch.valid, step.shard)
    target = step.config.attention_entropy_target
    return importance.attention_entropy(step.out.shares, step.batch.valid, target=target, shard=step.shard)


def _unimodal(step: Step) -> Tensor:
    return importance.unimodal(step.out.auxiliary["unimodal"], step.batch, step.ranking)


RECONSTRUCTIONS: dict[str, multitask.Reconstruction] = {
    "mse": multitask.reconstruction_mse,
    "cosine": multitask.reconstruction_cosine,
}


def _reconstruction(step: Step) -> Tensor:
    """Of the suspect's features, plus 1 - SSIM of the thumbnails where the step has them."""
    heads, valid = step.out.auxiliary, step.batch.valid
    form = RECONSTRUCTIONS[step.config.reconstruction_form]
    features = form(heads["reconstruction"], heads["reconstruction_target"], valid, step.shard)
    if step.decoded is None or step.thumbnails is None:
        return features
    drawn = valid.flatten()[step.decoded]
    return features + multitask.thumbnail_dissimilarity(heads["thumbnail"], step.thumbnails, drawn, step.shard)


def _contrastive(step: Step) -> Tensor:
    heads = step.out.auxiliary
    return multitask.contrastive(
        heads["contrastive_suspect"],
        heads["contrastive_partner"],
        heads["contrastive_scale"],
        step.batch,
        generator=step.generator,
        shard=step.shard,
    )


def _adversarial(step: Step) -> Tensor:
    if step.config.adversarial_form == "literal":
        return adversarial.literal_adversarial(step.out.auxiliary["fused_discriminator"], step.batch.valid, step.shard)
    return adversarial.adversarial(step.out.auxiliary["discriminator"], step.batch.valid, step.shard)


def _orthogonality(step: Step) -> Tensor:
    heads = step.out.auxiliary
    return adversarial.orthogonality(heads["shared"], heads["private"], step.batch.valid, step.shard)


def _decorrelation(step: Step) -> Tensor:
    target = step.config.decorrelation_target
    return multitask.decorrelation(step.out.scores, step.batch.v1, step.batch.valid, target=target, shard=step.shard)


TERMS: dict[str, Callable[[Step], Tensor]] = {
    "suspect_importance": _suspect_importance,
    "variance": _variance,
    "attention_entropy": _attention_entropy,
    "unimodal": _unimodal,
    "reconstruction": _reconstruction,
    "contrastive": _contrastive,
    "adversarial": _adversarial,
    "orthogonality": _orthogonality,
    "decorrelation": _decorrelation,
}
