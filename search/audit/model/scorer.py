"""A foreign model as a scorer of batches: inputs made of columns, scores checked and laid back into lists."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.data.batch import Batch
from fusion_models.export import Scorer
from fusion_models.work.foreign import first_line
from search.audit.model.files import ModelError, Opened
from search.audit.model.input_map import OTHERS, InputMap, filled

Array = npt.NDArray[Any]
OURS = tuple(str(Path(__file__).resolve().parents[3] / name) for name in ("search", "fusion_models"))
"""Folders of this project's own code."""
LISTS = ' (documents = "lists" in --inputs hands whole lists over)'


def known_map(model: Opened, given: InputMap, modalities: Sequence[str]) -> InputMap:
    """The map with every input of the model in it. Raises ValueError where it does not fit the model."""
    names = model.names if model.names is not None else list(given.inputs) or [*modalities, *OTHERS[:2]]
    return filled(given, names, modalities, model.name, positional=model.positional)


def scorer_of(
    model: Opened, given: InputMap, modalities: Sequence[str], tick: Callable[[], None], *, rounded: bool = False
) -> Scorer:
    """Batch -> scores `[B, L]` float64; `tick` is called after every answer of the model.

    Documents are handed over flat without padding; lists padded where the model is told which places are real, else
    one list at a time. `rounded`: an input of whole numbers gets the nearest ones, as it must of a mean. Calling it
    raises ModelError where the model fails, or its scores have another shape or are not finite, or an input cannot hold
    the numbers of its columns.
    """
    known = known_map(model, given, modalities)
    types, ranks = model.types, model.ranks
    if model.positional and model.names is not None:
        own = dict(zip(known.inputs, model.names, strict=True))
        types = {name: types[there] for name, there in own.items() if there in types}
        ranks = {name: ranks[there] for name, there in own.items() if there in ranks}
    lists = known.in_lists
    masked = any("valid" in columns for columns in known.inputs.values())

    def arrays(columns: dict[str, Array]) -> dict[str, Array]:
        """Copies, which a model may change as it likes."""
        out = {}
        for name, parts in known.inputs.items():
            found = [columns[part] for part in parts]
            joined = found[0] if len(found) == 1 else np.concatenate(found, axis=-1)
            kind = np.dtype(types.get(name, np.bool_ if parts == ("valid",) else np.float32))
            if kind.kind in "iub" and joined.dtype.kind == "f":
                joined = _whole(joined, kind, f"{model.name}: its input {name}", rounded=rounded)
            out[name] = _of_rank(np.array(joined, dtype=kind, order="C"), ranks.get(name), mask=parts == ("valid",))
        return out

    def ask(columns: dict[str, Array], shape: tuple[int, ...]) -> Array:
        given = arrays(columns)
        try:
            answer = model.run(given)
        except ModelError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {first_line(error)}{_hint(first_line(error), lists=lists)}"
            raise ModelError(f"{model.name} failed on {_shapes(given)}: {said}{_where(error)}") from error
        tick()
        return _checked(answer, shape, model, _shapes(given))

    def scores(batch: Batch) -> Tensor:
        valid = batch.valid.numpy()
        columns = _columns(batch)
        out = np.zeros(valid.shape)
        if not lists:
            flat = {name: x[valid] for name, x in columns.items() if name != "valid"}
            out[valid] = ask(flat, (int(valid.sum()),))
        elif masked:
            found = ask(columns | {"valid": valid}, valid.shape)
            out[valid] = found[valid]
        else:
            for i, count in enumerate(valid.sum(axis=1)):
                one = {name: x[i : i + 1, :count] for name, x in columns.items()}
                out[i, :count] = ask(one, (1, int(count)))[0]
        bad = np.argwhere(valid & ~np.isfinite(out))
        if len(bad):
            row, place = int(batch.query[bad[0][0]]), int(bad[0][1])
            raise ModelError(
                f"{model.name} gave {out[tuple(bad[0])]} for {len(bad)} of {int(valid.sum())} documents; the first: "
                f"candidate {place} of query row {row}. Scores must be finite"
            )
        return torch.from_numpy(out)

    return scores


def _columns(batch: Batch) -> dict[str, Array]:
    """Column -> `[B, L, D]`."""
    found = {name: x.numpy() for name, x in batch.features.items()}
    return found | {
        "context": batch.context.numpy(),
        "v1": batch.v1.double().unsqueeze(-1).numpy(),
        "v1_seen": batch.v1_seen.double().unsqueeze(-1).numpy(),
        "valid": batch.valid.numpy(),
    }


