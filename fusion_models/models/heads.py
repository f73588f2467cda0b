"""What auxiliary losses read beside the score; each head is built only where its loss has a weight.

Keys of `RankerOutput.auxiliary` (B queries, L candidates, M modalities, D width):

| key | shape | what |
|---|---|---|
| `unimodal` | `[B, L, M]` | a score from each modality alone |
| `reconstruction`, `reconstruction_target` | `[B, L, D_s]` | the suspect's features from the fused vector; the truth |
| `thumbnail` | `[n, 3, S, S]` | the thumbnails of the documents asked for, in [0, 1] |
| `contrastive_suspect`, `contrastive_partner` | `[B, L, D]` | unit vectors |
| `contrastive_scale` | `[]` | factor of their cosines, at most 100 |
| `shared`, `private` | `[B, L, M, D/2]` | halves of each projected modality |
| `discriminator` | `[B, L, M, M]` | logits: which modality a shared part comes from, through gradient reversal |
| `fused_discriminator` | `[B, L, M]` | the same of the fused vector (the adversarial term's literal form) |
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAX_LOG_SCALE = math.log(100.0)


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """x, whose gradient is multiplied by -strength on the way back (Ganin et al. 2016).

    Written without a custom autograd function, so that it exports and stacks.
    """
    return x.detach() * (1.0 + strength) - strength * x


def mlp(inputs: int, hidden: int, outputs: int, *, bias: bool = True) -> nn.Sequential:
    """One hidden GELU layer; no output bias where the loss is blind to it (a ranking loss)."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs, bias=bias))


class UnimodalHeads(nn.Module):
    """A small scorer of each modality by itself."""

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(mlp(width, width, 1, bias=False) for _ in range(modalities))

    def forward(self, conditioned: Tensor) -> Tensor:
        """`[N, M, D]` to scores `[N, M]`."""
        return torch.cat([head(x) for head, x in zip(self.heads, conditioned.unbind(1), strict=True)], dim=-1)


class ContrastiveHeads(nn.Module):
    """Unit-length projections of suspect and partner, and the learned scale of their cosines (Radford et al. 2021)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.suspect = nn.Linear(width, width)
        self.partner = nn.Linear(width, width)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, suspect: Tensor, partner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Two `[N, D]` to the same, normalised, and the scale `[]`, clamped at 100."""
        scale = self.log_scale.clamp(max=MAX_LOG_SCALE).exp()
        return F.normalize(self.suspect(suspect), dim=-1), F.normalize(self.partner(partner), dim=-1), scale


class ThumbnailDecoder(nn.Module):
    """A fused vector to an RGB picture: a coarse grid by a linear map, enlarged and convolved, then sub-pixels.

    The last convolution works at half the resolution and gives every pixel of a 2 x 2 block as channels of its own
    (sub-pixel convolution, Shi et al. 2016), at a third of the time of enlarging first.
    """

    CHANNELS = 16

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.coarse = math.ceil(side / 4)
        self.grid = nn.Linear(width, self.CHANNELS * self.coarse**2)
        self.middle = nn.Conv2d(self.CHANNELS, self.CHANNELS, 3, padding=1)
        self.last = nn.Conv2d(self.CHANNELS, 3 * 2 * 2, 3, padding=1)

    def forward(self, fused: Tensor) -> Tensor:
        """`[n, D]` to `[n, 3, S, S]` in [0, 1]."""
        grid = self.grid(fused).unflatten(-1, (self.CHANNELS, self.coarse, self.coarse))
        middle = F.gelu(self.middle(F.interpolate(F.gelu(grid), scale_factor=2.0, mode="bilinear")))
        blocks = self.last(middle).unflatten(1, (3, 2, 2)).permute(0, 1, 4, 2, 5, 3)
        # `F.pixel_shuffle` cannot go backward on no rows, which a rank of several may be given.
        pixels = blocks.flatten(4, 5).flatten(2, 3)
        return torch.sigmoid(pixels[..., : self.side, : self.side])


class Discriminator(nn.Module):
    """Which of M modalities does a vector come from?"""

    def __init__(self, inputs: int, modalities: int) -> None:
        super().__init__()
        self.layers = mlp(inputs, max(16, inputs), modalities)

    def forward(self, x: Tensor, reversal: float) -> Tensor:
        """`[..., D]` to logits `[..., M]`; what lies before is pushed the other way with strength `reversal`."""
        return self.layers(reverse_gradient(x, reversal))  # type: ignore[no-any-return]
