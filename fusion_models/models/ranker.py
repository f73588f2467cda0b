"""The ranker: projections, a fusion variant, the score head, and the auxiliary heads that its losses ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fusion_models.config import MODALITIES, Recipe
from fusion_models.data.batch import Batch
from fusion_models.data.schema import FeatureSchema, FeatureStatistics
from fusion_models.models.applicability import require_applicable
from fusion_models.models.fusion import Fused, ShareKind
from fusion_models.models.heads import ContrastiveHeads, Discriminator, ThumbnailDecoder, UnimodalHeads, mlp
from fusion_models.models.output import RankerOutput
from fusion_models.models.projections import Projected, Projections, Standardise
from fusion_models.models.trees import TreeEnsemble
from fusion_models.models.variants import VARIANTS

INITIAL_SCORE_STD = 0.1


def build_ranker(recipe: Recipe, schema: FeatureSchema, statistics: FeatureStatistics) -> FusionRanker:
    """A fresh ranker; its weights follow from torch's global generator, which the caller seeds.

    Raises ValueError, naming the keys, if the recipe asks for a term that its model cannot have.
    """
    return FusionRanker(recipe, schema, statistics)


class FusionRanker(nn.Module):
    """Scores each candidate of a list from its own features and the query's: candidates do not see each other,
    so permuting them permutes the scores and padding changes nothing."""

    def __init__(self, recipe: Recipe, schema: FeatureSchema, statistics: FeatureStatistics) -> None:
        require_applicable(recipe)
        super().__init__()
        config = recipe.model
        self.modalities: tuple[str, ...] = config.modalities
        learned_null = recipe.train.modality_dropout > 0.0
        tuned = config.context == "tuned_v1"
        self.trees = TreeEnsemble(config.context_reads, schema.context) if tuned else None
        """Of a tuned V1 in the context: fresh ones until they are fitted (`tuned_v1.equip`) or loaded."""
        self.projections = Projections(config, schema, statistics, learned_null=learned_null)
        self.fusion = VARIANTS[config.variant](config, self.projections.owner)
        self.fusion.trains_shares = recipe.loss.attention_entropy > 0.0
        self.score_head = nn.Linear(config.width, 1, bias=False)
        nn.init.normal_(self.score_head.weight, std=INITIAL_SCORE_STD * config.width**-0.5)
        self.share_kind: ShareKind = self.fusion.share_kind
        self._means = statistics.mean
        self.input_widths: dict[str, int] = {**{m: schema.width(m) for m in MODALITIES}, "context": schema.context}
        """Of the raw features and the context, as a batch brings them."""
        self._build_heads(recipe, schema, statistics)

    def _build_heads(self, recipe: Recipe, schema: FeatureSchema, statistics: FeatureStatistics) -> None:
        loss, width, count = recipe.loss, recipe.model.width, len(self.modalities)
        self.unimodal = UnimodalHeads(count, width) if loss.unimodal > 0.0 else None
        self.contrastive = ContrastiveHeads(width) if loss.contrastive > 0.0 else None
        self.reconstruction = self.target_scale = self.thumbnail = None
        if loss.reconstruction > 0.0:
            self.reconstruction = mlp(width, 2 * width, schema.visual)
            self.target_scale = Standardise(statistics.mean["visual"], statistics.std["visual"])
            if schema.thumbnail is not None:
                self.thumbnail = ThumbnailDecoder(width, schema.thumbnail)
        reversal = loss.adversarial_form == "reversal"
        self.discriminator = self.fused_discriminator = None
        if loss.adversarial > 0.0 and reversal:
            self.discriminator = Discriminator(width // 2, count)
        elif loss.adversarial > 0.0:
            self.fused_discriminator = Discriminator(width, count)

    def forward(
        self, batch: Batch, keep: Tensor | None = None, reversal: float = 0.0, decode: Tensor | None = None
    ) -> RankerOutput:
        """Scores and evidence of B lists of L candidates.

        `keep` `[B, M]` bool: False where a query's modality gives way to its null token. `reversal`: strength of the
        discriminator's gradient reversal. `decode` `[n]` int64: which of the B * L documents to decode a thumbnail of
        (see `fusion_models.losses.sample_documents`). Auxiliary heads serve the losses: without gradients they rest.
        """
        lists = batch.labels.shape
        inputs: Projected = self.projections(batch, keep)
        fused: Fused = self.fusion(inputs.tokens, inputs.query)
        return RankerOutput(
            scores=_lists(self._score(fused.vector), lists),
            fused=_lists(fused.vector, lists),
            projected=_lists(inputs.modalities, lists),
            shares=None if fused.shares is None else _lists(fused.shares, lists),
            value_shares=None if fused.value_shares is None else _lists(fused.value_shares, lists),
            auxiliary=self._auxiliary(batch, inputs, fused.vector, reversal, decode) if torch.is_grad_enabled() else {},
        )

    def _auxiliary(
        self, batch: Batch, inputs: Projected, fused: Tensor, reversal: float, decode: Tensor | None
    ) -> dict[str, Tensor]:
        lists = batch.labels.shape
        out: dict[str, Tensor] = {}
        if self.unimodal is not None:
            out["unimodal"] = self.unimodal(inputs.conditioned)
        if self.reconstruction is not None and self.target_scale is not None:
            out["reconstruction"] = self.reconstruction(fused)
            out["reconstruction_target"] = self.target_scale(batch.features["visual"]).flatten(0, 1)
        if self.discriminator is not None:
            half = inputs.modalities.shape[-1] // 2
            out["shared"], out["private"] = inputs.modalities[..., :half], inputs.modalities[..., half:]
            out["discriminator"] = self.discriminator(out["shared"], reversal)
        if self.fused_discriminator is not None:
            out["fused_discriminator"] = self.fused_discriminator(fused, -1.0)
        visual_text = {}
        if self.contrastive is not None:
            visual, text = (inputs.modalities[:, self.modalities.index(m)] for m in ("visual", "text"))
            visual, text, scale = self.contrastive(visual, text)
            out |= {"contrastive_visual": visual, "contrastive_text": text}
            visual_text["contrastive_scale"] = scale
        out = {name: _lists(value, lists) for name, value in out.items()} | visual_text
        if self.thumbnail is not None and decode is not None:
            out["thumbnail"] = self.thumbnail(fused[decode])
        return out

    def _score(self, fused: Tensor) -> Tensor:
        return self.score_head(fused).squeeze(-1).float()  # type: ignore[no-any-return]

    @property
    def members(self) -> tuple[FusionRanker, ...]:
        """The trained rankers that this one is made of: itself (see `Ensemble`)."""
        return (self,)

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

    def decode_thumbnails(self, fused: Tensor) -> Tensor:
        """Pictures `[n, 3, S, S]` in [0, 1] of fused vectors `[n, D]`.

        Raises ValueError if the ranker has no decoder.
        """
        if self.thumbnail is None:
            raise ValueError("no thumbnail decoder: it needs loss.reconstruction > 0 and a dataset with images")
        return self.thumbnail(fused)  # type: ignore[no-any-return]

    def feature_mean(self, modality: str) -> Tensor:
        """The training split's mean of a modality's raw features, `[D_m]`, on the model's device."""
        return torch.as_tensor(self._means[modality], dtype=torch.float32, device=self.score_head.weight.device)

    def encoder_parameters(self, modality: str) -> Iterator[nn.Parameter]:
        """The parameters of one modality's encoder: what its own learning rate applies to."""
        return self.projections.encoders[modality].parameters()


def _lists(x: Tensor, shape: torch.Size) -> Tensor:
    """`[N, ...]` to `[B, L, ...]`."""
    return x.reshape(*shape, *x.shape[1:])