def _plain(answer: Any) -> Array | None:
    """What a model may give as an array: one, a list, a tensor of any device and type; None where it is none."""
    if isinstance(answer, Tensor):
        answer = answer.detach().cpu().to_dense()
        return np.asarray((answer.float() if answer.dtype == torch.bfloat16 else answer).numpy())
    try:
        return np.asarray(answer)
    except Exception:  # whatever an object's own conversion raises
        return None


def _whole(given: Array, kind: np.dtype[Any], what: str, *, rounded: bool) -> Array:
    """Numbers for an input of whole ones. Raises ModelError where it cannot hold them."""
    if rounded:
        given = np.rint(given)
    with np.errstate(invalid="ignore"):  # what lies beyond the type is told below
        lost = given.astype(kind) != given
    if lost.any():
        raise ModelError(
            f"{what} takes {kind}, which cannot hold {given[lost][0]:g}: export it with a float input, or name columns "
            "that hold such numbers"
        )
    return given


def _of_rank(given: Array, rank: int | None, *, mask: bool) -> Array:
    """The array in the dimensions that the input has: a width of 1 may be left out, or put behind a mask."""
    if rank == given.ndim - 1 and given.shape[-1] == 1:
        return given[..., 0]
    return given[..., None] if mask and rank == given.ndim + 1 else given


def _checked(given: Any, shape: tuple[int, ...], model: Opened, asked: str) -> Array:
    name = model.name
    answer = _plain(_of_class(given, model)) if model.column else _plain(given)
    if answer is None or answer.dtype.kind not in "fiu":
        what = str(answer.dtype) if answer is not None else ""
        if what in ("", "object"):
            what = "an array of objects" if isinstance(given, np.ndarray) else f"a {type(given).__name__}"
        hint = ""
        if model.output and isinstance(given, list) and given and isinstance(given[0], Mapping):
            what, hint = "a dict of classes a document", f": {_column_hint(model, list(map(str, given[0])))}"
        raise ModelError(f"{name} gave {what} for {asked}{hint or ': give an array of numbers, one a document'}")
    if model.column and answer.shape[:-1] == shape:
        width = answer.shape[-1]
        if not model.column.isdecimal() or int(model.column) >= width:
            raise ModelError(
                f"{name} gave {width} numbers a document, of which {model.column} is none: 0 to {width - 1}"
            )
        answer = answer[..., int(model.column)]
    elif answer.shape == (*shape, 1):
        answer = answer[..., 0]
    if answer.shape != shape:
        wanted, hint = " x ".join(map(str, shape)), ""
        if answer.shape[:-1] == shape:
            hint = f" ({_column_hint(model, [str(i) for i in range(answer.shape[-1])])})" if model.output else ""
        elif len(shape) == 1 and answer.ndim == 2 and 1 < len(answer) < answer.size == shape[0]:
            hint = LISTS
        raise ModelError(
            f"{name} gave scores of shape {answer.shape} for {asked}: {wanted} are wanted, one a document{hint}"
        )
    return answer.astype(np.float64)


def _of_class(given: Any, model: Opened) -> Any:
    """Of a classifier that gives a dict a document (class -> probability): the numbers of the class asked for."""
    if not isinstance(given, list) or not all(isinstance(each, Mapping) for each in given):
        return given
    found = [{str(key): value for key, value in each.items()} for each in given]
    if any(model.column not in each for each in found):
        raise ModelError(f"{model.name} knows no class {model.column}; it has {', '.join(found[0])}")
    return np.array([each[model.column] for each in found])


def _column_hint(model: Opened, columns: Sequence[str]) -> str:
    return f'output = "{model.output}:{columns[-1]}" in the TOML file of --inputs picks one of {", ".join(columns[:8])}'


def _hint(said: str, *, lists: bool) -> str:
    """What to do about a runtime's complaint on the shape of its inputs."""
    if "Invalid rank" in said and not lists:
        return LISTS
    if "index: 0 Got" in said or "size()[0] ==" in said:
        return " (it takes a fixed number of documents: export it with a dynamic one)"
    return ""


def _shapes(given: dict[str, Array]) -> str:
    return ", ".join(f"{name} {list(x.shape)}" for name, x in given.items())


def _where(error: BaseException) -> str:
    """The last line of somebody else's Python that an exception came through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((*OURS, "<"))]
    own = [f for f in frames if "site-packages" not in f.filename]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
