"""Values that were given as text, and keys that nobody knows."""

from __future__ import annotations

import difflib
import math
import typing
from collections.abc import Iterable
from typing import Any, Literal

from fusion_models.config.requirement import require

LARGEST_WHOLE = 2**53
"""Beyond it a whole number is no longer exact as a float."""
WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def near(key: str, known: list[str]) -> str:
    """What an unknown key may have meant: close ones, or all that are known."""
    close = difflib.get_close_matches(key, known, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"known keys: {', '.join(known)}"


def read_as(key: str, value: Any, kind: Any) -> Any:
    """`value` as `kind`, from text where need be; ValueError says which key and what was expected."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        allowed = typing.get_args(kind)
        require(value in allowed, f"{key} must be one of {', '.join(allowed)}, got {value!r}")
        return value
    if origin is tuple:
        return _texts(key, value)
    if kind is bool:
        if isinstance(value, bool):
            return value
        require(str(value).lower() in WORDS, f"{key} must be true or false, got {value!r}")
        return WORDS[str(value).lower()]
    if kind is str:
        require(isinstance(value, str), f"{key} must be text, got {value!r}")
        return value
    assert kind in (int, float), kind
    return _number(key, value, kind)


def _texts(key: str, value: Any) -> tuple[str, ...]:
    """Of `a+b`, or of anything that holds texts."""
    parts = value.split("+") if isinstance(value, str) else value
    found = tuple(parts) if isinstance(parts, Iterable) and not isinstance(parts, dict) else None
    require(
        found is not None and all(isinstance(part, str) for part in found), f"{key} must be names, a+b, got {value!r}"
    )
    assert found is not None
    return tuple(filter(None, found)) if isinstance(value, str) else found


def _number(key: str, value: Any, kind: Any) -> Any:
    """Finite, and exact where it is whole."""
    try:
        require(not isinstance(value, bool), "")
        number = kind(value)
        exact = kind is float or isinstance(value, int) or float(value) == number
    except OverflowError:
        raise ValueError(f"{key} must be finite, got {_short(value)}") from None
    except (TypeError, ValueError):
        raise ValueError(f"{key} must be a {kind.__name__}, got {value!r}") from None
    require(kind is int or number == number, f"{key} must not be NaN")
    require(kind is int or math.isfinite(number), f"{key} must be finite, got {value!r}")
    require(exact, f"{key} must be a whole number, got {value!r}")
    require(kind is float or abs(number) <= LARGEST_WHOLE, f"{key} is too large, got {_short(value)}")
    return number


def _short(value: Any) -> str:
    """As it is written, but for a number of so many digits that Python does not write it."""
    return "a number of hundreds of digits" if isinstance(value, int) and abs(value) > 10**30 else repr(value)
