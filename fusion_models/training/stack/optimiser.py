"""AdamW over the rows of one matrix: a row a training, with its own rate, decay and clipping.

Shapes: S members, P parameters of one ranker.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8
"""torch's defaults, which a training alone uses."""
CLIP_EPSILON = 1e-6
"""As in `torch.nn.utils.clip_grad_norm_`."""


class StackedAdamW:
    """`torch.optim.AdamW` (Loshchilov and Hutter 2019) behind gradient clipping, for every row by itself.

    All is changed in place and nothing waits for the device, so that a step can be recorded as a CUDA graph.
    """

    def __init__(self, weights: Tensor, decays: Tensor, suspect: Tensor) -> None:
        """`weights` `[S, P]`; `decays` and `suspect` `[P]` bool: which weights decay, which follow the image's rate."""
        self.weights = weights
        self.first = torch.zeros_like(weights)
        self.second = torch.zeros_like(weights)
        self.steps = torch.zeros(len(weights), dtype=torch.float64, device=weights.device)
        self.decay = torch.zeros(len(weights), device=weights.device)
        """`[S]`; this and the two below are each member's own numbers."""
        self.suspect_scale = torch.ones(len(weights), device=weights.device)
        self.clip = torch.ones(len(weights), device=weights.device)
        self._decays = decays.float()
        self._suspect = suspect.float()

    @torch.no_grad()
    def update(self, gradient: Tensor, rate: Tensor) -> None:
        """One step down `gradient` `[S, P]`, which is clipped in place, at the rates `[S]`."""
        norm = torch.linalg.vector_norm(gradient, dim=1)
        gradient.mul_((self.clip / (norm + CLIP_EPSILON)).clamp(max=1.0).unsqueeze(1))
        self.steps.add_(1.0)
        rates = rate.unsqueeze(1) * (1.0 + (self.suspect_scale - 1.0).unsqueeze(1) * self._suspect)
        self.weights.mul_(1.0 - rates * self.decay.unsqueeze(1) * self._decays)
        self.first.lerp_(gradient, 1.0 - BETAS[0])
        self.second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1.0 - BETAS[1])
        first_bias = (1.0 - (self.steps * math.log(BETAS[0])).exp()).float().unsqueeze(1)
        second_bias = (1.0 - (self.steps * math.log(BETAS[1])).exp()).sqrt().float().unsqueeze(1)
        spread = (self.second.sqrt() / second_bias).add_(EPSILON)
        self.weights.sub_(rates / first_bias * self.first / spread)
