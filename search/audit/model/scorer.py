"""A foreign model as a scorer of batches: inputs made of columns, scores checked and laid back into lists."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_models.data.batch import Batch
from fusion_models.export import Scorer
from search.audit.model.files import ModelError, Opened, first_line
from search.audit.model.input_map import OTHERS, InputMap, filled

Array = npt.NDArray[Any]
OURS = tuple(str(Path(__file__).resolve().parents[3] / name) for name in ("search", "fusion_models"))
"""Folders of this project's own code."""


def scorer_of(model: Opened, given: InputMap, modalities: Sequence[str], tick: Callable[[], None]) -> Scorer:
    """Batch -> scores `[B, L]` float64; `tick` is called after every answer of the model.

    Documents are handed over flat without padding; lists padded where the model is told which places are real, else
    one list at a time. Calling it raises ModelError where the model fails, or its scores have another shape or are not
    finite.
    """
    names = model.names if model.names is not None else list(given.inputs) or [*modalities, *OTHERS[:2]]
    known = filled(given, names, modalities, model.name, positional=model.positional)
    types = dict(zip(known.inputs, model.types.values(), strict=False)) if model.positional else model.types
    lists = known.in_lists
    masked = any("valid" in columns for columns in known.inputs.values())

    def arrays(columns: dict[str, Array]) -> dict[str, Array]:
        out = {}
        for name, parts in known.inputs.items():
            found = [columns[part] for part in parts]
            joined = found[0] if len(found) == 1 else np.concatenate(found, axis=-1)
            out[name] = np.ascontiguousarray(joined.astype(types.get(name, np.float32), copy=False))
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
        return _checked(answer, shape, model.name, _shapes(given))

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


def _checked(given: Any, shape: tuple[int, ...], name: str, asked: str) -> Array:
    answer = _plain(given)
    if answer is None or answer.dtype.kind not in "fiu":
        what = str(answer.dtype) if answer is not None else ""
        if what in ("", "object"):
            what = "an array of objects" if isinstance(given, np.ndarray) else f"a {type(given).__name__}"
        raise ModelError(f"{name} gave {what} for {asked}: give an array of numbers, one a document")
    if answer.shape == (*shape, 1):
        answer = answer[..., 0]
    if answer.shape != shape:
        wanted = " x ".join(map(str, shape))
        raise ModelError(
            f"{name} gave scores of shape {answer.shape} for {asked}: {wanted} are wanted, one a document "
            '(documents = "lists" in --inputs hands whole lists over)'
        )
    return answer.astype(np.float64)


def _hint(said: str, *, lists: bool) -> str:
    """What to do about a runtime's complaint on the shape of its inputs."""
    if "rank" in said and not lists:
        return ' (documents = "lists" in --inputs hands whole lists over)'
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
