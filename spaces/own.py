"""A phase around somebody's own module in place of our family: its settings searched, what it cannot have off."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fusion_models.config import Flat, Recipe
from fusion_models.models.applicability import terms_off
from fusion_models.models.own import OwnModel, OwnModelError, own_model
from fusion_models.models.own.space import flat_key, misfits
from spaces.phase import Phase
from spaces.ranges import Range, Weight, parameters

VARIANT = "model.variant"
ENTROPY = "loss.attention_entropy"
"""Asked where a variant has attention of its own, as somebody's own module may."""
SHAPELESS = ("model.dropout", "model.token_dropout", "model.scale")
"""Keys of `model` that change no weight's shape."""
OF_ANY_RANKER = ("model.context", "model.context_reads", "model.modalities")
"""Keys of `model` that mean something whatever the ranker is; a fusion of one's own has all of ours."""


def with_own_model(phase: Phase, reference: str, *, alone: bool = False) -> Phase:
    """The phase whose base recipe is `package.module:Class` with its defaults.

    Its `SPACE` joins the ranges, whose keys that a module cannot have are left out, as are known points and components
    of them; `alone`: its `SPACE` is all that is searched. Raises OwnModelError for a range that is none, holds what the
    recipe or the module refuses, or does not hold its default.
    """
    own = own_model(reference)
    off = frozenset({VARIANT, *terms_off(own, phase.base), *_of_our_family(own, phase.base.flat())})
    base = _with_settings(phase.base, own)
    ours = (
        {}
        if alone
        else {key: _whatever_variant(key, span, own) for key, span in phase.ranges.items() if key not in off}
    )
    ranges = {key: span for key, span in ours.items() if span is not None} | own_ranges(own, phase)
    try:
        parameters(ranges, base.flat(), base.flat())
    except ValueError as error:
        raise OwnModelError(f"{reference}: the base recipe lies outside SPACE: {error}") from None
    ablatable = {name: point for name, point in phase.ablatable.items() if not off & set(point)}
    weights = {key: {key: 0.0} for key, span in ranges.items() if key.startswith("own.") and isinstance(span, Weight)}
    return dataclasses.replace(
        phase,
        base=base,
        ranges=ranges,
        known=_points(phase, ranges),
        reference={k: v for k, v in phase.reference.items() if k not in off},
        ablatable=ablatable | weights,
    )


def from_weights(phase: Phase) -> Phase:
    """The phase whose trainings start from given weights, so what decides a weight's shape is searched no longer.

    Settings of somebody's own module stay: where one changes a shape, what it shapes starts afresh.
    """
    kept = {k: span for k, span in phase.ranges.items() if not k.startswith("model.") or k in SHAPELESS}
    return dataclasses.replace(
        phase,
        base=phase.base.updated({"train.start": "weights"}),
        ranges=kept,
        known=_points(phase, kept),
        reference={k: v for k, v in phase.reference.items() if k in kept},
    )


def own_ranges(own: OwnModel, phase: Phase) -> dict[str, Range]:
    """Its `SPACE` by flat keys, conditions too: a setting is `own.NAME`. `phase` says what it may name.

    Raises OwnModelError for what is no range, or holds what a run would refuse.
    """
    for said in misfits(own, _with_settings(phase.base, own), phase.ranges):
        raise OwnModelError(f"{own.reference}: {said}")
    return {
        flat_key(own, key): dataclasses.replace(span, when={flat_key(own, k): v for k, v in span.when.items()})
        for key, span in own.space.items()
    }


def _with_settings(base: Recipe, own: OwnModel) -> Recipe:
    return base.with_own(own.defaults()).updated({VARIANT: own.reference})


def _points(phase: Phase, ranges: Mapping[str, Range]) -> dict[str, Flat]:
    """The phase's known points as far as they lie in the ranges; neither an empty one nor the same one twice."""
    out: dict[str, Flat] = {}
    for name, point in phase.known.items():
        left = {key: value for key, value in point.items() if key in ranges}
        if left and left not in out.values():
            out[name] = left
    return out


def _of_our_family(own: OwnModel, base: Flat) -> list[str]:
    """Keys of `model` that a whole ranker does not read."""
    if own.kind == "fusion":
        return []
    return [key for key in base if key.startswith("model.") and key not in OF_ANY_RANKER]


def _whatever_variant(key: str, span: Range, own: OwnModel) -> Range | None:
    """A range without its condition on the variant, which is one's own now; None where it was for one of ours alone."""
    asked: Mapping[str, Any] = span.when
    if VARIANT not in asked:
        return span
    if key != ENTROPY or not own.has_shares:
        return None
    return dataclasses.replace(span, when={k: v for k, v in asked.items() if k != VARIANT})
