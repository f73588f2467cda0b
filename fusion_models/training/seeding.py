"""Random numbers of an epoch: those of torch's own generators, on every device, follow from a training's state."""

from __future__ import annotations

import torch

from fusion_models.process_group import ProcessGroup
from fusion_models.training.state import TrainingState


def seed_epoch(state: TrainingState, process_group: ProcessGroup) -> torch.Tensor | None:
    """Set torch's own generators for an epoch; the state that the next epoch starts from, where it is known already.

    One process on a CPU goes on in its stream. Several draw each from their own, and all from the state they share.
    """
    torch.set_rng_state(state.random_state)
    if process_group.size == 1 and state.device.type == "cpu":
        return None
    seed = int(torch.randint(2**62, ()))
    following = torch.get_rng_state()
    torch.manual_seed(seed + process_group.rank)
    return following
