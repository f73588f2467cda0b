"""From raw features to tokens: standardise, project, condition on the query's context, replace what is dropped."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fusion_models.config import V1, ModelConfig
from fusion_models.data.batch import Batch
from fusion_models.data.schema import FeatureSchema, FeatureStatistics
from fusion_models.models.attention import dropout
from fusion_models.models.products import ProductUnits

COSINE_GAIN = 5.0
"""Brings a cosine's usual spread (about 0.2) to that of a standardised feature."""

FARTHEST = 1e4
"""Deviations beyond which a feature counts no more: 1e36 in one document of the test split would make scores NaN."""


class Standardise(nn.Module):
    """(x - mean) / std with the training split's figures as buffers, so that a model carries its own scales."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: np.ndarray, std: np.ndarray, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=dtype))
        self.register_buffer("std", torch.tensor(std, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """`[..., D]` to the same, float32."""
        return ((x - self.mean) / self.std).float()


class Encoder(nn.Module):
    """One modality's features `[B, L, D_m]` to `[N, T_m, D]` tokens, each of them layer-normalised."""

    kept: Tensor | None

    def __init__(
        self,
        inputs: int,
        tokens: int,
        width: int,
        *,
        matched: bool,
        screened: bool = False,
        products: ProductUnits | None = None,
    ) -> None:
        """`screened`: it may be told which features to read (`keep`)."""
        super().__init__()
        self.tokens = tokens
        self.register_buffer("kept", torch.ones(inputs) if screened else None)
        self.products = products
        self.of_products = None
        if products is not None:
            self.of_products = nn.Linear(len(products.signed), tokens * width, bias=False)
        self.match = nn.Linear(1, tokens * width, bias=False) if matched else None
        self.project = nn.Linear(inputs, tokens * width)
        nn.init.normal_(self.project.weight, std=inputs**-0.5)
        nn.init.zeros_(self.project.bias)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, match: Tensor | None, raw: Tensor) -> Tensor:
        """N = B * L documents; `match` `[B, L]`: cosine of the features with the query's, where they share a space;
        `raw` `[B, L, D_m]`: the features before they are standardised, which the products read."""
        x, weight = x.flatten(0, 1), self.project.weight
        if self.kept is not None:
            weight = weight * self.kept
        if self.products is not None and self.of_products is not None:
            x = torch.cat([x, self.products(raw)], dim=-1)
            weight = torch.cat([weight, self.of_products.weight], dim=-1)
        if self.match is not None and match is not None:  # one more input: a product of its own would cost a pass
            x = torch.cat([x, COSINE_GAIN * match.reshape(-1, 1)], dim=-1)
            weight = torch.cat([weight, self.match.weight], dim=-1)
        tokens = nn.functional.linear(x, weight, self.project.bias)
        return self.norm(tokens.reshape(tokens.shape[0], self.tokens, -1))  # type: ignore[no-any-return]

    def keep(self, columns: Tensor) -> None:
        """Read the features `columns` `[D_m]` bool alone, on the scale that all of them had; all where none is."""
        if self.kept is not None and columns.any():
            self.kept.copy_(columns * (len(columns) / columns.sum()) ** 0.5)


def deviation(std: np.ndarray, *, each: bool) -> np.ndarray:
    """What an input is divided by, `[D]`: each feature's own deviation, or one for a whole embedding."""
    if each:
        return std
    return np.full_like(std, np.sqrt(np.mean(np.square(std, dtype=np.float64))))  # 1e36 squared is no float32


class ContextEncoder(nn.Module):
    """Query and pair features (and V1's or a tuned V1's score, where that is an input) to query token and conditions.

    The query token `[N, D]` is a learned constant plus a linear map of the context. The conditions `[N, M, D]`
    multiply the modality tokens, since relevance is a match between query and item: token · (1 + condition). V1's
    score goes to the query token alone, so that no modality can pass for it. Without any context there is nothing to
    multiply by (None).
    """

    def __init__(self, config: ModelConfig, context: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(config.width))
        self.v1 = None
        if config.context != "none":
            raw_too = config.context == "tuned_v1" and V1 in config.context_reads
            self.v1 = nn.Linear(2 if raw_too else 1, config.width, bias=False)
        self.project = None
        if context > 0:
            self.project = nn.Linear(context, (1 + len(config.modalities)) * config.width, bias=False)
            nn.init.normal_(self.project.weight, std=context**-0.5)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, context: Tensor, v1: Tensor) -> tuple[Tensor, Tensor | None]:
        """`context` `[N, D_c]` and `v1` `[N, I]`, standardised: V1's score, a tuned V1's, or both."""
        query = self.token.expand(context.shape[0], -1)
        conditions = None
        if self.project is not None:
            projected = self.project(context).reshape(context.shape[0], -1, self.token.shape[-1])
            query, conditions = query + projected[:, 0], projected[:, 1:]
        if self.v1 is not None:
            query = query + self.v1(v1)
        return self.norm(query), conditions


class Projected(NamedTuple):
    """What the projections make of N documents."""

    modalities: Tensor
    """`[N, M, D]`: each modality before conditioning, averaged over its tokens."""
    conditioned: Tensor
    """`[N, M, D]`: the same after conditioning, before any null token."""
    tokens: Tensor
    """`[N, T, D]`: what the fusion reads."""
    query: Tensor
    """`[N, D]`."""
    conditions: Tensor | None
    """`[N, M, D]`: what multiplies each modality's tokens, less 1; None without any context."""
    standardised: dict[str, Tensor]
    """Each modality's features as the encoders read them, `[B, L, D_m]`."""


