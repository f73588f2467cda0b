"""An adapter: makes a whole ranker of somebody's own look like one of ours, inputs and auxiliary heads included."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from fusion_models.config import V1, Recipe
from fusion_models.data.batch import Batch
from fusion_models.data.schema import FeatureSchema, FeatureStatistics
from fusion_models.models.output import RankerOutput
from fusion_models.models.own.interface import Inputs, Ranked, Widths
from fusion_models.models.own.reference import EVIDENCE, OwnModel, OwnModelError, own_model
from fusion_models.models.projections import Standardise
from fusion_models.models.trainable import TrainableRanker

PROBE = (2, 3)
"""Lists and candidates of the batch on which a fresh module's shapes are seen."""


class OwnRanker(TrainableRanker):
    """Somebody's module under `ranker`, with V1's score as the recipe lets it in and modalities as the recipe has them.

    A modality that the recipe leaves out is not built where the module's constructor takes `modalities`; elsewhere its
    features are the training split's mean, always. A modality that is dropped in training gives way to the same mean.
    """

    scores_whole_lists = True

    def __init__(self, recipe: Recipe, schema: FeatureSchema, statistics: FeatureStatistics) -> None:
        """Raises OwnModelError where the module cannot be built, or its shapes are not what it promised."""
        super().__init__(recipe, schema, statistics)
        self.own: OwnModel = own_model(recipe.model.variant)
        self.share_kind = self.own.share_kind
        self.given = self.modalities if "modalities" in self.own.takes else schema.modalities
        """The modalities that the module is given features of."""
        self._kept = [self.given.index(m) for m in self.modalities]
        self._context = recipe.model.context
        self._reads_v1 = self._context == "v1" or (self._context == "tuned_v1" and V1 in recipe.model.context_reads)
        self._context_width = schema.context
        for modality in self.given:
            mean = torch.as_tensor(statistics.mean[modality], dtype=torch.float32)
            self.register_buffer(f"mean_{modality}", mean, persistent=False)
        self.v1_scale = Standardise(np.asarray(statistics.v1_mean), np.asarray(statistics.v1_std), torch.float64)
        self.ranker = self._built(recipe, schema, statistics)
        projected, fused = self._probed(schema)
        self._build_heads(recipe, schema, statistics, projected=projected, fused=fused)

    def _built(self, recipe: Recipe, schema: FeatureSchema, statistics: FeatureStatistics) -> nn.Module:
        given = {
            "settings": self.own.settings_of(recipe),
            "widths": Widths(features=dict(schema.widths), query=schema.query, context=schema.context),
            "statistics": statistics,
            "modalities": self.modalities,
        }
        try:
            return self.own.cls(**{name: given[name] for name in self.own.takes})
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise OwnModelError(f"{self.own.reference} cannot be built with {_told(given)}: {said}") from error

    def _probed(self, schema: FeatureSchema) -> tuple[int, int]:
        """Widths of `projected` and `fused` (0 where not given), seen on one batch of zeros."""
        lists = torch.zeros(PROBE)
        features = {m: torch.zeros(*PROBE, width) for m, width in schema.widths.items()}
        context = torch.zeros(*PROBE, schema.context + (self.trees is not None))
        batch = Batch(features, context, lists, lists.double(), lists == 0, lists[:, 0].long(), lists.long())
        was = self.ranker.training
        self.ranker.eval()
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                found = self._ranked(batch, None)
        finally:
            self.ranker.train(was)
        widths = [x.shape[-1] if (x := getattr(found, name)) is not None else 0 for name in EVIDENCE]
        return widths[0], widths[1]

    def inputs(self, batch: Batch, keep: Tensor | None = None) -> Inputs:
        """What the module is given of a batch: no label and no id."""
        lists = batch.labels.shape
        features = {}
        for modality in self.given:
            mean: Tensor = getattr(self, f"mean_{modality}")
            if modality not in self.modalities:
                features[modality] = mean.expand(*lists, -1)
                continue
            features[modality] = batch.features[modality]
            if keep is not None:
                kept = keep[:, self.modalities.index(modality)].reshape(-1, 1, 1)
                features[modality] = torch.where(kept, features[modality], mean)
        none = torch.zeros_like(batch.labels, dtype=torch.float32)
        tuned = none
        if self.trees is not None:
            if batch.context.shape[-1] == self._context_width:
                raise ValueError(
                    "the batch does not hold the tuned V1's score that this ranker reads: gather it from "
                    "`tuned_v1.seen_by(ranker, data)`, or pass lists that are not blanked through `ranker.complete`"
                )
            tuned = batch.context[..., -1]
        v1 = self.v1_scale(batch.v1_seen).masked_fill(~batch.valid, 0.0) if self._reads_v1 else none
        return Inputs(features, batch.context[..., : self._context_width], v1, tuned, batch.valid)

    def _ranked(self, batch: Batch, keep: Tensor | None) -> Ranked:
        """What the module says, checked against what it promised; M counts the ranker's own modalities."""
        said = self.ranker(self.inputs(batch, keep))
        found = Ranked(said) if isinstance(said, Tensor) else said
        if not isinstance(found, Ranked):
            raise OwnModelError(
                f"{self.own.reference} returned a {type(said).__name__}: return scores [B, L], or a Ranked"
            )
        lists = tuple(batch.labels.shape)
        self._require("scores", found.scores, lists)
        for name in EVIDENCE:
            value = getattr(found, name)
            if (value is not None) != (name in self.own.gives):
                what = "returned no" if value is None else "returned"
                hint = f"return it, or take {name!r} out of" if value is None else f"add {name!r} to"
                raise OwnModelError(f"{self.own.reference} {what} {name}: {hint} its class attribute `gives`")
        if (found.shares is not None) != self.own.has_shares:
            raise OwnModelError(
                f"{self.own.reference} {'returned' if found.shares is not None else 'returned no'} shares, and its "
                f"share_kind is {self.own.share_kind!r}: shares go with share_kind 'attention' or 'gate'"
            )
        if found.projected is not None:
            self._require("projected", found.projected, (*lists, len(self.given), None))
        if found.fused is not None:
            self._require("fused", found.fused, (*lists, None))
        for name in ("shares", "value_shares"):
            if getattr(found, name) is not None:
                self._require(name, getattr(found, name), (*lists, None, len(self.given)))
        return found

    def _require(self, name: str, value: Tensor, shape: tuple[int | None, ...]) -> None:
        fits = value.dim() == len(shape) and all(
            want is None or have == want for have, want in zip(value.shape, shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if want is None else str(want) for want in shape)
            raise OwnModelError(
                f"{self.own.reference} returned {name} of shape {list(value.shape)}, and [{wanted}] is wanted "
                f"(lists, candidates{'' if len(shape) == 2 else ', ...'})"
            )

    def forward(
        self, batch: Batch, keep: Tensor | None = None, reversal: float = 0.0, decode: Tensor | None = None
    ) -> RankerOutput:
        """See `TrainableRanker.forward`; a query's modality gives way to the training split's mean."""
        found = self._ranked(batch, keep)
        lists = batch.labels.shape
        none = found.scores.new_zeros(*lists, 0)
        fused = none if found.fused is None else found.fused
        projected = none.unsqueeze(2).expand(-1, -1, len(self._kept), -1)
        if found.projected is not None:
            projected = found.projected if len(self._kept) == len(self.given) else found.projected[:, :, self._kept]
        flat = projected.flatten(0, 1)
        return RankerOutput(
            scores=found.scores.float().masked_fill(~batch.valid, 0.0),
            fused=fused,
            projected=projected,
            shares=self._own_shares(found.shares),
            value_shares=self._own_shares(found.value_shares),
            auxiliary=self._auxiliary(batch, flat, flat, fused.flatten(0, 1), reversal, decode)
            if torch.is_grad_enabled()
            else {},
        )

    def _own_shares(self, shares: Tensor | None) -> Tensor | None:
        """Those of the ranker's own modalities, `[B, L, K, M]`, summing to 1."""
        if shares is None or len(self._kept) == len(self.given):
            return shares
        own = shares[..., self._kept]
        return own / own.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(own.dtype).tiny)

    def gradient_shares(self, batch: Batch) -> Tensor:
        """See `TrainableRanker.gradient_shares`; of raw features, from the training split's mean."""
        with torch.enable_grad():
            features = {m: batch.features[m].detach().requires_grad_(True) for m in self.modalities}
            scores = self(batch._replace(features=batch.features | features)).scores
            gradients = torch.autograd.grad(scores.sum(), list(features.values()), allow_unused=True)
        mass = torch.stack(
            [
                torch.zeros_like(scores)
                if gradient is None
                else (gradient * (x.detach() - getattr(self, f"mean_{m}"))).sum(-1).abs()
                for (m, x), gradient in zip(features.items(), gradients, strict=True)
            ],
            dim=-1,
        ).detach()
        total = mass.sum(dim=-1, keepdim=True)
        even = torch.full_like(mass, 1.0 / mass.shape[-1])
        return torch.where(total > 0, mass / total.clamp(min=torch.finfo(mass.dtype).tiny), even).unsqueeze(2)

    def reads(self) -> tuple[str, ...]:
        """See `TrainableRanker.reads`."""
        return self._read(context=self._context_width > 0, v1=self._reads_v1)

    def encoder_parameters(self, modality: str) -> Iterator[nn.Parameter]:
        """See `TrainableRanker.encoder_parameters`: what the module's own method of this name gives."""
        if not self.own.has_encoders:
            return iter(())
        return iter(self.ranker.encoder_parameters(modality))  # type: ignore[operator]


def _told(given: dict[str, object]) -> str:
    """Settings and modalities, for an error."""
    return f"settings {given['settings']} and modalities {'+'.join(given['modalities'])}"  # type: ignore[arg-type]
