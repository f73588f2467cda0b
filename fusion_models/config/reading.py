"""Values that were given as text, and keys that nobody knows."""

from __future__ import annotations

import difflib
import typing
from typing import Any, Literal

from fusion_models.config.requirement import require


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
        return tuple(filter(None, value.split("+"))) if isinstance(value, str) else tuple(value)
    if kind is bool:
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if isinstance(value, bool):
            return value
        require(str(value).lower() in words, f"{key} must be true or false, got {value!r}")
        return words[str(value).lower()]
    assert kind in (int, float, str), kind
    try:
        number = kind(value)
    except (TypeError, ValueError):
        raise ValueError(f"{key} must be a {kind.__name__}, got {value!r}") from None
    require(kind is not int or float(value) == number, f"{key} must be a whole number, got {value!r}")
    require(kind is not float or number == number, f"{key} must not be NaN")
    return number