class Projections(nn.Module):
    """Every input of a ranker, projected. `null` `[T, D]` stands for a dropped modality: learned where the recipe
    drops modalities in training, else a constant zero."""

    null: Tensor

    def __init__(
        self, config: ModelConfig, schema: FeatureSchema, statistics: FeatureStatistics, *, learned_null: bool
    ) -> None:
        super().__init__()
        self.config = config
        self.owner = tuple(i for i, m in enumerate(config.modalities) for _ in range(config.tokens(m)))
        self.query_width, self.context_width = schema.query, schema.context
        self.matched = {m for m in config.modalities if schema.width(m) == schema.query}
        self.encoders = nn.ModuleDict(
            {
                m: Encoder(
                    schema.width(m),
                    config.tokens(m),
                    config.width,
                    matched=m in self.matched,
                    screened=config.columns == "confirmed",
                    products=ProductUnits(statistics.mean[m], statistics.std[m], config.products)
                    if config.products
                    else None,
                )
                for m in config.modalities
            }
        )
        self.context = ContextEncoder(config, schema.context)
        scales = [*config.modalities, *(["context"] if schema.context > 0 else [])] if config.standardise else []
        self.scales = nn.ModuleDict(
            {
                n: Standardise(
                    statistics.mean[n],
                    deviation(statistics.std[n], each=config.scale == "feature" or n in schema.quantities),
                )
                for n in scales
            }
        )
        self.v1_scale = Standardise(
            np.asarray(statistics.v1_mean), np.asarray(statistics.v1_std), torch.float64
        )  # a float32 mean of 1e9 would take the scores' differences with it
        self.dropout = dropout(config.token_dropout)
        if learned_null:
            self.null = nn.Parameter(torch.randn(len(self.owner), config.width))
        else:
            self.register_buffer("null", torch.zeros(len(self.owner), config.width))

    def forward(self, batch: Batch, keep: Tensor | None) -> Projected:
        """`keep` `[B, M]` bool: False where a query's modality gives way to its null token; None: all are kept."""
        context = self._scaled("context", batch.context[..., : self.context_width]).flatten(0, 1)
        query, conditions = self.context(context, self._v1(batch).flatten(0, 1))
        standardised = {m: self._scaled(m, batch.features[m]) for m in self.config.modalities}
        plain = [
            self.encoders[m](standardised[m], self._match(m, batch), batch.features[m]) for m in self.config.modalities
        ]
        conditioned = [_conditioned(x, conditions, index) for index, x in enumerate(plain)]
        tokens = self.dropout(torch.cat(conditioned, dim=1))
        if keep is not None:
            # Columns one by one: a list as an index would be a copy to the device, and a wait for it.
            per_token = torch.stack([keep[:, m] for m in self.owner], dim=1)
            kept = per_token.repeat_interleave(batch.labels.shape[1], dim=0)
            tokens = torch.where(kept.unsqueeze(-1), tokens, self.null.to(tokens.dtype))
        return Projected(_means(plain), _means(conditioned), tokens, query, conditions, standardised)

    def replaced(self, inputs: Projected, batch: Batch, modality: str) -> Tensor:
        """The tokens `[N, T, D]` of `batch`, which differs from the one that gave `inputs` in `modality` alone.

        For measuring: nothing is dropped, neither in `inputs` nor here.
        """
        index = self.config.modalities.index(modality)
        raw = batch.features[modality]
        new = self.encoders[modality](self._scaled(modality, raw), self._match(modality, batch), raw)
        tokens = list(inputs.tokens.split_with_sizes([self.config.tokens(m) for m in self.config.modalities], dim=1))
        tokens[index] = _conditioned(new, inputs.conditions, index)
        return torch.cat(tokens, dim=1)

    def _match(self, modality: str, batch: Batch) -> Tensor | None:
        """Cosine of raw features and the query's own, which are as wide: they are taken to share one space."""
        if modality not in self.matched:
            return None
        return torch.cosine_similarity(batch.features[modality], batch.context[..., : self.query_width], dim=-1)

    def _v1(self, batch: Batch) -> Tensor:
        """V1's score, a tuned V1's, which stands behind the context, or both where its trees read V1's: `[B, L, I]`."""
        raw = self.v1_scale(batch.v1_seen).unsqueeze(-1)
        if self.config.context != "tuned_v1":
            return raw  # type: ignore[no-any-return]
        if batch.context.shape[-1] == self.context_width:
            raise ValueError(
                "the batch does not hold the tuned V1's score that this ranker reads: gather it from "
                "`tuned_v1.seen_by(ranker, data)`, or pass lists that are not blanked through `ranker.complete` first"
            )
        tuned = batch.context[..., self.context_width :]
        return torch.cat([tuned, raw], dim=-1) if V1 in self.config.context_reads else tuned

    def _scaled(self, name: str, x: Tensor) -> Tensor:
        if name not in self.scales:
            return x
        return self.scales[name](x).clamp(-FARTHEST, FARTHEST)  # type: ignore[no-any-return]


def _conditioned(tokens: Tensor, conditions: Tensor | None, index: int) -> Tensor:
    """One modality's tokens `[N, T_m, D]` times what the query's context makes of them."""
    return tokens if conditions is None else tokens * (1 + conditions[:, index : index + 1])


def _means(tokens: list[Tensor]) -> Tensor:
    """Tokens of each modality `[N, T_m, D]` to their means `[N, M, D]`."""
    return torch.stack([x[:, 0] if x.shape[1] == 1 else x.mean(dim=1) for x in tokens], dim=1)
