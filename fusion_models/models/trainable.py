"""The interface of every ranker that is trained, ours or somebody's own: heads for losses, and measurements."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from fusion_models.config import V1, Recipe
from fusion_models.data.batch import Batch
from fusion_models.data.schema import FeatureSchema, FeatureStatistics
from fusion_models.models.fusion import ShareKind
from fusion_models.models.heads import ContrastiveHeads, Discriminator, ThumbnailDecoder, UnimodalHeads, mlp
from fusion_models.models.output import RankerOutput
from fusion_models.models.products import ProductUnits
from fusion_models.models.projections import Encoder, Standardise
from fusion_models.models.trees import TreeEnsemble

HEADS = (
    "unimodal",
    "contrastive",
    "reconstruction",
    "target_scale",
    "thumbnail",
    "discriminator",
    "fused_discriminator",
)


class TrainableRanker(nn.Module):
    """A ranker as one training makes it: a `FusionRanker`, or an `OwnRanker` round somebody's own module."""

    share_kind: ShareKind
    scores_whole_lists = False
    """Whether a candidate's score may depend on the others, so that what is exported scores lists, not documents."""

    def __init__(self, recipe: Recipe, schema: FeatureSchema, statistics: FeatureStatistics) -> None:
        super().__init__()
        config = recipe.model
        self.modalities: tuple[str, ...] = config.modalities
        self.suspect, self.partner = recipe.suspect, recipe.partner
        tuned = config.context == "tuned_v1"
        self.trees = TreeEnsemble(config.context_reads, schema.context) if tuned else None
        """Of a tuned V1 in the context: fresh ones until they are fitted (`tuned_v1.equip`) or loaded."""
        self._means = statistics.mean
        self.v1_input = statistics.v1_input
        """How it reads V1's scores: one of `arrays.v1_scores.V1_INPUTS`."""
        self.input_widths: dict[str, int] = {**schema.widths, "context": schema.context}
        """Of the raw features and the context, as a batch brings them."""

    def _build_heads(
        self, recipe: Recipe, schema: FeatureSchema, statistics: FeatureStatistics, *, projected: int, fused: int
    ) -> None:
        """The heads whose terms have a weight; `projected` and `fused` are the widths of what they read."""
        loss, count = recipe.loss, len(self.modalities)
        self.unimodal = UnimodalHeads(count, projected) if loss.unimodal > 0.0 else None
        self.contrastive = ContrastiveHeads(projected) if loss.contrastive > 0.0 else None
        self.reconstruction = self.target_scale = self.thumbnail = None
        if loss.reconstruction > 0.0:
            self.reconstruction = mlp(fused, 2 * fused, schema.width(self.suspect))
            self.target_scale = Standardise(statistics.mean[self.suspect], statistics.std[self.suspect])
            if schema.thumbnail is not None and schema.shows(self.suspect):
                self.thumbnail = ThumbnailDecoder(fused, schema.thumbnail)
        reversal = loss.adversarial_form == "reversal"
        self.discriminator = self.fused_discriminator = None
        if loss.adversarial > 0.0 and reversal:
            self.discriminator = Discriminator(projected // 2, count)
        elif loss.adversarial > 0.0:
            self.fused_discriminator = Discriminator(fused, count)

    @abstractmethod
    def forward(
        self, batch: Batch, keep: Tensor | None = None, reversal: float = 0.0, decode: Tensor | None = None
    ) -> RankerOutput:
        """Scores and evidence of B lists of L candidates.

        `keep` `[B, M]` bool: False where a query's modality gives way to what stands for a missing one. `reversal`:
        strength of the discriminator's gradient reversal. `decode` `[n]` int64: which of the B * L documents to decode
        a thumbnail of (see `fusion_models.losses.sample_documents`). Auxiliary heads serve the losses: without
        gradients they rest.
        """

    def _auxiliary(
        self,
        batch: Batch,
        projected: Tensor,
        conditioned: Tensor,
        fused: Tensor,
        reversal: float,
        decode: Tensor | None,
    ) -> dict[str, Tensor]:
        """What the heads say of N = B * L documents: `projected` and `conditioned` `[N, M, D]`, `fused` `[N, D]`."""
        lists = batch.labels.shape
        out: dict[str, Tensor] = {}
        if self.unimodal is not None:
            out["unimodal"] = self.unimodal(conditioned)
        if self.reconstruction is not None and self.target_scale is not None:
            out["reconstruction"] = self.reconstruction(fused)
            out["reconstruction_target"] = self.target_scale(batch.features[self.suspect]).flatten(0, 1)
        if self.discriminator is not None:
            half = projected.shape[-1] // 2
            out["shared"], out["private"] = projected[..., :half], projected[..., half : 2 * half]
            out["discriminator"] = self.discriminator(out["shared"], reversal)
        if self.fused_discriminator is not None:
            out["fused_discriminator"] = self.fused_discriminator(fused, -1.0)
        of_all = {}
        if self.contrastive is not None:
            pair = (projected[:, self.modalities.index(m)] for m in (self.suspect, self.partner))
            suspect, partner, scale = self.contrastive(*pair)
            out |= {"contrastive_suspect": suspect, "contrastive_partner": partner}
            of_all["contrastive_scale"] = scale
        out = {name: in_lists(value, lists) for name, value in out.items()} | of_all
        if self.thumbnail is not None and decode is not None:
            out["thumbnail"] = self.thumbnail(fused[decode])
        return out

    @property
    def members(self) -> tuple[TrainableRanker, ...]:
        """The trained rankers that this one is made of: itself (see `Ensemble`)."""
        return (self,)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(chain(self.parameters(), self.buffers())).device

    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """What an export must be given: modalities, `context` where the data have any, `v1` where it is let in."""

    def _read(self, *, context: bool, v1: bool) -> tuple[str, ...]:
        """`reads`, its trees' included."""
        trees = self.trees.reads if self.trees is not None else ()
        found = [m for m in self.input_widths if m in self.modalities or m in trees]
        found += ["context"] if context else []
        return (*found, "v1") if V1 in trees or (v1 and self.trees is None) else tuple(found)

    def complete(self, batch: Batch) -> Batch:
        """The batch with what the ranker reads beside it: a tuned V1's score behind the context, by the ranker's trees.

        For new lists, before anything is blanked: the trees read features. What is complete comes back as it is.
        """
        if self.trees is None or batch.context.shape[-1] > self.trees.context:
            return batch
        score = self.trees(batch).masked_fill(~batch.valid, 0.0)
        return batch._replace(context=torch.cat([batch.context, score.unsqueeze(-1)], dim=-1))

    def fixed_scores(self, batch: Batch) -> Callable[[Batch], Tensor]:
        """The scores `[B, L]` of the same lists with other features; `batch` sets an `Ensemble`'s scale."""
        return lambda changed: self(changed).scores

    @contextmanager
    def scores_only(self) -> Iterator[None]:
        """Inside, what only a measurement reads is not worked out, for passes that are scored and no more."""
        yield

    @abstractmethod
    def gradient_shares(self, batch: Batch) -> Tensor:
        """`[B, L, 1, M]`: |gradient x input| of each modality, as shares; for rankers without shares of their own."""

    def decode_thumbnails(self, fused: Tensor) -> Tensor:
        """Pictures `[n, 3, S, S]` in [0, 1] of fused vectors `[n, D]`.

        Raises ValueError if the ranker has no decoder.
        """
        if self.thumbnail is None:
            raise ValueError("no thumbnail decoder: it needs loss.reconstruction > 0 and pictures of the suspect")
        return self.thumbnail(fused)  # type: ignore[no-any-return]

    def feature_mean(self, modality: str) -> Tensor:
        """The training split's mean of a modality's raw features, `[D_m]`, on the model's device."""
        return torch.as_tensor(self._means[modality], dtype=torch.float32, device=self.device)

    def product_units(self) -> dict[str, ProductUnits]:
        """Modality -> the products that its encoder reads; empty where there are none."""
        return {}

    def screened_encoders(self) -> dict[str, Encoder]:
        """Modality -> its encoder, where that may be told which features to read."""
        return {}

    @abstractmethod
    def encoder_parameters(self, modality: str) -> Iterator[nn.Parameter]:
        """The parameters of one modality's encoder, which may have a learning rate of its own; none where it has no
        encoder of its own."""


def in_lists(x: Tensor, shape: torch.Size) -> Tensor:
    """`[N, ...]` to `[B, L, ...]`."""
    return x.reshape(*shape, *x.shape[1:])
