"""nDCG, the gain over V1, and what blanking a modality costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from fusion_models.metrics.masking import BLANKS
from fusion_models.quantities.outputs import Outputs, Values
from fusion_models.quantities.quantity import Quantity, Terms


def drop_name(modality: str, kind: str = "zero") -> str:
    """`visual_masking_drop`, or `visual_masking_drop_mean` for another blank than the roadmap's."""
    return f"{modality}_masking_drop" + ("" if kind == "zero" else f"_{kind}")


def quantities(modalities: Sequence[str]) -> list[Quantity]:
    """Everything of this file."""
    drops = [
        Quantity(
            name=drop_name(modality, kind),
            unit="fraction",
            direction="higher",
            terms=_drop(modality, kind),
            value=_relative_loss,
            epochs=kind == "zero",
            searched=kind == "zero",
        )
        for modality in modalities
        for kind in BLANKS
    ]
    ndcg = Quantity(name="ndcg", unit="nDCG", direction="higher", terms=lambda o: _mean(o, o.ndcg), epochs=True)
    v1 = Quantity(
        name="v1_ndcg", unit="nDCG", direction="neither", terms=lambda o: _mean(o, o.lists.v1_ndcg), epochs=True
    )
    gain = Quantity(
        name="ndcg_gain",
        unit="nDCG",
        direction="higher",
        terms=lambda o: _mean(o, o.ndcg - o.lists.v1_ndcg),
        epochs=True,
    )
    return [ndcg, v1, gain, *drops]


def _mean(outputs: Outputs, *columns: Values) -> Terms:
    return Terms(np.stack(columns, axis=1), outputs.lists.weights)


def _drop(modality: str, kind: str) -> Callable[[Outputs], Terms | None]:
    def terms(outputs: Outputs) -> Terms | None:
        masked = outputs.masked_ndcg.get((modality, kind))
        return None if masked is None else _mean(outputs, outputs.ndcg, masked)

    return terms


def _relative_loss(means: Tensor) -> Tensor:
    """(nDCG - nDCG with the modality blanked) / nDCG."""
    return 1.0 - means[..., 1] / means[..., 0]
