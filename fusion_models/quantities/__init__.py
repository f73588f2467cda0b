"""Every number of a ranker, defined once: name, unit, direction, estimate, influence function, replicates.

A quantity is computed from `Outputs` (scores, blanked scores, shares) on `Lists` (labels, V1), never from a model, so
that a training, an ensemble and somebody else's ranker are measured alike. To add one, write it in one file of this
package and name that file below. May use `fusion_models.metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from fusion_models.modalities import MODALITIES
from fusion_models.quantities import agreement, attention, pictures, ranking
from fusion_models.quantities.outputs import Lists, Outputs, ensemble, standardised
from fusion_models.quantities.quantity import MeasuredBeside, Quantity, Terms
from fusion_models.quantities.ranking import drop_name

FILES = (ranking, attention, agreement, pictures)

__all__ = [
    "Lists",
    "MeasuredBeside",
    "Outputs",
    "Quantity",
    "Terms",
    "beside",
    "drop_name",
    "ensemble",
    "known_names",
    "numbers",
    "objective_names",
    "of_outputs",
    "quantity",
    "standardised",
]


@lru_cache(maxsize=8)
def of_outputs(modalities: tuple[str, ...] = MODALITIES) -> dict[str, Quantity]:
    """Name -> quantity, of all that outputs of rankers with these modalities tell."""
    return {found.name: found for file in FILES for found in file.quantities(modalities)}


@lru_cache(maxsize=8)
def beside(modalities: tuple[str, ...] = MODALITIES) -> dict[str, MeasuredBeside]:
    """Name -> what is measured in other ways, and what gates and columns may name all the same."""
    found = [
        *(MeasuredBeside(name=f"{m}_refit_gain", unit="nDCG", direction="higher") for m in modalities),
        *(MeasuredBeside(name=f"{m}_shapley_share", unit="fraction", direction="neither") for m in modalities),
        MeasuredBeside(name="min_refit_gain", unit="nDCG", direction="higher"),
        MeasuredBeside(name="queries", unit="count", direction="higher"),
        MeasuredBeside(name="parameters", unit="count", direction="lower"),
        MeasuredBeside(name="epochs", unit="count", direction="neither"),
        MeasuredBeside(name="latency_p95_ms", unit="ms", direction="lower"),
        MeasuredBeside(name="integrity_open", unit="count", direction="lower"),
        MeasuredBeside(name="ablation_open", unit="count", direction="lower"),
    ]
    return {each.name: each for each in found}


def known_names(modalities: tuple[str, ...] = MODALITIES) -> list[str]:
    """Every name that an objective, a gate or a column may use."""
    return sorted(of_outputs(modalities).keys() | beside(modalities).keys())


def objective_names(modalities: tuple[str, ...] = MODALITIES) -> list[str]:
    """Every quantity that a search can have as an objective."""
    return [name for name, found in of_outputs(modalities).items() if found.searched]


def quantity(name: str, modalities: tuple[str, ...] = MODALITIES) -> Quantity:
    """The quantity of this name. Raises ValueError that lists those that can be measured."""
    found = of_outputs(modalities)
    if name not in found:
        raise ValueError(f"no quantity {name!r}; outputs of a ranker tell: {', '.join(sorted(found))}")
    return found[name]


def numbers(outputs: Outputs, *, epochs: bool = False) -> dict[str, float]:
    """Every number that these outputs tell; with `epochs`, those alone that each epoch measures."""
    wanted: Sequence[Quantity] = list(of_outputs(outputs.modalities or MODALITIES).values())
    found = {q.name: q.estimate(outputs) for q in wanted if q.epochs or not epochs}
    return {name: value for name, value in found.items() if value == value}
