"""What a search may vary: ranges over flat recipe keys, and how a study is asked for a point in them."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fusion_models.config import Flat


class Suggester(Protocol):
    """The part of an Optuna trial that a space reads; any object with these methods will do."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...
    def suggest_categorical(self, name: str, choices: list[Any]) -> Any: ...


@dataclass(frozen=True)
class Positive:
    """Every number above 0: a condition on a loss weight that is switched on."""

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and value > 0

    def __repr__(self) -> str:
        return "above 0"


@dataclass(frozen=True, kw_only=True)
class Range:
    """One key's range; `when` makes it conditional on values chosen before it."""

    when: Mapping[str, Container[Any]] = field(default_factory=dict)
    """Key -> values under which this range is asked at all; elsewhere the base recipe's value stands."""

    def suggest(self, trial: Suggester, key: str) -> Any:
        """Ask `trial` for a value of `key`."""
        raise NotImplementedError

    def parameters(self, key: str, value: Any) -> dict[str, Any]:
        """The study parameters that make `suggest` return `value`; ValueError if it lies outside the range."""
        raise NotImplementedError

    def nearest(self, key: str, value: Any) -> Any:
        """The value of the range that is nearest to `value`; ValueError where nothing in it is near."""
        raise NotImplementedError

    def samples(self) -> tuple[Any, ...]:
        """Values to try a range by: its ends and one between, or all choices; ValueError where it has none."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Float(Range):
    """A number in [low, high]."""

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: Suggester, key: str) -> float:
        return trial.suggest_float(key, self.low, self.high, log=self.log)

    def parameters(self, key: str, value: Any) -> dict[str, Any]:
        _within(key, value, self.low, self.high)
        return {key: float(value)}

    def nearest(self, key: str, value: Any) -> float:
        return min(max(float(value), self.low), self.high)

    def samples(self) -> tuple[float, ...]:
        return _between(self.low, self.high, log=self.log)


@dataclass(frozen=True, kw_only=True)
class Choice(Range):
    """One of a few values."""

    values: tuple[Any, ...]

    def suggest(self, trial: Suggester, key: str) -> Any:
        return trial.suggest_categorical(key, list(self.values))

    def parameters(self, key: str, value: Any) -> dict[str, Any]:
        if value not in self.values:
            raise ValueError(f"{key} = {value!r} is not among {self.values}")
        return {key: value}

    def nearest(self, key: str, value: Any) -> Any:
        self.parameters(key, value)  # a category has no neighbours
        return value

    def samples(self) -> tuple[Any, ...]:
        if not isinstance(self.values, tuple | list) or not self.values:
            raise ValueError(f"a Choice has a tuple of values, got {self.values!r}")
        return tuple(self.values)


@dataclass(frozen=True, kw_only=True)
class Weight(Range):
    """A loss weight: off (exactly 0, so that its term is not built), or in [low, high] on a log scale."""

    low: float
    high: float

    def suggest(self, trial: Suggester, key: str) -> float:
        if not trial.suggest_categorical(f"{key}.on", [False, True]):
            return 0.0
        return trial.suggest_float(key, self.low, self.high, log=True)

    def parameters(self, key: str, value: Any) -> dict[str, Any]:
        if value == 0.0:
            return {f"{key}.on": False}
        _within(key, value, self.low, self.high)
        return {f"{key}.on": True, key: float(value)}

    def nearest(self, key: str, value: Any) -> float:
        return 0.0 if value <= 0.0 else min(max(float(value), self.low), self.high)

    def samples(self) -> tuple[float, ...]:
        return (0.0, *_between(self.low, self.high, log=True))


def _between(low: float, high: float, *, log: bool) -> tuple[float, ...]:
    """Both ends and a number between that is not whole."""
    if not low <= high or (log and low <= 0):
        raise ValueError(f"low = {low} and high = {high}{' on a log scale' if log else ''} hold no number")
    return (low, low + (high - low) / math.sqrt(3.0), high) if high > low else (low,)


def _within(key: str, value: Any, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{key} = {value} lies outside its range [{low}, {high}]")


def ordered(ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The ranges in their order, but each after those that its condition names.

    Raises ValueError where some are asked on one another.
    """
    out: dict[str, Range] = {}

    def place(key: str, on_the_way: tuple[str, ...]) -> None:
        if key in on_the_way:
            ring = " -> ".join((*on_the_way[on_the_way.index(key) :], key))
            raise ValueError(f"ranges are asked on one another ({ring}): leave one of these conditions out")
        for asked in ranges[key].when if key not in out else ():
            if asked in ranges:
                place(asked, (*on_the_way, key))
        out.setdefault(key, ranges[key])

    for key in ranges:
        place(key, ())
    return out


def suggest(trial: Suggester, ranges: Mapping[str, Range], base: Flat) -> Flat:
    """Ask `trial` for every key of `ranges`, in their order; keys whose condition fails keep `base`'s value."""
    found = {key: base[key] for key in ranges}
    for key, span in ranges.items():
        if applies(span, found, base):
            found[key] = span.suggest(trial, key)
    return found


def applies(span: Range, found: Mapping[str, Any], base: Flat) -> bool:
    """Whether a conditional range is asked, given what was chosen before it."""
    return all(found.get(key, base[key]) in allowed for key, allowed in span.when.items())


def parameters(ranges: Mapping[str, Range], point: Flat, base: Flat) -> dict[str, Any]:
    """The study parameters of a known `point` (a flat recipe), so that it can be asked by name.

    Raises ValueError where the point lies outside a range.
    """
    out: dict[str, Any] = {}
    for key, span in ranges.items():
        if applies(span, point, base):
            out |= span.parameters(key, point[key])
        elif point[key] != base[key]:
            raise ValueError(f"{key} = {point[key]!r} is fixed to {base[key]!r} where {dict(span.when)} does not hold")
    return out


def project(ranges: Mapping[str, Range], point: Flat, base: Flat) -> Flat:
    """The recipe of the space nearest to `point`, both flat: searched keys moved into range, all others `base`'s.

    Raises ValueError where a choice has no such value.
    """
    found = dict(base)
    for key, span in ranges.items():
        if applies(span, found, base):
            found[key] = span.nearest(key, point.get(key, base[key]))
    return found
