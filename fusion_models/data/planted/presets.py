"""The planted worlds that have a name, and how a source such as `planted:healthy?queries=2000` is read."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from typing import Any
from urllib.parse import parse_qsl

from fusion_models.data.errors import DataError
from fusion_models.data.planted.config import MODALITIES, OtherDials, PlantedConfig

PRESETS: dict[str, PlantedConfig] = {
    "": PlantedConfig(candidates=12),
    "seed-case": PlantedConfig(
        share_all=0.14,
        share_text_visual=0.03,
        share_text=0.21,
        share_metadata=0.075,
        share_visual=0.18,
        share_synergy=0.0,
        visual_coding="sign",
        visual_unique_scale=0.08,
        v1_noise=0.0,
        label_lean=0.7,
    ),
    "no-visual": PlantedConfig(
        queries=2200,
        validation_fraction=0.14,
        test_fraction=0.58,
        visual_width=64,
        share_all=0.0,
        share_text_visual=0.0,
        share_text=0.35,
        share_metadata=0.2,
        share_visual=0.0,
        share_synergy=0.0,
        v1_noise=0.6,
    ),
    "redundant": PlantedConfig(
        queries=2200,
        validation_fraction=0.14,
        test_fraction=0.58,
        share_all=0.0,
        share_text_visual=0.45,
        share_text=0.0,
        share_metadata=0.15,
        share_visual=0.0,
        share_synergy=0.0,
        visual_noise=0.0,
        text_noise=0.0,
        v1_noise=0.6,
    ),
    "synergy": PlantedConfig(
        queries=1400,
        validation_fraction=0.2,
        test_fraction=0.45,
        share_all=0.0,
        share_text_visual=0.0,
        share_text=0.0,
        share_metadata=0.0,
        share_visual=0.0,
        share_synergy=0.7,
        v1_text=0.0,
        v1_metadata=0.0,
        v1_noise=1.0,
    ),
    "healthy": PlantedConfig(
        queries=1400,
        validation_fraction=0.2,
        test_fraction=0.45,
        share_all=0.05,
        share_text_visual=0.0,
        share_text=0.25,
        share_metadata=0.2,
        share_visual=0.25,
        share_synergy=0.0,
        v1_noise=0.6,
    ),
}
"""Datasets whose verdict is known (docs/planted.md says what each holds). Each key is `planted:KEY`, and `""` plain
`planted`, a small one to try things on. Where a refit gain must be bounded below 0.005 there are more test queries."""


OF_A_WORLD = ("modalities", "others")
"""Fields that say what a world is made of; no dials."""


def planted_config(source: str) -> PlantedConfig:
    """The dials of `planted`, `planted:PRESET` or either with `?dial=value&...`. Raises DataError.

    `modalities=visual,text,clicks` names a world's own; dials of the new ones are then `share_clicks`, `v1_clicks`,
    `clicks_width` and so on.
    """
    spec, _, overrides = source.partition("?")
    preset = spec.removeprefix("planted").removeprefix(":")
    if preset not in PRESETS:
        names = ", ".join(name for name in PRESETS if name)
        raise DataError(f"no planted preset {preset!r}.", f"Use one of {names}, or plain `planted`.")
    asked = dict(parse_qsl(overrides.replace("+", "%2B"), keep_blank_values=True))
    named = tuple(filter(None, asked.pop("modalities", ",".join(MODALITIES)).split(",")))
    kinds = {name: kind for name, kind in typing.get_type_hints(PlantedConfig).items() if name not in OF_A_WORLD}
    others = {name: _dials_of(name) for name in named if name not in MODALITIES}
    owners = {dial: (name, field) for name, dials in others.items() for dial, field in dials.items()}
    changes: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {name: {} for name in others}
    for name, text in asked.items():
        if name in owners:
            owner, field = owners[name]
            own[owner][field] = _read(name, text, typing.get_type_hints(OtherDials)[field])
        elif name in kinds:
            changes[name] = _read(name, text, kinds[name])
        else:
            known = [*kinds, *owners]
            close = difflib.get_close_matches(name, known, n=3) or known
            raise DataError(f"planted data has no dial {name!r}.", f"Did you mean {' or '.join(close)}?")
    given = tuple((name, OtherDials(**dials)) for name, dials in own.items())
    try:
        return dataclasses.replace(PRESETS[preset], modalities=named, others=given, **changes)
    except ValueError as error:
        raise DataError(f"{source}: {error}.", "Change that dial.") from error


def _dials_of(modality: str) -> dict[str, str]:
    """What a URL calls the dials of a modality with a name of its own -> field of OtherDials."""
    fields = [field.name for field in dataclasses.fields(OtherDials)]
    return {f"{name}_{modality}" if name in ("share", "v1") else f"{modality}_{name}": name for name in fields}


def _read(name: str, text: str, kind: typing.Any) -> typing.Any:
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if kind in (int, float, str):
            return kind(text)
        return tuple(float(part) for part in text.split(","))
    except (KeyError, ValueError):
        raise DataError(f"the dial {name} cannot be {text!r}.", f"Give a {getattr(kind, '__name__', kind)}.") from None
