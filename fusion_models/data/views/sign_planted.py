"""A dataset whose labels also hold a signal that its own columns code by sign: what a probe must find to count.

The features stay as they are. The signal is an item's `sign(x_i) * x_j`, for two columns i and j of one modality taken
around their medians: the code of `planted`'s `visual_coding=sign`, in the user's own columns. What a linear readout of
the modality says of it is taken out. Each query keeps its labels, in another order: that of a latent utility, which
orders the documents as the labels did, plus `strength` times the signal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from fusion_models.data.dataset import RankingDataset
from fusion_models.data.views.lists import take_lists

Floats = npt.NDArray[np.float64]

BALANCED = 0.25
"""Of a column's values at least this share lies on either side of its cut: else its sign says next to nothing."""
FITTED_ITEMS = 20_000
"""Items at the most that the linear readout is fitted on."""
RIDGE = 0.01
FAR = 3.0
"""Deviations at which the second column is cut, so that no item carries the whole signal."""


class SignPlantedDataset(RankingDataset):
    """The same queries, candidates and features; labels of every split hold the signal. Reads like any dataset."""

    def __init__(self, base: RankingDataset, modality: str, strength: float, seed: int) -> None:
        """See `sign_planted`."""
        super().__init__(base.folder, source=base.source, location=base.location, fingerprint=base.fingerprint)
        take_lists(self, base)
        signal = sign_signal(base, modality, seed)
        self.labels = regraded(base, strength * signal[np.asarray(base.judged_item)], seed)
        self._made_of = (base, modality, strength, seed)

    @property
    def identity(self) -> str:
        """See `RankingDataset.identity`: other labels, other trees and products."""
        base, modality, strength, seed = self._made_of
        return f"{base.identity} with a sign of {modality} worth {strength:g}, seed {seed}"

    def halved(self) -> RankingDataset:
        """See `RankingDataset.halved`; the labels stay planted."""
        base, modality, strength, seed = self._made_of
        return SignPlantedDataset(base.halved(), modality, strength, seed)

    def __reduce__(self) -> tuple[Any, ...]:
        return SignPlantedDataset, self._made_of


def sign_planted(data: RankingDataset, modality: str, strength: float, seed: int) -> RankingDataset:
    """`data` with a sign-coded signal of `modality` in the labels of all its splits; the same seed gives the same.

    `strength`: deviations of the signal for each deviation of the latent utility; with 0 the labels stay as they are.
    Raises ValueError as `sign_signal`.
    """
    return SignPlantedDataset(data, modality, strength, seed)


def sign_signal(data: RankingDataset, modality: str, seed: int) -> Floats:
    """`[items]` of mean 0 and unit variance over the items that training judges.

    A column is cut at its median, or between two of its values where many equal that: sparse columns are mostly 0.

    Raises ValueError where the modality has fewer than two columns whose sign says something.
    """
    features = data.item_features[modality]
    rows = data.rows("train")
    judged = np.unique(np.asarray(data.judged_item)[data.documents(rows)])
    random = np.random.default_rng([seed, 5])
    fitted = np.sort(random.permutation(judged)[:FITTED_ITEMS])
    known = np.asarray(features[fitted], dtype=np.float64)
    centre = _cuts(known)
    above, below = (known > centre).mean(0), (known < centre).mean(0)
    usable = np.flatnonzero((above >= BALANCED) & (below >= BALANCED) & (known.std(0) > 0))
    if len(usable) < 2:
        raise ValueError(
            f"{modality} has {len(usable)} columns with enough values on either side of a cut: no sign code fits in"
        )
    first, second = random.choice(usable, size=2, replace=False)
    scale = known[:, second].std()
    pair = np.asarray(features[:, [first, second]], dtype=np.float64) - centre[[first, second]]
    code = np.sign(pair[:, 0]) * np.clip(pair[:, 1] / scale, -FAR, FAR)
    mean, deviation = known.mean(0), known.std(0)
    deviation[deviation == 0] = 1.0
    z = (known - mean) / deviation
    gram = z.T @ z + RIDGE * len(z) * np.eye(z.shape[1])
    weights = np.linalg.solve(gram, z.T @ (code[fitted] - code[fitted].mean()))
    code -= (features @ (weights / deviation).astype(np.float32)).astype(np.float64)
    return np.asarray((code - code[fitted].mean()) / code[fitted].std())


def _cuts(known: Floats) -> Floats:
    """`[D]`: where each column of `known` `[N, D]` is cut; the median unless values lie on it."""
    out = np.median(known, axis=0)
    for column in np.flatnonzero((known == out).any(axis=0)):
        values = np.unique(known[:, column])
        if len(values) > 1:
            between = (values[1:] + values[:-1]) / 2
            below = np.searchsorted(np.sort(known[:, column]), between) / len(known)
            out[column] = between[np.argmin(np.abs(below - 0.5))]
    return out


def regraded(data: RankingDataset, contribution: Floats, seed: int) -> npt.NDArray[np.float64]:
    """`[judgements]`: each query's own labels, handed out by latent utility plus `contribution` `[judgements]`.

    The utility is the normal score of the document's place by label; the seed orders documents of one label.
    """
    query = np.repeat(np.arange(len(data.candidates)), data.candidates)
    labels = np.asarray(data.labels)
    order = np.lexsort((np.random.default_rng([seed, 7]).random(len(query)), labels, query))
    place = np.empty(len(query))
    place[order] = np.arange(len(query)) - data.offset[query[order]]
    utility = special.ndtri((place + 0.5) / data.candidates[query])
    ascending, best = np.lexsort((labels, query)), np.lexsort((utility + contribution, query))
    out = np.empty_like(labels)
    out[best] = labels[ascending]
    return np.asarray(out, dtype=np.float64)
