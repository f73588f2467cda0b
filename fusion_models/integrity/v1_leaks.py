"""Whether V1's score, or its order, can be read from the features where it has no right to stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fusion_models.integrity.check import Check, CheckStatus
from fusion_models.integrity.documents import MEETING, QUERY
from fusion_models.integrity.readouts import V1, Columns, Readouts, Target, Values
from fusion_models.metrics import average_ranks, centred_correlation

OWN, ELSEWHERE = (0.9995, 0.99), (0.98, 0.95)
"""Correlation of a few columns' readout with V1's score, centred within queries, by value or by rank, from which it is
V1 itself, and from which it is a warning: in a modality that V1 reads, where much of it may stand by right, and
elsewhere. Of planted data, whose V1 reads the text, four text columns give 0.98 of it."""
WHOLE = (0.995, 0.98)
"""The same for all columns that V1 does not read: what they share with those that it reads, they tell by right."""
TOGETHER = (0.995, 0.98)
"""The same for a few columns of several blocks, where they leave at most a tenth of what V1's own modalities leave."""
LEFT = 0.1


@dataclass(frozen=True)
class _Found:
    value: float
    columns: str
    bars: tuple[float, float]

    @property
    def status(self) -> CheckStatus:
        leak, doubtful = self.bars
        return "fail" if self.value >= leak else "warning" if self.value >= doubtful else "pass"


def v1_check(name: str, readouts: Readouts, v1_modalities: Sequence[str]) -> Check:
    """The columns that come nearest to V1's score, by the bars of where they stand.

    The few best of each block; all columns that V1 does not read; the few best of all, where V1's own modalities are
    far behind them. What all of V1's own modalities tell of it is no leak.
    """
    probe = _Probe(readouts)
    blocks = [b for b in dict.fromkeys(b for bs in readouts.block for b in bs) if b not in (V1, QUERY, MEETING)]
    own = [block for block in blocks if block in v1_modalities]
    found = []
    for block in blocks:
        value, columns = probe.few(probe.readouts.of(block))
        found.append(_Found(value, probe.named(columns), OWN if block in own else ELSEWHERE))
    outside = probe.readouts.columns(V1, QUERY, MEETING, *own)
    if outside:
        found.append(_Found(probe.whole(outside), "all that V1 does not read", WHOLE))
    value, columns = probe.few(probe.readouts.columns(V1, QUERY, MEETING))
    if value >= TOGETHER[1] and len(probe.blocks(columns)) > 1:
        mine = probe.readouts.columns(V1, QUERY, MEETING, *(b for b in blocks if b not in own))
        reached = probe.whole(mine) if mine else 0.0
        if 1 - value**2 <= LEFT * (1 - reached**2):
            found.append(_Found(value, f"{probe.named(columns)} together", TOGETHER))
    worst = max(found, key=lambda f: (f.value - 1) / (1 - f.bars[0]))
    statuses = {f.status for f in found}
    lines = [f"{f.columns} give {f.value:.4f}" for f in found if f.status != "pass"]
    return Check(
        name=name,
        value=worst.value,
        ci_low=worst.value,
        ci_high=worst.value,
        threshold=worst.bars[0],
        direction="at most",
        status="fail" if "fail" in statuses else "warning" if "warning" in statuses else "pass",
        detail="correlation with V1's score within queries, cross-fitted: "
        + ("; ".join(lines) or f"at most {worst.value:.3f}, from {worst.columns}"),
    )


class _Probe:
    """Correlations with V1's score, or with its order, whichever is closer."""

    def __init__(self, readouts: Readouts) -> None:
        documents = readouts.documents
        self._v1, self._valid = documents.v1, documents.valid
        self._ranks = average_ranks(documents.v1, documents.valid).double()
        self.readouts, by_value = readouts.with_products(readouts.target(documents.v1), without=(V1,))
        self._targets: tuple[Target, ...] = (by_value, self.readouts.target(-self._ranks))

    def named(self, columns: Columns) -> str:
        """The columns by name."""
        return ", ".join(self.readouts.names[c] for c in columns)

    def blocks(self, columns: Columns) -> set[str]:
        """Whose they are."""
        return {name for c in columns for name in self.readouts.block[c]}

    def few(self, columns: Columns) -> tuple[float, Columns]:
        """Of the few columns that tell most, and those columns."""
        found: list[tuple[float, Columns]] = []
        for target in self._targets:
            told = self.readouts.matched(columns, target)
            found.append((self._best([self.readouts.trees(told, target)[0]]), told))
            sets = [told[:count] for count in range(1, len(told) + 1)] + self.readouts.weightiest(columns, target)
            found += [(self._best(self.readouts.linear(few, target)), few) for few in sets]
        return max(found)

    def whole(self, columns: Columns) -> float:
        """Of all columns: linear, and trees of V1's value."""
        found = [values for target in self._targets for values in self.readouts.linear(columns, target)]
        return self._best([*found, self.readouts.trees(columns, self._targets[0])[0]])

    def _best(self, readouts: Sequence[Values]) -> float:
        return max(self._correlation(self.readouts.documents.padded(values)) for values in readouts)

    def _correlation(self, scores: torch.Tensor) -> float:
        by_value = centred_correlation(scores, self._v1, self._valid)
        by_rank = centred_correlation(average_ranks(scores, self._valid).double(), self._ranks, self._valid)
        return max(by_value, by_rank)
