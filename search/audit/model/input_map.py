"""Which input of a model holds which of the dataset's columns, and whether it takes documents flat or in lists."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from fusion_models.config import near

Documents = Literal["flat", "lists"]
OTHERS = ("context", "v1", "v1_seen", "valid")
"""What a model may read beside the modalities: features of query and pair, V1's score as the table has it and as our
own rankers read it, and which places of a padded list are real."""


KEYS = ("inputs", "documents", "output")
"""Of the TOML file."""


@dataclass(frozen=True, kw_only=True)
class InputMap:
    """Plain values; an empty map is filled by the model's own names."""

    inputs: Mapping[str, tuple[str, ...]]
    """Input of the model -> columns that it holds, one behind the other; in the order of its arguments."""
    documents: Documents | None = None
    """`flat`: `[N, D]` -> `[N]`; `lists`: `[Q, L, D]` -> `[Q, L]`; None: as the inputs say."""
    output: str = ""
    """Which output holds the scores, and behind a colon which column or class of it; empty: the only one."""

    def plain(self) -> dict[str, Any]:
        """For JSON; `InputMap(**...)` of it, with tuples, is the same map."""
        return {
            "inputs": {k: list(v) for k, v in self.inputs.items()},
            "documents": self.documents,
            "output": self.output,
        }

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> InputMap:
        """What `plain` wrote down."""
        inputs = {name: tuple(columns) for name, columns in plain["inputs"].items()}
        return InputMap(inputs=inputs, documents=plain["documents"], output=plain["output"])

    @property
    def in_lists(self) -> bool:
        """Whether it takes whole lists: as it was said, or since it wants to know which places are real."""
        if self.documents is not None:
            return self.documents == "lists"
        return any("valid" in columns for columns in self.inputs.values())


def read_input_map(text: str | None, model: str, modalities: Sequence[str]) -> InputMap:
    """The map in a TOML file, the same as JSON text, or `image=visual,words=text+metadata`; without one what lies
    beside an export of ours.

    Raises ValueError for a file that cannot be read, an unknown key or column (naming the known ones).
    """
    if text is None:
        return _beside(model, modalities)
    if text.lstrip().startswith("{"):
        try:
            return _checked(json.loads(text), "--inputs", modalities)
        except json.JSONDecodeError as error:
            raise ValueError(f"--inputs begins as JSON and is none: {error}") from error
    if not text.endswith(".toml"):
        pairs = [entry.partition("=") for entry in text.split(",")]
        if any(not equals or not name.strip() for name, equals, _ in pairs):
            raise ValueError(f"--inputs takes a TOML file, or NAME=COLUMN,NAME=COLUMN+COLUMN; got {text!r}")
        return _checked({"inputs": {n.strip(): c.split("+") for n, _, c in pairs}}, "--inputs", modalities)
    try:
        found = tomllib.loads(Path(text).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"--inputs {text} cannot be read: {error}") from error
    return _checked(found, f"--inputs {text}", modalities)


def mapped_inputs(given: Mapping[str, Any]) -> str:
    """A mapping as `--inputs` takes it: of inputs, or of all that the TOML file holds. Raises ValueError."""
    whole = set(given) <= set(KEYS) and isinstance(given.get("inputs", {}), Mapping)
    try:
        return json.dumps(dict(given) if whole else {"inputs": dict(given)})
    except TypeError as error:
        raise ValueError(f"inputs maps an input of the model to a column or a list of them: {error}") from None


def _checked(found: Mapping[str, Any], where: str, modalities: Sequence[str]) -> InputMap:
    for key in found:
        if key not in KEYS:
            raise ValueError(f"{where}: unknown key {key!r}; {near(key, list(KEYS))}")
    documents, named = found.get("documents"), found.get("inputs", {})
    if documents is not None and documents not in get_args(Documents):
        raise ValueError(f"{where}: documents must be flat or lists, got {documents!r}")
    if not isinstance(named, dict):
        raise ValueError(f"{where}: inputs is a table, such as [inputs] with image = 'visual'")
    known, inputs = [*modalities, *OTHERS], {}
    for name, columns in named.items():
        parts = [columns] if isinstance(columns, str) else columns
        if not isinstance(parts, list) or not parts:
            raise ValueError(f"{where}: input {name} must hold a column or a list of them, got {columns!r}")
        for part in parts:
            if part not in known:
                raise ValueError(f"{where}: input {name}: unknown column {part!r}; {near(str(part), known)}")
        inputs[name] = tuple(parts)
    return InputMap(inputs=inputs, documents=documents, output=str(found.get("output", "")))


def _beside(model: str, modalities: Sequence[str]) -> InputMap:
    """What `inputs.json` says, which our own export writes beside its files; else an empty map.

    Any other tool's file of that name says nothing to us.
    """
    path = Path(model).with_name("inputs.json")
    if not model.endswith((".onnx", ".pt2")):
        return InputMap(inputs={})
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # also where there is none
        return InputMap(inputs={})
    names, rows = (said.get("inputs"), said.get("rows")) if isinstance(said, dict) else (None, None)
    known = (*modalities, "context", "v1", "valid")
    if rows not in ("lists", "documents") or not isinstance(names, list) or any(name not in known for name in names):
        return InputMap(inputs={})
    inputs = {name: (name,) for name in names}
    if "v1" in inputs and "columns" not in said:  # an older export: its graph is given what it reads of V1's score
        inputs["v1"] = ("v1_seen",)
    documents: Documents = "lists" if rows == "lists" else "flat"
    return InputMap(inputs=inputs, documents=documents, output="scores" if model.endswith(".onnx") else "")


def filled(
    given: InputMap, names: Sequence[str], modalities: Sequence[str], what: str, *, positional: bool = False
) -> InputMap:
    """The map of a model whose inputs are called `names`; an empty one says that they are called as our columns.

    `positional`: the model knows its arguments by their places; a map that calls them otherwise has them in their
    order.

    Raises ValueError where an input has no column, the map names an input that the model has not, or documents come
    flat and an input says which places of a list are real.
    """
    found = dict(given.inputs)
    if not found:
        found = {name: (name,) for name in names if name in (*modalities, *OTHERS)}
    if positional and given.inputs and set(found) != set(names):
        if len(found) != len(names):
            raise ValueError(
                f"{what} takes {len(names)} arguments in this order: {', '.join(names)}; --inputs names "
                f"{len(found)} ({', '.join(found)})"
            )
        half = [name for name in found if name in names]
        if half:
            raise ValueError(
                f"--inputs names {', '.join(half)} as {what} does, and {', '.join(n for n in found if n not in names)} "
                f"as it does not: give its own names ({', '.join(names)}), or none of them and its order"
            )
    else:
        missing = [name for name in names if name not in found]
        if missing:
            raise ValueError(
                f"{what} has the inputs {', '.join(names)}, and nothing says what {', '.join(missing)} hold: give "
                f"--inputs {missing[0]}=COLUMN, of {', '.join((*modalities, *OTHERS))} (joined by + where it holds "
                "several)"
            )
        unknown = [name for name in found if name not in names]
        if unknown:
            raise ValueError(f"--inputs names {', '.join(unknown)}, and {what} has {', '.join(names)}")
        found = {name: found[name] for name in names}
    masks = [name for name, columns in found.items() if "valid" in columns]
    if masks and given.documents == "flat":
        raise ValueError(
            f"{what}: its input {masks[0]} holds valid, which says what places of a padded list are real, and "
            'documents = "flat" has no lists: say "lists", or leave documents out'
        )
    return InputMap(inputs=found, documents=given.documents, output=given.output)
