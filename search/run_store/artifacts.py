"""What a finished training leaves in the run folder: weights, recipe and its evaluation, query by query."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from fusion_models.config import Recipe
from fusion_models.data import RankingDataset
from fusion_models.data.groups import query_groups
from fusion_models.distribution import ALONE, Distribution
from fusion_models.evaluation import Evaluation, evaluate
from fusion_models.latency import scoring_latency
from fusion_models.metrics import BLANKS, paired_bootstrap, sign_flip_p
from fusion_models.models import FusionRanker, build_ranker
from fusion_models.training import TrainingState
from search.run_store.job import Job

WEIGHTS = "weights.safetensors"
RECIPE = "recipe.json"
QUERIES = "validation.npz"


def measure(state: TrainingState, data: RankingDataset, job: Job, *, distribution: Distribution = ALONE) -> Evaluation:
    """The best epoch's weights on the validation split in full; every process of `distribution` gets the whole."""
    state.model.load_state_dict(state.best_weights)
    return evaluate(
        state.model,
        data,
        "validation",
        kinds=BLANKS if job.detail == "full" else ("zero",),
        ranks=True,
        pictures=True,
        device=state.device,
        distribution=distribution,
    )


def write_finished(
    evaluation: Evaluation, state: TrainingState, data: RankingDataset, job: Job, folder: Path
) -> dict[str, float]:
    """Write a measured ranker, its recipe and its values per query; returns the numbers, intervals included."""
    numbers = evaluation.numbers() | {"best_epoch": float(state.best_epoch)}
    numbers["parameters"] = float(sum(p.numel() for p in state.model.parameters()))
    numbers["queries"] = float(np.isfinite(evaluation.ndcg).sum())
    gain = evaluation.ndcg - evaluation.v1_ndcg
    known, generator = np.isfinite(gain), np.random.default_rng(job.seed)
    groups = query_groups(data, "validation")
    gain, groups = gain[known], groups[known] if groups is not None else None
    interval = paired_bootstrap(gain, generator=generator, clusters=groups)
    numbers |= {"ndcg_gain_ci_low": interval.low, "ndcg_gain_ci_high": interval.high}
    numbers["ndcg_gain_p"] = sign_flip_p(gain, generator=generator, clusters=groups)
    if job.latency:
        numbers["latency_p95_ms"] = scoring_latency(state.model, data, device=state.device).p95
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v.detach().clone().contiguous().cpu() for k, v in state.model.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    (folder / RECIPE).write_text(json.dumps({"recipe": job.recipe, "seed": job.seed, "numbers": numbers}, indent=1))
    write_queries(evaluation, folder / QUERIES)
    return numbers


def write_queries(evaluation: Evaluation, path: Path) -> None:
    """Keep the values per query, from which intervals are computed later."""
    names = ("rows", "documents", "ndcg", "v1_ndcg", "shares", "moments")
    columns: dict[str, Any] = {name: getattr(evaluation, name) for name in names}
    if evaluation.ssim is not None:
        columns["ssim"] = evaluation.ssim
    columns |= {f"masked.{modality}.{kind}": values for (modality, kind), values in evaluation.masked.items()}
    np.savez_compressed(path, allow_pickle=False, **columns)


def read_queries(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays that `write_queries` kept, by name."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def load_ranker(folder: Path, data: RankingDataset, device: torch.device | str = "cpu") -> FusionRanker:
    """The ranker of a finished trial, ready to score `data`; nothing in the files is executed.

    Raises ValueError where the weights do not fit: they are of another dataset, or of another version of this program.
    """
    recipe = Recipe.from_flat(json.loads((folder / RECIPE).read_text())["recipe"])
    model = build_ranker(recipe, data.schema, data.statistics)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except RuntimeError as error:
        what = " ".join(str(error).split()[:40])
        raise ValueError(
            f"{folder / WEIGHTS} does not fit {data.source} and this version of fusion-search: {what} ...; open it "
            "with the dataset and the commit that trained it (run.json names both), or train it again"
        ) from error
    return model.to(device).eval()
