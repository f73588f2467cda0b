"""What a set of columns tells of the labels, beside V1's score: their readouts' nDCG, and what it closes of a gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from fusion_models.integrity.documents import Documents
from fusion_models.integrity.readouts import V1, Columns, Readouts, Target
from fusion_models.metrics import Interval, ndcg, paired_bootstrap

QUERIES, FEWEST = 600, 20
"""Training queries that are read at the most; with a relevant item, below which nothing is measured."""
LEAST_MISSED = 0.02
"""Of 1 - nDCG, by which a gap is divided: where the others miss less, what closes it is luck."""

Values = npt.NDArray[np.float64]


class Scored:
    """nDCG of scores of some documents, on the queries with a relevant item."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._mine = ((documents.labels > 0) & documents.valid).any(1)
        self.telling = int(self._mine.sum())
        """Queries with a relevant item."""
        self.v1 = self._of(documents.v1)
        """`[telling]`."""
        self.chance = self._of(torch.zeros_like(documents.v1))
        """`[telling]`."""
        self.least = max(self.v1, self.chance, key=lambda values: float(values.mean()) if len(values) else 0.0)
        """`[telling]`: V1's, or where it is worse than chance, chance's."""

    def ndcg(self, scores: npt.NDArray[np.float64] | torch.Tensor) -> Values:
        """`[telling]` of scores `[N]`."""
        return self._of(self._documents.padded(scores))

    def _of(self, scores: torch.Tensor) -> Values:
        mine = self._mine
        found = ndcg(scores[mine].double(), self._documents.labels[mine], self._documents.valid[mine])
        return np.asarray(found.numpy(), dtype=np.float64)


@dataclass(frozen=True)
class Reading:
    """What some columns reach."""

    columns: tuple[int, ...]
    ndcg: Values
    """`[telling]`."""

    def closes(self, reached: Values, generator: np.random.Generator) -> Interval:
        """Share that it closes of what `reached` `[telling]` misses of 1."""
        missed = max(1.0 - float(reached.mean()), LEAST_MISSED)
        return paired_bootstrap((self.ndcg - reached) / missed, generator=generator)

    def share(self, reached: Values) -> float:
        """The mean of `closes`."""
        return float((self.ndcg - reached).mean()) / max(1.0 - float(reached.mean()), LEAST_MISSED)


class Reader:
    """Readings of the label: of all columns of a set, and of its few telling ones."""

    def __init__(self, readouts: Readouts, target: Target, scored: Scored) -> None:
        self.readouts, self.scored = readouts, scored
        self._target = target
        self._v1 = readouts.names.index(V1)
        self._gain = np.zeros(len(readouts.names))

    def all(self, columns: Columns, *, trees: bool = True) -> Reading:
        """Of all columns of a set, linear or by trees."""
        return self._best(columns, trees=trees)

    def without(self, columns: Columns) -> Reading:
        """Of all columns of a set with V1, or V1 or chance, whichever is best: what a leak is held against."""
        found = self._best([*columns, self._v1], trees=True)
        best = max(found.ndcg, self.scored.least, key=lambda values: float(values.mean()))
        return Reading(found.columns, best)

    def few(self, columns: Columns) -> Reading:
        """Of the few columns of a set that tell most: by matching pursuit, by their weight, by trees that saw them."""
        sets = [self.readouts.matched(columns, self._target)]
        gains = self._gain[columns]
        if gains.any():
            sets.append([columns[c] for c in np.argsort(-gains)[: len(sets[0])]])
        loud = self.readouts.weightiest(columns, self._target)
        found = [*(self._best(s, trees=False) for s in loud), *(self._best(s, trees=True) for s in sets)]
        return max(found, key=lambda reading: float(reading.ndcg.mean()))

    def named(self, columns: Sequence[int]) -> str:
        """The columns by name."""
        return ", ".join(self.readouts.names[c] for c in columns)

    def _best(self, columns: Columns, *, trees: bool) -> Reading:
        mine = sorted(set(columns))
        found = self.readouts.linear(mine, self._target)
        if trees:
            values, gain = self.readouts.trees(mine, self._target)
            found.append(values)
            self._gain[mine] = np.maximum(self._gain[mine], gain)
        return Reading(tuple(columns), max((self.scored.ndcg(f) for f in found), key=lambda v: float(v.mean())))
