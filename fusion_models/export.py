"""A ranker as a file that serves without this code: torch.export, and ONNX for onnxruntime.

The graph scores documents, `[N, D]` a named input -> `[N]`, with N dynamic: a ranker scores each candidate from its own
features and the query's, so a batch of lists is its documents one after another. `Scorer`s put lists round it.
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

from fusion_models.data.batch import Batch
from fusion_models.models import FusionRanker

Scorer = Callable[[Batch], Tensor]
"""A batch of lists -> scores `[B, L]`."""

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
EXAMPLE_DOCUMENTS = 6
TOLERANCE = 1e-5
"""Largest difference of a score that an exact export may show."""


class ExportError(RuntimeError):
    """A ranker that could not be exported, or a package that this needs."""


class DocumentScorer(nn.Module):
    """A ranker's scores and nothing else: `[N, D]` a named input -> `[N]`."""

    def __init__(self, ranker: FusionRanker, names: tuple[str, ...]) -> None:
        super().__init__()
        self.ranker, self.names = ranker, names

    def forward(self, *inputs: Tensor) -> Tensor:
        """Inputs in the order of `names`."""
        given = {name: x.unsqueeze(1) for name, x in zip(self.names, inputs, strict=True)}
        first = inputs[0]
        zeros = first.new_zeros(first.shape[0], 1)
        v1 = given["v1"].squeeze(-1) if "v1" in given else zeros
        context = given["context"] if "context" in given else first.new_zeros(first.shape[0], 1, 0)
        features = {m: given[m] for m in self.ranker.modalities}
        batch = Batch(features, context, zeros, v1, zeros >= 0, zeros[:, 0], zeros)
        return self.ranker(batch).scores.squeeze(1)  # type: ignore[no-any-return]


def input_names(ranker: FusionRanker) -> tuple[str, ...]:
    """What a ranker reads: its modalities, `context` where the data have any, `v1` where the recipe lets it in."""
    encoder = ranker.projections.context
    read = [*ranker.modalities]
    if encoder.project is not None:
        read.append("context")
    if encoder.v1 is not None:
        read.append("v1")
    return tuple(read)


def document_inputs(batch: Batch, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    """A batch's documents one after another, padding included: `[B * L, D]` a name (`v1`: `[B * L, 1]` float64)."""
    found = {**batch.features, "context": batch.context, "v1": batch.v1_seen.double().unsqueeze(-1)}
    return tuple(found[name].flatten(0, 1) for name in names)


def export_program(ranker: FusionRanker) -> torch.export.ExportedProgram:
    """The ranker as an exported program with a dynamic number of documents.

    Raises ExportError, with torch's reason.
    """
    names = input_names(ranker)
    scorer = DocumentScorer(ranker.eval(), names)
    documents = torch.export.Dim("documents")
    try:
        with torch.no_grad(), _quiet():
            return torch.export.export(
                scorer, _example(ranker, names), dynamic_shapes={"inputs": tuple({0: documents} for _ in names)}
            )
    except Exception as error:
        raise ExportError(f"torch.export refused the ranker: {error}") from error


def export_onnx(ranker: FusionRanker, path: Path, program: torch.export.ExportedProgram | None = None) -> Path:
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


def eager_scorer(ranker: FusionRanker) -> Scorer:
    """The ranker as it was trained."""
    ranker.eval()

    def scores(batch: Batch) -> Tensor:
        with torch.inference_mode(), ranker.scores_only():
            return ranker(batch).scores  # type: ignore[no-any-return]

    return scores


def program_scorer(program: torch.export.ExportedProgram, names: tuple[str, ...]) -> Scorer:
    """An exported program over lists."""
    module = program.module()
    return _over_lists(lambda inputs: module(*inputs), names)


def compiled_scorer(ranker: FusionRanker) -> Scorer:
    """The ranker through torch.compile, one graph for every number of documents.

    Raises ExportError where there is no compiler that works.
    """
    names = input_names(ranker)
    compiled = torch.compile(DocumentScorer(ranker.eval(), names), dynamic=True, fullgraph=True)
    scorer = _over_lists(lambda inputs: compiled(*inputs), names)
    example = _example(ranker, names)
    try:
        with torch.inference_mode(), _quiet():
            for documents in (EXAMPLE_DOCUMENTS, EXAMPLE_DOCUMENTS - 1):
                compiled(*(x[:documents] for x in example))
    except Exception as error:
        raise ExportError(f"torch.compile does not work here: {str(error).splitlines()[0]}") from error
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
    def scores(batch: Batch) -> Tensor:
        with torch.inference_mode():
            return run(document_inputs(batch, names)).reshape(batch.v1.shape)

    return scores


def _example(ranker: FusionRanker, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    projections = ranker.projections
    encoders: dict[str, Any] = dict(projections.encoders.items())
    widths: dict[str, int] = {m: encoders[m].project.in_features for m in ranker.modalities}
    project = projections.context.project
    widths |= {"context": project.in_features if project is not None else 0, "v1": 1}
    generator = torch.Generator().manual_seed(0)
    found = {name: torch.randn(EXAMPLE_DOCUMENTS, widths[name], generator=generator) for name in names}
    return tuple(x.double() if name == "v1" else x for name, x in found.items())


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
