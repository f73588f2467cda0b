"""The ranker: projections, a fusion variant, the score head, and the auxiliary heads that its losses ask for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fusion_models.config import Recipe
from fusion_models.data.batch import Batch
from fusion_models.data.schema import FeatureSchema, FeatureStatistics
from fusion_models.metrics import gradient_times_input_shares
from fusion_models.models.applicability import require_applicable
from fusion_models.models.fusion import Fused, ShareKind
from fusion_models.models.output import RankerOutput
from fusion_models.models.own.ranker import OwnRanker
from fusion_models.models.own.reference import is_own, own_model
from fusion_models.models.products import ProductUnits
from fusion_models.models.projections import Encoder, Projected, Projections
from fusion_models.models.trainable import TrainableRanker, in_lists
from fusion_models.models.variants import build_fusion

INITIAL_SCORE_STD = 0.1


def build_ranker(recipe: Recipe, schema: FeatureSchema, statistics: FeatureStatistics) -> TrainableRanker:
    """A fresh ranker; its weights follow from torch's global generator, which the caller seeds.

    Raises ValueError, naming the keys, if the recipe asks for a term that its model cannot have.
    """
    require_applicable(recipe)
    if is_own(recipe.model.variant) and own_model(recipe.model.variant).kind == "ranker":
        return OwnRanker(recipe, schema, statistics)
    return FusionRanker(recipe, schema, statistics)


class FusionRanker(TrainableRanker):
    """Scores each candidate of a list from its own features and the query's: candidates do not see each other,
    so permuting them permutes the scores and padding changes nothing."""

    def __init__(self, recipe: Recipe, schema: FeatureSchema, statistics: FeatureStatistics) -> None:
        super().__init__(recipe, schema, statistics)
        config = recipe.model
        learned_null = recipe.train.modality_dropout > 0.0
        self.projections = Projections(config, schema, statistics, learned_null=learned_null)
        self.fusion = build_fusion(recipe, self.projections.owner)
        self.fusion.trains_shares = recipe.loss.attention_entropy > 0.0
        self.score_head = nn.Linear(config.width, 1, bias=False)
        nn.init.normal_(self.score_head.weight, std=INITIAL_SCORE_STD * config.width**-0.5)
        self.share_kind: ShareKind = self.fusion.share_kind
        self._build_heads(recipe, schema, statistics, projected=config.width, fused=config.width)

    def forward(
        self, batch: Batch, keep: Tensor | None = None, reversal: float = 0.0, decode: Tensor | None = None
    ) -> RankerOutput:
        """See `TrainableRanker.forward`; a query's modality gives way to its null token."""
        lists = batch.labels.shape
        inputs: Projected = self.projections(batch, keep)
        fused: Fused = self.fusion(inputs.tokens, inputs.query)
        return RankerOutput(
            scores=in_lists(self._score(fused.vector), lists),
            fused=in_lists(fused.vector, lists),
            projected=in_lists(inputs.modalities, lists),
            shares=None if fused.shares is None else in_lists(fused.shares, lists),
            value_shares=None if fused.value_shares is None else in_lists(fused.value_shares, lists),
            auxiliary=self._auxiliary(batch, inputs.modalities, inputs.conditioned, fused.vector, reversal, decode)
            if torch.is_grad_enabled()
            else {},
        )

    def _score(self, fused: Tensor) -> Tensor:
        return self.score_head(fused).squeeze(-1).float()  # type: ignore[no-any-return]

    @contextmanager
    def scores_only(self) -> Iterator[None]:
        """Inside, value shares are not worked out, for passes that are scored and no more."""
        before, self.fusion.scores_only = self.fusion.scores_only, True
        try:
            yield
        finally:
            self.fusion.scores_only = before

    def tokens(self, batch: Batch, keep: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """What the fusion reads: tokens `[N, T, D]`, each token's index in `modalities` `[T]`, the query `[N, D]`."""
        inputs: Projected = self.projections(batch, keep)
        owner = torch.tensor(self.projections.owner, device=inputs.tokens.device)
        return inputs.tokens, owner, inputs.query

    def score_tokens(self, tokens: Tensor, query: Tensor) -> Tensor:
        """Scores `[N]` of tokens `[N, T, D]` and queries `[N, D]`, as `forward` gives them."""
        return self._score(self.fusion(tokens, query).vector)

    def gradient_shares(self, batch: Batch) -> Tensor:
        """See `TrainableRanker.gradient_shares`; of the tokens that the fusion reads."""
        with torch.enable_grad():
            tokens, owner, query = self.tokens(batch)
            tokens = tokens.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.score_tokens(tokens, query).sum(), tokens)
        shares = gradient_times_input_shares(tokens.detach(), gradient, owner)
        return shares.reshape(*batch.labels.shape, 1, -1)

    def reads(self) -> tuple[str, ...]:
        """See `TrainableRanker.reads`."""
        encoder = self.projections.context
        return self._read(context=encoder.project is not None, v1=encoder.v1 is not None)

    def product_units(self) -> dict[str, ProductUnits]:
        """See `TrainableRanker.product_units`."""
        units = {m: encoder.products for m, encoder in self.projections.encoders.items()}
        return {m: found for m, found in units.items() if isinstance(found, ProductUnits)}

    def screened_encoders(self) -> dict[str, Encoder]:
        """See `TrainableRanker.screened_encoders`."""
        encoders = self.projections.encoders.items()
        return {m: encoder for m, encoder in encoders if isinstance(encoder, Encoder) and encoder.kept is not None}

    def encoder_parameters(self, modality: str) -> Iterator[nn.Parameter]:
        """The parameters of one modality's encoder: what its own learning rate applies to."""
        return self.projections.encoders[modality].parameters()
