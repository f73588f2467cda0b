"""Scores by the context alone, with no modality: the value of the empty set among the Shapley values."""

from __future__ import annotations

import torch

from fusion_models.config import Recipe
from fusion_models.data import RankingDataset
from fusion_models.evaluation import Scored, score_with
from fusion_models.modalities import V1_READS
from fusion_models.tuned_v1 import tuned_v1


def context_alone(data: RankingDataset, recipe: Recipe, split: str, v1_reads: tuple[str, ...] = V1_READS) -> Scored:
    """Every list of `split` as the context scores it that is left where all modalities of `recipe` are gone.

    As in every refit, V1's score goes with the modalities that it reads (`Recipe.restricted`). What may be left: V1's
    score, a tuned V1's, the judgements' own features (by trees on them); else nothing, and all documents score 0.
    """
    left = recipe.updated(recipe.model.context_without(recipe.model.modalities, v1_reads)).model
    if left.context == "v1":
        return score_with(lambda batch: batch.v1, data, split)
    if left.context == "none" and data.schema.pair == 0:
        return score_with(lambda batch: torch.zeros_like(batch.v1), data, split)
    found = tuned_v1(data, left.context_reads if left.context == "tuned_v1" else ())
    return score_with(lambda batch: batch.context[..., -1], data.with_tuned_v1(found.key, found.scores), split)
