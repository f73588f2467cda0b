"""Values given from Python for the fields of a dataclass: natural ones become what the annotation says."""

from __future__ import annotations

import dataclasses
import functools
import numbers
import os
import typing
from collections.abc import Mapping
from types import NoneType
from typing import Any, Literal

import numpy as np

from fusion_models.config.reading import near

WANTED = {str: "text", int: "a whole number", float: "a number", bool: "True or False", tuple: "a tuple of texts"}


def settle_kinds(given: Any, remedies: Mapping[str, str] | None = None) -> None:
    """Make every field of a dataclass of flags what its annotation says, as its `__post_init__` may ask.

    Numbers of NumPy become Python's, whole floats whole numbers, paths text. Raises ValueError for what is of another
    kind: which field, what it is, and what to give, which `remedies` may say of a field.
    """
    cls: type = type(given)
    for name, kind in _annotations(cls).items():
        remedy = (remedies or {}).get(name, "")
        object.__setattr__(given, name, as_annotated(name, getattr(given, name), kind, remedy))


@functools.lru_cache(maxsize=16)
def _annotations(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def as_annotated(name: str, value: Any, kind: Any, remedy: str = "") -> Any:
    """`value` as `kind`: text, a number, a bool, one of some texts, a tuple of texts, or None where that may be."""
    kinds = typing.get_args(kind)
    if NoneType in kinds:
        if value is None:
            return None
        (kind,) = (each for each in kinds if each is not NoneType)
    if typing.get_origin(kind) is Literal:
        allowed = typing.get_args(kind)
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"{name} = {shown(value)}: {near(str(value), list(allowed))}")
        return str(value)
    plain = typing.get_origin(kind) or kind
    found = _plain(value, plain)
    if found is None:
        wanted = remedy or f"give {WANTED[plain]}"
        raise ValueError(f"{name} is a {type(value).__name__} ({shown(value)}): {wanted}")
    return found


def shown(value: Any) -> str:
    """A value in one short line."""
    return " ".join(f"{value!r:.400}".split())[:60]


def _plain(value: Any, kind: type) -> Any:
    """None where it is of another kind."""
    if kind is str:
        path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
        return str(path) if isinstance(path, str) else None
    if kind is tuple:
        texts = isinstance(value, tuple | list) and all(isinstance(each, str) for each in value)
        return tuple(str(each) for each in value) if texts else None
    if kind is bool or isinstance(value, bool | np.bool_):
        return bool(value) if kind is bool and isinstance(value, bool | np.bool_) else None
    if isinstance(value, np.timedelta64):  # NumPy counts it among whole numbers
        return None
    if isinstance(value, numbers.Integral):
        return kind(int(value))
    if isinstance(value, numbers.Real) and (kind is float or float(value).is_integer()):
        return kind(float(value))
    return None
