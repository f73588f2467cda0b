"""A ranker as a file that serves without this code: torch.export, and ONNX for onnxruntime.

One training of our family scores each candidate from its own features and the query's, so its graph scores documents:
`[N, D]` a named input -> `[N]`, with N dynamic; a batch of lists is its documents one after another. An ensemble
standardises over a list, somebody's own ranker may read one whole, and V1's score may be read beside those of the list
(`data.arrays.v1_scores`), so such graphs score lists: `[B, L, D]` a named input and `valid` `[B, L]` -> `[B, L]`, with
B and L dynamic. The input `v1` is V1's score itself. What is made of it, and the trees of a tuned V1 in the context,
are part of the graph. `Scorer`s put lists round it.
ONNX needs the optional extra `export` (onnx, onnxscript, onnxruntime).
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fusion_models.data.arrays.scalars import ScalarEncoding
from fusion_models.data.arrays.v1_scores import v1_input_of_lists
from fusion_models.data.batch import Batch
from fusion_models.data.schema import FeatureSchema, FeatureStatistics
from fusion_models.models import Ranker
from fusion_models.work.foreign import first_line

Scorer = Callable[[Batch], Tensor]
"""A batch of lists -> scores `[B, L]`."""

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
VALID = "valid"
NOT_FEATURES = ("context", "v1", VALID)
"""Inputs of a scorer that are no modality."""
EXAMPLE_LISTS = 3
EXAMPLE_DOCUMENTS = 6
TOLERANCE = 1e-5
"""Largest difference of a score that an exact export may show."""


class ExportError(RuntimeError):
    """A ranker that could not be exported, or a package that this needs."""


class DocumentScorer(nn.Module):
    """A ranker's scores and nothing else: `[N, D]` a named input -> `[N]`."""

    def __init__(self, ranker: Ranker, names: tuple[str, ...]) -> None:
        super().__init__()
        self.ranker, self.names = ranker, names

    def forward(self, *inputs: Tensor) -> Tensor:
        """Inputs in the order of `names`: every document a list of its own."""
        return self._scores(tuple(x.unsqueeze(1) for x in inputs)).squeeze(1)

    def _scores(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """`[B, L, D]` a name (`valid`: `[B, L]`; without it all documents are real) -> `[B, L]`."""
        given = dict(zip(self.names, inputs, strict=True))
        first = inputs[0]
        zeros = first.new_zeros(first.shape[:2])
        v1 = given["v1"].squeeze(-1) if "v1" in given else zeros
        context = given["context"] if "context" in given else first.new_zeros(*first.shape[:2], 0)
        features = {m: given[m] for m in self.names if m not in NOT_FEATURES}
        valid = given.get(VALID, zeros >= 0)
        seen = v1_input_of_lists(v1, valid, self.ranker.members[0].v1_input) if "v1" in given else v1
        batch = Batch(features, context, zeros, v1, valid, zeros[:, 0], zeros, v1_input=seen)
        return self.ranker(self.ranker.complete(batch)).scores  # type: ignore[no-any-return]


class ListScorer(DocumentScorer):
    """The same over lists: `[B, L, D]` a named input and `valid` `[B, L]` -> `[B, L]`."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Inputs in the order of `names`.

        Every list gets one place of padding: torch.export would else make a graph that refuses lists of one document.
        """
        padded = tuple(torch.cat([x, torch.zeros_like(x[:, :1])], dim=1) for x in inputs)
        return self._scores(padded)[:, :-1]


def input_names(ranker: Ranker) -> tuple[str, ...]:
    """What a ranker reads, its context's trees included: modalities, `context` where the data have any, `v1` where the
    recipe lets it in; `valid` where it scores lists, or reads V1's score beside the others of a list."""
    first = ranker.members[0]
    read = first.reads()
    in_lists = ranker.scores_whole_lists or ("v1" in read and first.v1_input != "score")
    return (*read, VALID) if in_lists else read


def described_inputs(ranker: Ranker, schema: FeatureSchema, statistics: FeatureStatistics) -> dict[str, Any]:
    """What each input of an exported ranker holds, JSON-ready: the names in their order, and by name its `type`,
    `width`, the columns that it is made of, and how scalar columns are encoded."""
    names = input_names(ranker)
    widths = ranker.members[0].input_widths
    return {
        "inputs": list(names),
        "output": "scores",
        "rows": "lists" if VALID in names else "documents",
        "exact_to": TOLERANCE,
        "columns": {
            name: {"type": str(_example_type(name)).removeprefix("torch.")}
            | ({} if name == VALID else {"width": widths.get(name, 1), "holds": _holds(name, schema, statistics)})
            | ({"read_as": statistics.v1_input} if name == "v1" else {})
            for name in names
        },
    }


def _holds(name: str, schema: FeatureSchema, statistics: FeatureStatistics) -> list[dict[str, Any]]:
    """The columns of the three tables that an input is made of, one behind the other."""
    if name == "context":
        parts = {"queries.features": schema.query, "judgements.features": schema.pair}
        return [{"column": column, "width": width} for column, width in parts.items() if width]
    if name == "v1":
        return [{"column": "judgements.v1_score", "width": 1}]
    encoding = ScalarEncoding.from_json(statistics.encodings.get(name, []))
    listed = schema.width(name) - encoding.width
    vector = [{"column": f"items.{name}", "width": listed}] if listed else []
    return vector + [
        {"column": f"items.{each['name']}", "width": len(each["categories"]) + 1 if "categories" in each else 1}
        | {key: each[key] for key in ("mean", "std", "time", "categories") if key in each}
        for each in encoding.to_json()
    ]


def list_inputs(batch: Batch, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    """A batch's lists: `[B, L, D]` a name (`v1`: `[B, L, 1]`, `valid`: `[B, L]`)."""
    found = {**batch.features, "context": batch.context, "v1": batch.v1.double().unsqueeze(-1), VALID: batch.valid}
    return tuple(found[name] for name in names)


def document_inputs(batch: Batch, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    """A batch's documents one after another, padding included: `[B * L, D]` a name (`v1`: `[B * L, 1]`)."""
    return tuple(x.flatten(0, 1) for x in list_inputs(batch, names))


def export_program(ranker: Ranker) -> torch.export.ExportedProgram:
    """The ranker as an exported program with a dynamic number of documents, or of lists and candidates.

    Raises ExportError, with torch's reason.
    """
    names = input_names(ranker)
    dynamic = {0: torch.export.Dim("documents")}
    if VALID in names:
        dynamic = {0: torch.export.Dim("queries"), 1: torch.export.Dim("candidates")}
    try:
        with torch.no_grad(), _quiet():
            return torch.export.export(
                _module(ranker, names),
                _example(ranker, names),
                dynamic_shapes={"inputs": tuple(dynamic for _ in names)},
            )
    except Exception as error:
        raise ExportError(f"torch.export refused the ranker: {error}") from error


def export_onnx(ranker: Ranker, path: Path, program: torch.export.ExportedProgram | None = None) -> Path:
    """Write the ranker as an ONNX model; inputs are named as `input_names` says, the output is `scores`.

    Raises ExportError where the extra `export` is not installed, or torch's exporter refuses.
    """
    require_onnx()
    names = list(input_names(ranker))
    try:
        with torch.no_grad(), _quiet():
            torch.onnx.export(
                program or export_program(ranker),
                (),
                path,
                dynamo=True,
                external_data=False,
                verbose=False,
                input_names=names,
                output_names=["scores"],
            )
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(f"the ONNX exporter refused the ranker: {error}") from error
    return path


def quantise_onnx(path: Path, target: Path) -> Path:
    """A copy whose matrix products are done in 8-bit integers, activations scaled as they come (dynamic)."""
    require_onnx()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(path, target, weight_type=QuantType.QInt8)
    return target


def eager_scorer(ranker: Ranker) -> Scorer:
    """The ranker as it was trained."""
    ranker.eval()

    def scores(batch: Batch) -> Tensor:
        with torch.inference_mode(), ranker.scores_only():
            return ranker(ranker.complete(batch)).scores  # type: ignore[no-any-return]

    return scores


def program_scorer(program: torch.export.ExportedProgram, names: tuple[str, ...]) -> Scorer:
    """An exported program over lists."""
    module = program.module()
    return _over_lists(lambda inputs: module(*inputs), names)


def compiled_scorer(ranker: Ranker) -> Scorer:
    """The ranker through torch.compile, one graph for every number of documents (or of lists and candidates).

    Raises ExportError where there is no compiler that works.
    """
    names = input_names(ranker)
    compiled = torch.compile(_module(ranker, names), dynamic=True, fullgraph=True)
    scorer = _over_lists(lambda inputs: compiled(*inputs), names)
    example = _example(ranker, names)
    try:
        with torch.inference_mode(), _quiet():
            for first in (len(example[0]), len(example[0]) - 1):
                compiled(*(x[:first] for x in example))
    except Exception as error:
        raise ExportError(f"torch.compile does not work here: {first_line(error)}") from error
    return scorer


def onnx_scorer(path: Path, names: tuple[str, ...], threads: int) -> Scorer:
    """An ONNX model on onnxruntime's CPU provider, over lists."""
    require_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    wanted = {entry.name for entry in session.get_inputs()}

    def run(inputs: tuple[Tensor, ...]) -> Tensor:
        feed = {name: x.numpy() for name, x in zip(names, inputs, strict=True) if name in wanted}
        return torch.from_numpy(session.run(["scores"], feed)[0])

    return _over_lists(run, names)


def require_onnx() -> None:
    """Raise ExportError unless the extra `export` is installed."""
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f"{', '.join(missing)} not installed: pip install 'fusion-search[export]'")


def largest_difference(one: Scorer, other: Scorer, batch: Batch) -> float:
    """Largest |difference| of the scores of real documents."""
    return float(np.abs((one(batch) - other(batch))[batch.valid].numpy()).max())


def _over_lists(run: Callable[[tuple[Tensor, ...]], Tensor], names: tuple[str, ...]) -> Scorer:
    inputs = list_inputs if VALID in names else document_inputs

    def scores(batch: Batch) -> Tensor:
        with torch.inference_mode():
            return run(inputs(batch, names)).reshape(batch.v1.shape)

    return scores


def _module(ranker: Ranker, names: tuple[str, ...]) -> nn.Module:
    return (ListScorer if VALID in names else DocumentScorer)(ranker.eval(), names)


def _example_type(name: str) -> torch.dtype:
    return {"v1": torch.float64, VALID: torch.bool}.get(name, torch.float32)


def _example(ranker: Ranker, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    shape = (EXAMPLE_LISTS, EXAMPLE_DOCUMENTS) if VALID in names else (EXAMPLE_DOCUMENTS,)
    widths = ranker.members[0].input_widths
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.ones(shape, dtype=torch.bool)
        if name == VALID
        else torch.randn(*shape, widths.get(name, 1), generator=generator, dtype=_example_type(name))
        for name in names
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters print and warn about packages that nobody asked for."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
