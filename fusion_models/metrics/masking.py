"""Blanking a modality, what that costs, and what each modality contributes to a value (Shapley)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from math import factorial
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.data.batch import Batch
from fusion_models.metrics.ranking import permutation_within

Blank = Literal["zero", "mean", "shuffle_within", "shuffle_across"]
BLANKS: tuple[Blank, ...] = get_args(Blank)


def subsets(players: Sequence[str]) -> tuple[frozenset[str], ...]:
    """All 2^M subsets, smallest first."""
    return tuple(frozenset(chosen) for size in range(len(players) + 1) for chosen in combinations(players, size))


def blank(
    batch: Batch,
    modality: str,
    kind: Blank,
    *,
    mean: Tensor | npt.NDArray[np.float32] | None = None,
    generator: torch.Generator | None = None,
) -> Batch:
    """The same batch with one modality's features destroyed; context, labels, V1 and all else are kept.

    Kinds:
        zero: raw features 0 (before any standardisation: after it this would be `mean`).
        mean: the training split's mean, given as `mean` `[D]`.
        shuffle_within: changed round among the real candidates of each query.
        shuffle_across: changed round among all real documents of the batch, the query's own included. The more
            queries the batch holds, the rarer those are; with one query this is `shuffle_within`.

    Padded entries stay zero under all of them. Tensors that do not change are shared, not copied.

    Raises:
        ValueError: unknown modality or kind, or the kind's `mean` or `generator` is missing.
    """
    if modality not in batch.features:
        raise ValueError(f"no modality {modality!r} in this batch; it has {sorted(batch.features)}")
    features, valid = batch.features[modality], batch.valid
    if kind == "zero":
        blanked = torch.zeros_like(features)
    elif kind == "mean":
        blanked = _filled(features, valid, mean)
    elif kind == "shuffle_within":
        source = permutation_within(valid, _given(generator, kind))
        blanked = features.gather(1, source.unsqueeze(-1).expand_as(features))
    elif kind == "shuffle_across":
        blanked = _shuffled_across(features, valid, _given(generator, kind))
    else:
        raise ValueError(f"unknown blank {kind!r}; choose one of {BLANKS}")
    return batch._replace(features={**batch.features, modality: blanked * valid.unsqueeze(-1)})


def keep_only(
    batch: Batch,
    kept: Collection[str],
    kind: Blank,
    *,
    means: Mapping[str, Tensor | npt.NDArray[np.float32]] | None = None,
    generator: torch.Generator | None = None,
) -> Batch:
    """The batch with every modality outside `kept` blanked (each drawn anew under the shuffles).

    Raises:
        ValueError: `kept` names a modality that the batch does not have, or as `blank`.
    """
    unknown = set(kept) - set(batch.features)
    if unknown:
        raise ValueError(f"no modality {sorted(unknown)} in this batch; it has {sorted(batch.features)}")
    for modality in batch.features:
        if modality not in kept:
            mean = None if means is None else means[modality]
            batch = blank(batch, modality, kind, mean=mean, generator=generator)
    return batch


def masking_drop(full: Tensor, masked: Tensor) -> float:
    """Share of the value that blanking costs: (mean full - mean masked) / mean full, a fraction; negative: it helps.

    Args:
        full, masked: `[Q]`, the same queries in the same order; queries that are NaN in either are left out.

    Returns:
        NaN where no query is left or the full value is 0.
    """
    if full.shape != masked.shape:
        raise ValueError(f"the same queries are needed on both sides, got {tuple(full.shape)}, {tuple(masked.shape)}")
    both = ~(full.isnan() | masked.isnan())
    whole = float(full[both].double().mean())
    return (whole - float(masked[both].double().mean())) / whole if whole else float("nan")


def shapley(values: Mapping[frozenset[str], float]) -> dict[str, float]:
    """Shapley value of each player from the value of every subset; they sum to v(all) - v(none).

    Args:
        values: one number for each of the 2^M subsets of the M players, who come out in the order of their singletons.

    Raises:
        ValueError: a subset is missing.

    References:
        Shapley 1953, "A value for n-person games".
    """
    everyone = max(values, key=len, default=frozenset[str]())
    players = [player for subset in values if len(subset) == 1 for player in subset]
    players += sorted(everyone - set(players))
    missing = [sorted(s) for s in subsets(players) if s not in values]
    if missing or len(values) != 2 ** len(players):
        raise ValueError(f"the value of every subset of {players} is needed; missing: {missing}, got {len(values)}")
    return {player: _shapley_of(player, players, values) for player in players}


def _shapley_of(player: str, players: Sequence[str], values: Mapping[frozenset[str], float]) -> float:
    total = factorial(len(players))
    return sum(
        factorial(len(others))
        * factorial(len(players) - len(others) - 1)
        / total
        * (values[others | {player}] - values[others])
        for others in subsets([p for p in players if p != player])
    )


def _given(generator: torch.Generator | None, kind: str) -> torch.Generator:
    if generator is None:
        raise ValueError(f"blank {kind!r} draws at random: hand in a torch.Generator")
    return generator


def _filled(features: Tensor, valid: Tensor, mean: Tensor | npt.NDArray[np.float32] | None) -> Tensor:
    if mean is None:
        raise ValueError("blank 'mean' needs the training split's mean of the modality")
    row = torch.as_tensor(mean, dtype=features.dtype, device=features.device)
    if row.shape != features.shape[-1:]:
        raise ValueError(f"the mean has shape {tuple(row.shape)}, the features are {features.shape[-1]} wide")
    return row.expand_as(features)


def _shuffled_across(features: Tensor, valid: Tensor, generator: torch.Generator) -> Tensor:
    documents = features[valid]
    order = torch.randperm(len(documents), generator=generator, device=generator.device).to(features.device)
    shuffled = torch.zeros_like(features)
    shuffled[valid] = documents[order]
    return shuffled
