"""Loss parts of an epoch's steps, kept where they were computed: a look at every one would be a wait for the device."""

from __future__ import annotations

import torch
from torch import Tensor


class EpochLog:
    """Sums of the parts, and the first step whose total was no number."""

    def __init__(self) -> None:
        self.steps = 0
        self._names: tuple[str, ...] = ()
        self._sums = self._first = self._broken = torch.empty(0)

    def add(self, parts: dict[str, Tensor]) -> None:
        """Note a step's parts, `total` among them: the same ones at every step. Waits for nothing."""
        values = torch.stack([part.detach() for part in parts.values()])
        if not self.steps:
            self._names = tuple(parts)
            self._sums, self._broken = torch.zeros_like(values), values
            self._first = torch.full((), -1, device=values.device)
        new = ~torch.isfinite(values[self._names.index("total")]) & (self._first < 0)
        self._first = torch.where(new, self.steps, self._first)
        self._broken = torch.where(new, values, self._broken)
        self._sums = self._sums + values
        self.steps += 1

    def broken(self) -> tuple[int, list[str]] | None:
        """The first step, from 0, whose total was no number, and the parts that were none; None: all were. Waits."""
        if not self.steps or int(self._first) < 0:
            return None
        finite = torch.isfinite(self._broken).tolist()
        return int(self._first), [n for n, good in zip(self._names, finite, strict=True) if n != "total" and not good]

    def means(self) -> dict[str, float]:
        """Mean of every part over the steps. Waits."""
        return dict(zip(self._names, (self._sums.double() / self.steps).tolist(), strict=True))
