"""Where attention goes, or what stands for it. Attention is not contribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from fusion_models.metrics.attention import balance, max_share
from fusion_models.quantities.outputs import Outputs, Values
from fusion_models.quantities.quantity import Quantity, Terms


def quantities(modalities: Sequence[str]) -> list[Quantity]:
    """Everything of this file; shares are means over documents and layers."""
    of_each = [
        Quantity(
            name=f"{prefix}attention_{modality}",
            unit="fraction",
            direction="neither",
            terms=_share_of(modality, read),
            epochs=True,
            searched=not prefix,
        )
        for prefix, read in (("", lambda o: o.shares), ("value_", lambda o: o.value_shares))
        for modality in modalities
    ]
    return [
        *of_each,
        _of_all("attention_max_share", max_share, "lower"),
        _of_all("attention_min_share", lambda means: means.amin(-1), "higher"),
        _of_all("attention_balance", balance, "higher"),
    ]


def _of_all(name: str, value: Callable[[Tensor], Tensor], direction: str) -> Quantity:
    return Quantity(
        name=name,
        unit="fraction",
        direction=direction,  # type: ignore[arg-type]
        terms=lambda outputs: _terms(outputs, outputs.shares),
        value=value,
        epochs=True,
    )


def _share_of(modality: str, read: Callable[[Outputs], Values | None]) -> Callable[[Outputs], Terms | None]:
    def terms(outputs: Outputs) -> Terms | None:
        found = _terms(outputs, read(outputs))
        if found is None or modality not in outputs.modalities:
            return None
        return found._replace(values=found.values[:, [outputs.modalities.index(modality)]])

    return terms


def _terms(outputs: Outputs, shares: Values | None) -> Terms | None:
    """Shares `[Q, M]`, a query counted by its documents."""
    if shares is None:
        return None
    return Terms(np.asarray(shares.mean(axis=1)), outputs.lists.documents * outputs.lists.weights)
