"""Whether a probe would find something: it must find a sign-coded signal planted into the user's own columns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.data import RankingDataset
from fusion_models.data.views.sign_planted import regraded, sign_planted, sign_signal
from fusion_models.evaluation import Scored
from fusion_models.lambdamart import TreeInputs, Trees, train_lambdamart, tree_scores
from fusion_models.metrics import Interval, standardise
from fusion_models.modalities import SUSPECT
from fusion_models.probes.columns import Rows
from fusion_models.probes.scores import ProbePair, pooled_gain

WORTH = 0.02
"""nDCG that an oracle gains from the planted signal."""
ENOUGH = 0.5
"""Share of the worth that a probe must find, in the mean."""
WEIGHTS = np.geomspace(0.05, 3.0, 13).tolist()
"""Of the signal beside the reference's scores (standardised within queries), from which the oracle takes the best."""
STRONGEST, HALVINGS = 4.0, 12

LOOKS = (3, 5, 8)
"""Numbers of plants after which the power is read: what is plain after three asks for no more. Each look has its share
of the 2.5 % that a probe which finds nothing may have."""
PLAINLY = 0.75
"""Share of the worth from which an early look calls a probe one that counts: a mean just above half may be luck, and
three looks would be three chances of it."""


class PairTraining(Protocol):
    """Trains a probe on both sides, once a seed, such as `tree_pair`."""

    def __call__(self, data: RankingDataset, split: str, *, seeds: Sequence[int]) -> ProbePair: ...


@dataclass(frozen=True, kw_only=True)
class Plant:
    """A planted signal: `sign_planted(data, suspect, strength, seed)` makes the dataset."""

    suspect: str
    seed: int
    strength: float
    worth: float
    """nDCG that an oracle gains from it on the training queries, beside a ranker without the suspect."""
    worth_there: float | None = None
    """The same on the lists that probes are read on, where those were named: shorter lists hold less of it."""

    def into(self, data: RankingDataset) -> RankingDataset:
        """The dataset that holds it."""
        return sign_planted(data, self.suspect, self.strength, self.seed)


@dataclass(frozen=True, kw_only=True)
class Power:
    """What one probe found of planted signals."""

    probe: str
    plants: tuple[Plant, ...]
    """One after the other, each with one training on each side; empty where none could be planted."""
    gain: Interval
    """With the suspect minus without it, on the planted labels, over plants and queries."""
    seconds: float = math.nan
    """Of one training on each side, in the mean."""
    detail: str = ""

    @property
    def worth(self) -> float:
        """What an oracle gains from a plant on the lists that were read, in the mean."""
        gains = [plant.worth if plant.worth_there is None else plant.worth_there for plant in self.plants]
        return sum(gains) / len(gains) if gains else math.nan

    @property
    def counts(self) -> bool:
        """Whether the probe finds what is there: surely above 0, and at least half of it in the mean.

        Half, because a probe that finds less would bound a real signal of that size below the threshold of "nothing".
        """
        return bool(self.plants) and self.gain.low > 0 and self.gain.mean >= ENOUGH * self.worth

    @property
    def plain(self) -> bool:
        """Whether more plants would change little: it counts by a margin, or surely finds less than half."""
        found = self.counts and self.gain.mean >= PLAINLY * self.worth
        return found or self.gain.high < ENOUGH * self.worth


def plant_signal(
    data: RankingDataset,
    *,
    suspect: str = SUSPECT,
    worth: float = WORTH,
    seed: int = 0,
    rows: Rows | None = None,
    split: str | None = None,
) -> Plant:
    """A sign-coded signal of the suspect, as strong as gives an oracle `worth` on the training queries.

    The oracle knows the signal and adds it, at the best of `WEIGHTS`, to the scores of trees without the suspect that
    were trained on the other half of the queries. What it is worth on the lists of `split` is told beside, at the same
    weight. How strong it is hangs on no label but training's. Raises ValueError where the suspect's columns hold no
    sign code, or where no strength is worth so much.
    """
    train = data.rows("train") if rows is None else rows
    signal = sign_signal(data, suspect, seed)
    halves = _halves(data, train, tuple(m for m in data.schema.modalities if m != suspect), seed)
    reference = joined([tree_scores(trees, data, mine) for trees, mine in halves])
    judged = signal[np.asarray(data.judged_item)]
    column = _lists(data, reference, judged)

    def planted(scored: Scored, strength: float) -> Scored:
        return replace(scored, labels=_lists(data, scored, regraded(data, strength * judged, seed)))

    def gain(strength: float) -> float:
        return max(_gains(planted(reference, strength), column, WEIGHTS))

    low, high = 0.0, STRONGEST
    if gain(high) < worth:
        raise ValueError(
            f"no sign-coded signal of {suspect} is worth {worth} here: the lists are too short, or too few"
        )
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if gain(middle) >= worth else (middle, high)
    there = None
    if split is not None:
        weight = WEIGHTS[np.argmax(_gains(planted(reference, high), column, WEIGHTS))]
        scored = _together([tree_scores(trees, data, split) for trees, _ in halves])
        (there,) = _gains(planted(scored, high), _lists(data, scored, judged), [weight])
    return Plant(suspect=suspect, seed=seed, strength=high, worth=max(gain(high), 0.0), worth_there=there)


