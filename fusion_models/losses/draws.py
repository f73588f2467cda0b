"""Where a term's uniform numbers come from: a generator, or numbers that were drawn beforehand."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class Drawn:
    """Uniform numbers drawn before the step, handed out in the order in which the step asks for them.

    A stack of trainings draws each member's numbers with that member's own generator, on the CPU, and hands them to
    all members' common step.
    """

    def __init__(self, numbers: Iterable[Tensor]) -> None:
        self._numbers = iter(numbers)

    def take(self, *shape: int) -> Tensor:
        """The next numbers, which must be as many as `shape` holds."""
        return next(self._numbers).reshape(shape)


Source = torch.Generator | Drawn


def uniform(source: Source, *shape: int) -> Tensor:
    """Numbers in [0, 1) of some shape."""
    return source.take(*shape) if isinstance(source, Drawn) else torch.rand(*shape, generator=source)
