"""What a decision may read, as plain values: measured elsewhere, read by `gates` and `archive`, kept in judged.json."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, nan
from pathlib import Path
from typing import Any

from fusion_models.files import write_whole
from fusion_models.metrics import Interval
from fusion_models.modalities import MODALITIES
from search.run_store.folder import read_json

FILE = "judged.json"
"""All that a decision read, so that it can be taken again from the run folder alone."""
FEWEST_TRAININGS = 5
"""Fresh trainings of an arm below which nothing that it decides can be GO."""


@dataclass(frozen=True, kw_only=True)
class Lead:
    """V2's nDCG less a rival's, on the deciding split."""

    rival: str
    interval: Interval
    with_suspect: bool = False
    """Whether the rival reads the suspect and is of another family: one that surely leads shows that V2 misses what is
    there. The base recipe is of V2's own family: where it is the better one, archive rules read it."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A ranker outside the family, with less without the suspect."""

    name: str
    gain: Interval
    """At the level of an archive rule."""
    counts: bool
    """Whether it finds signals, each worth 0.02, that were planted into the suspect's own columns."""


@dataclass(frozen=True, kw_only=True)
class Cold:
    """What holds on candidates that no deciding training has seen."""

    needed: bool
    """Whether test items recur in training, and the catalogue is not declared closed."""
    queries: int = 0
    """Lists with at least four cold candidates and two labels among them."""
    gain: Interval | None = None
    refit_gain: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ArchiveEvidence:
    """Intervals at the level of an archive rule: the rules of a phase share one error of 2.5 %."""

    refit_gain: Interval | None = None
    base_refit_gain: Interval | None = None
    probes: tuple[Probe, ...] = ()
    ndcg_gain: Interval | None = None
    """Of the better of finalist and base recipe, by validation."""
    over_tuned_v1: Interval | None = None
    best_listed: str = ""
    """The best of the short list by validation, where it is neither the finalist nor the base recipe."""
    best_listed_gain: Interval | None = None
    best_listed_over_tuned_v1: Interval | None = None
    base_drop: Interval | None = None
    """What blanking the suspect costs the base recipe."""
    drop_rise: Interval | None = None
    """The finalist's drop less the base recipe's."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that a decision reads, on the deciding split at the level of this look.

    `quantities` are the artefact's, over queries; refit gains and leads the recipe's, over trainings and queries.
    """

    quantities: Mapping[str, Interval]
    refit_gain: Mapping[str, Interval]
    """Modality -> nDCG of the finalist minus that of the same recipe retrained without it, ensembles on both sides."""
    archive: ArchiveEvidence = ArchiveEvidence()
    strongest_blind: Lead | None = None
    """Over the strongest ranker without the suspect, chosen on validation (by an audit that lacks V2's scores there, on
    the test split)."""
    rivals: Mapping[str, Lead | None] = field(default_factory=dict)
    """Role (base, trees, sum) -> lead over it; None where it could not be measured."""
    shapley_share: Mapping[str, Interval] = field(default_factory=dict)
    """Modality -> its share of the refitted Shapley values."""
    cold: Cold = Cold(needed=False)
    queries: int | None = 0
    """Queries of the test split with a relevant item and a weight above 0; None where another split decides."""
    has_attention: bool = True
    has_images: bool = True
    modalities: tuple[str, ...] = MODALITIES
    """What the finalist is built with."""
    trainings: tuple[int, int] = (0, 0)
    """Of the trainings that the intervals above rest on: how many finished, how many were asked for."""
    fewest: int = FEWEST_TRAININGS
    """Finished trainings of the deciding arm that has fewest."""
    members: int = 1
    """Trainings whose scores the artefact averages."""
    closed_catalogue: bool = False
    """A business fact: no new item ever comes."""
    look: int = 0
    """The number of this look at the deciding split; 0: one that spends nothing."""


def write_judged(evidence: Evidence, folder: Path) -> None:
    """Write the evidence; numbers that are not finite as text, which every reader of JSON takes."""
    write_whole(folder / FILE, json.dumps(_plain(evidence), indent=1, allow_nan=False) + "\n")


def read_judged(folder: Path) -> Evidence:
    """The evidence that `write_judged` kept. Raises ValueError where there is none."""
    path = folder / FILE
    if not path.exists():
        raise ValueError(f"{folder} has no {FILE}: run the phase again with --fresh")
    found: Evidence = _read(Evidence, read_json(path))
    return found


def is_judged(folder: Path) -> bool:
    """Whether a verdict was taken from evidence; not so where nothing was confirmed, or no deciding training ended."""
    return (folder / FILE).exists()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (inf, -inf)):
        return str(value)
    return value


def _read(kind: Any, value: Any) -> Any:
    """`value` as `kind`, a dataclass, a mapping, a tuple, an optional or a plain type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _read(next(a for a in arguments if a is not type(None)), value)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _read(hints[name], item) for name, item in value.items()})  # type: ignore[operator]
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: _read(arguments[1], item) for key, item in value.items()}
    if origin is tuple:
        kinds = arguments[:1] * len(value) if len(arguments) == 2 and arguments[1] is Ellipsis else arguments
        return tuple(_read(each, item) for each, item in zip(kinds, value, strict=True))
    if kind is float:
        return {"nan": nan, "inf": inf, "-inf": -inf}[value] if isinstance(value, str) else float(value)
    return value