def probe_power(
    data: RankingDataset,
    split: str,
    probe: PairTraining,
    *,
    plant: Callable[..., Plant] | None = None,
    looks: Sequence[int] = LOOKS,
    clusters: npt.ArrayLike | None = None,
) -> Power:
    """What `probe` finds on `split` of signals that are planted into `data`.

    `plant(seed=...)`: makes one; by default `plant_signal`, of the default suspect and worth.

    It trains on planted labels and is read on such. Every plant is a draw of its own: of two columns, and of the order
    of documents of one grade. So a query's luck with one is not its luck with the next, and eight plants with one
    training each tell more than one plant with eight. It ends at the first of `looks` where the answer is plain. A
    plant that cannot be made or trained on is left out. Raises what the first one raised where none is left.
    """
    plants: list[Plant] = []
    pairs: list[ProbePair] = []
    failed: list[Exception] = []
    seconds, level = 0.0, 1.0 - 0.05 / len(looks)
    found: Power | None = None
    made = plant or partial(plant_signal, data)
    for seed in range(looks[-1]):
        try:
            drawn = made(seed=seed)
            planted, began = drawn.into(data), time.monotonic()
            pairs.append(probe(planted, split, seeds=(seed,)))
        except Exception as error:  # such as columns with one side, or lists too long for LightGBM
            failed.append(error)
        else:
            plants.append(drawn)
            seconds += time.monotonic() - began
        if plants and seed + 1 in looks:
            found = Power(
                probe=pairs[0].name,
                plants=tuple(plants),
                gain=pooled_gain(pairs, clusters, level),
                seconds=seconds / len(plants),
                detail="; ".join([pair.with_it.detail for pair in pairs] + [f"a plant failed: {e}" for e in failed]),
            )
            if found.plain:
                break
    if found is None:
        raise failed[0]
    return found


def no_power(probe: str, reason: str) -> Power:
    """A probe whose power could not be measured; it does not count."""
    return Power(probe=probe, plants=(), gain=Interval(math.nan, -math.inf, math.inf), detail=reason)


def _halves(data: RankingDataset, rows: Rows, others: tuple[str, ...], seed: int) -> list[tuple[Trees, Rows]]:
    """Trees of either half of the training queries, and the other half, which they never saw."""
    one, other = np.array_split(np.random.default_rng([seed, 11]).permutation(rows), 2)
    inputs = TreeInputs(modalities=others)
    return [(train_lambdamart(data, seen, inputs, seed=seed), unseen) for unseen, seen in ((one, other), (other, one))]


def _together(parts: Sequence[Scored]) -> Scored:
    """The same lists as several rankers score them, in the mean of their standardised scores."""
    mean = torch.stack([standardise(part.scores, part.valid) for part in parts]).mean(dim=0)
    return replace(parts[0], scores=mean)


def joined(parts: Sequence[Scored]) -> Scored:
    """Scores of several sets of queries as one, rows ascending, padded to the longest list."""
    longest = max(part.scores.shape[1] for part in parts)
    rows = np.concatenate([part.rows for part in parts])
    order = torch.from_numpy(np.argsort(rows))

    def column(name: str) -> Tensor:
        values = [getattr(part, name) for part in parts]
        return torch.cat([torch.nn.functional.pad(v, (0, longest - v.shape[1])) for v in values])[order]

    weighted = all(part.weight is not None for part in parts)
    return Scored(
        rows=rows[order.numpy()],
        scores=column("scores"),
        labels=column("labels"),
        v1=column("v1"),
        valid=column("valid"),
        weight=torch.cat([part.weight for part in parts if part.weight is not None])[order] if weighted else None,
        metric=parts[0].metric,
    )


def _lists(data: RankingDataset, scored: Scored, values: npt.NDArray[np.floating[Any]]) -> Tensor:
    """`[Q, L]` of `values` `[judgements]`; 0 where padded."""
    out = torch.zeros(scored.scores.shape, dtype=torch.float64)
    for place, row in enumerate(scored.rows):
        found = values[data.offset[row] : data.offset[row + 1]]
        out[place, : len(found)] = torch.from_numpy(found.astype(np.float64))
    return out


def _gains(scored: Scored, signal: Tensor, weights: Sequence[float]) -> list[float]:
    """nDCG of the scores with so much of the signal `[Q, L]`, for each of the weights, less theirs alone."""
    base = standardise(scored.scores, scored.valid)

    def reached(scores: Tensor) -> float:
        return replace(scored, scores=scores).mean_ndcg()

    alone = reached(base)
    return [reached(base + float(weight) * signal) - alone for weight in weights]
