"""How well pictures can be rebuilt from the fused features."""

from __future__ import annotations

from collections.abc import Sequence

from fusion_models.quantities.outputs import Outputs
from fusion_models.quantities.quantity import Quantity, Terms


def quantities(modalities: Sequence[str]) -> list[Quantity]:
    """Everything of this file."""
    return [Quantity(name="reconstruction_ssim", unit="SSIM", direction="higher", terms=_ssim, searched=False)]


def _ssim(outputs: Outputs) -> Terms | None:
    return None if outputs.ssim is None else Terms(outputs.ssim[:, None], outputs.lists.weights)
