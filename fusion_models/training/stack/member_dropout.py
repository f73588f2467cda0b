"""Dropout masks that each member of a stack has for itself, without a generator of its own on the device.

A generator would draw for all members together: who they are, and to what length their lists are padded, would decide
each one's masks. So masks are hashes: of a member's seed, epoch and step (`plan` makes a key of them), of the
document's place in the batch, of the layer and the channel.
"""

from __future__ import annotations

import zlib

import torch
from torch import Tensor, nn


class MemberDropout(nn.Module):
    """Dropout in a stack: each member has its own probability and its own masks, whoever is beside it.

    A mask follows from `rows` (`document_hashes`) and the layer: the leading bits of a product of two odd numbers
    (multiply-shift, Dietzfelbinger et al. 1997), one for the document and one for the channel.
    """

    probability: Tensor
    rows: Tensor

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.calls = 0
        """Of this step: a layer that is passed twice in it drops other channels."""
        self._columns: dict[tuple[int, int], Tensor] = {}
        self.register_buffer("probability", torch.zeros(()), persistent=False)
        self.register_buffer("rows", torch.ones(1, dtype=torch.int32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, ...]`, N documents, to the same; in other shapes (somebody's own layer) each element is a channel."""
        if not self.training:
            return x
        of_documents = x.dim() > 0 and x.shape[0] == self.rows.shape[0]
        rows = self.rows if of_documents else self.rows[:1]
        hashes = rows.unsqueeze(1) * self._column_numbers(x.numel() // len(rows), x.device)
        threshold = ((self.probability - 0.5) * 2.0**32).to(torch.int32)
        keep = (hashes >= threshold).view(x.shape)
        return torch.where(keep, x / (1.0 - self.probability).to(x.dtype), 0.0)

    def _column_numbers(self, count: int, device: torch.device) -> Tensor:
        """`[count]` odd numbers of this layer and call; kept, so that a recorded step reads what was there before."""
        key = self.calls, count
        self.calls += 1
        if key not in self._columns:
            salt = zlib.crc32(f"{self.layer} {key[0]}".encode()) - 2**31
            columns = torch.arange(count, dtype=torch.int32, device=device)
            self._columns[key] = mixed(mixed(columns + salt)) | 1
        return self._columns[key]


def mixed(x: Tensor) -> Tensor:
    """int32 numbers to others that look drawn, one to one (the mixer `lowbias32`)."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32)):
        x = (x ^ _shifted(x, shift)) * factor
    return x ^ _shifted(x, 16)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """int32 shifted to the right, with zeros coming in for negative numbers too."""
    return (x >> bits) & ((1 << (32 - bits)) - 1)


def document_hashes(keys: Tensor, queries: int, length: int) -> Tensor:
    """`[S, B * L]` odd int32 numbers of each member's documents, whatever the padding; `keys` `[S]`: of the step."""
    query = torch.arange(queries, dtype=torch.int32, device=keys.device).unsqueeze(1) * 0x1E3779B1
    place = torch.arange(length, dtype=torch.int32, device=keys.device) * 0x05EBCA77
    return (mixed(mixed(keys.to(torch.int32))[:, None, None] + (query + place)) | 1).flatten(1)
