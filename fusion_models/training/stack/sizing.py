"""How many members a stack should have: what stacks of a few sizes take in memory and time on this device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fusion_models.config import Recipe
from fusion_models.data import RankingDataset
from fusion_models.training.device_errors import out_of_memory
from fusion_models.training.stack.groups import free_memory
from fusion_models.training.stack.stack import Stack
from fusion_models.training.state import start

STEPS = 8
"""Of an epoch, that are taken to tell how long it lasts."""
GAIN = 1.1
"""How many times the trainings an hour a larger stack must give to be worth its members' waiting for each other."""


@dataclass(frozen=True, kw_only=True)
class Sized:
    """A stack of one size."""

    members: int
    seconds: float
    """Of an epoch of all of them."""
    bytes: int
    """The most that this process held of the device meanwhile; 0 on a CPU."""


def measured_sizes(
    recipe: Recipe, data: RankingDataset, device: torch.device, sizes: Sequence[int], *, share: float = 1.0
) -> list[Sized]:
    """Stacks of `sizes` members, in that order, as far as memory goes; `share`: what part of the device is ours."""
    found = []
    for members in sizes:
        try:
            found.append(_measured(recipe, data, device, members, share))
        except Exception as error:
            if not out_of_memory(error):
                raise
            break
        finally:
            free_memory(device)
    return found


def _measured(recipe: Recipe, data: RankingDataset, device: torch.device, members: int, share: float) -> Sized:
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    stack = Stack(data, device, share=share)
    for seed in range(members):
        stack.join(start(recipe, data, seed=seed, device=device))
    seconds = stack.probe(STEPS)
    return Sized(members=members, seconds=seconds, bytes=torch.cuda.max_memory_reserved(device) if on_gpu else 0)


def best_size(found: Sequence[Sized], room: float) -> int:
    """The largest of stacks, given from small to large, that fits into `room` bytes and pays; 1 where none does."""
    best: Sized | None = None
    for each in found:
        if each.bytes > room:
            break
        if best is None or each.members / each.seconds >= GAIN * best.members / best.seconds:
            best = each
    return 1 if best is None else best.members
