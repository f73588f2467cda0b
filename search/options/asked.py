"""What is asked from Python in other words than a flag's: lengths of time, mappings, classes, datasets, runs."""

from __future__ import annotations

import datetime
import inspect
import numbers
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from fusion_models.config.annotated import shown
from fusion_models.data import RankingDataset
from fusion_models.data.sources import HALVED
from fusion_models.data.splits import DECIDING
from fusion_models.metrics.ranking_metric import NDCG_10

FILE_WANTED = "give the path of a TOML file"
TIMES = ("time_budget", "epoch_limit", "answer_limit")
"""Flags of a length of time, such as 30m."""
NO_LENGTH = ("Y", "M", "generic")
"""Units of NumPy that are no fixed number of seconds."""
DATA_WANTED = "give a folder, a URI or what open_dataset gives, or tables as items=, queries= and judgements="


def as_asked(options: Any) -> None:
    """Turn what a dataclass of flags was given into what its flags would say; what has no other words stays.

    Raises ValueError where it says nothing that a flag could.
    """
    words: dict[str, Callable[[Any], Any]] = {"stack": _count, "model": _reference, "warm_from": _place}
    words |= {"set": _changes, "data": as_source} | dict.fromkeys(TIMES, _time)
    for name, said in words.items():
        value = getattr(options, name, None)
        if value is not None:
            object.__setattr__(options, name, said(value))


def as_source(data: Any) -> Any:
    """The place of a dataset; `data` may be an open one, halved or not.

    Raises ValueError where it is another view of one, which its place does not open.
    """
    if isinstance(data, RankingDataset):
        return _source_of(data)
    if not isinstance(data, str | os.PathLike):
        raise ValueError(f"data is a {type(data).__name__} ({shown(data)}): {DATA_WANTED}")
    return data


def _source_of(data: RankingDataset) -> str:
    if data.metric != NDCG_10:
        raise ValueError(
            f"data is measured by {data.metric.name}, which a phase decides: give {data.source}, and name the metric "
            "in a phase file"
        )
    if type(data) is not RankingDataset or data.tuned_v1 is not None:
        what = type(data).__name__ if data.tuned_v1 is None else "dataset with a tuned V1"
        raise ValueError(
            f"data is a {what}, a view that {data.source} does not open: write it as tables, and give these"
        )
    return data.source.removesuffix(HALVED) + (HALVED if DECIDING in data.splits else "")


def _time(value: Any) -> Any:
    """`1800s` of 1800, or of half an hour."""
    if isinstance(value, np.timedelta64) and np.datetime_data(value.dtype)[0] not in NO_LENGTH:
        value = float(value / np.timedelta64(1, "s"))
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    if not _is_number(value):
        return value
    return f"{float(value):f}".rstrip("0").rstrip(".") + "s"


def _count(value: Any) -> Any:
    return str(int(value)) if _is_number(value) and float(value).is_integer() else value


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_ | np.timedelta64)


def _reference(value: Any) -> Any:
    """`package.module:Class` of a class that others can import."""
    if not inspect.isclass(value):
        return value
    if value.__module__ in ("__main__", "builtins") or "." in value.__qualname__:
        raise ValueError(
            f"model is the class {value.__qualname__} of {value.__module__}, which workers cannot import: put it into "
            "a file of its own, and give package.module:Class"
        )
    return f"{value.__module__}:{value.__qualname__}"


def _place(value: Any) -> Any:
    """The folder of a run; `value` may be what came of it."""
    return value if isinstance(value, str | os.PathLike) else getattr(value, "path", value)


def _changes(value: Any) -> tuple[str, ...]:
    """`KEY=VALUE` of a mapping, of pairs, or of texts."""
    if isinstance(value, str):
        return (str(value),)
    if not isinstance(value, Iterable):
        raise ValueError(f"set is a {type(value).__name__} ({shown(value)}): give a mapping of recipe keys")
    return tuple(_change(entry) for entry in (value.items() if isinstance(value, Mapping) else value))


def _change(entry: Any) -> str:
    if isinstance(entry, str):
        return str(entry)
    if not isinstance(entry, tuple | list) or len(entry) != 2 or not isinstance(entry[0], str):
        raise ValueError(f'set holds {shown(entry)}: give a mapping of recipe keys, or texts such as "model.width=64"')
    key, value = entry
    if isinstance(value, tuple | list) and all(isinstance(each, str) for each in value):
        return f"{key}={'+'.join(value)}"
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, str | int | float):
        raise ValueError(f"set: {key} is {shown(value)}: give a number, text, True, False, or a list of names")
    return f"{key}={value}"
