"""The ways to run the finalist, and smaller rankers beside it. One that cannot be built or fails costs itself alone."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from fusion_models import export
from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch
from fusion_models.export import ExportError, Scorer
from fusion_models.files import write_whole
from fusion_models.models import Ranker
from fusion_models.work import told
from fusion_models.work.foreign import first_line
from search.run_store.artifacts import WEIGHTS, load_ranker
from search.run_store.folder import RunFolder, json_text

SMALLER = 2
"""Front trials with fewer parameters than the finalist that are timed beside it."""
EXPORTS = 4
"""Runtimes of the finalist, torch.compile apart."""
INPUTS = "inputs.json"
EXPORTED = (".pt2", ".onnx")
V1_SUM = "V1: weighted sum of its features"


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One way to score: of which ranker, run how."""

    ranker: str
    runtime: str
    scorer: Scorer | None = None
    """None: it could not be built, or fails; `note` says why."""
    parameters: int = 0
    release: bool = False
    """Whether it may stand for the finalist where it scores the same."""
    grid: bool = False
    """Whether it is also timed over numbers of candidates and batches."""
    file: Path | None = None
    """What it was exported to."""
    note: str = ""

    def built(self, build: Callable[[], Scorer]) -> Rung:
        """The rung with the scorer that `build` gives; whatever that raises becomes its note."""
        try:
            return dataclasses.replace(self, scorer=build())
        except Exception as error:  # of exporters, runtimes, disks
            return self.failed(error)

    def failed(self, error: Exception) -> Rung:
        """The rung without a scorer, and without its file: what does not run is nothing to release."""
        if self.file is not None:
            with contextlib.suppress(OSError):
                self.file.unlink(missing_ok=True)
        return dataclasses.replace(self, scorer=None, note=why(error))


def why(error: Exception) -> str:
    """An exception as a note in latency.csv."""
    said = first_line(error)
    return said if isinstance(error, ExportError) or said == type(error).__name__ else f"{type(error).__name__}: {said}"


def describe_inputs(ranker: Ranker, folder: Path, data: RankingDataset) -> None:
    """Write inputs.json, which says what the inputs of the exports in `folder` hold."""
    write_whole(folder / INPUTS, json_text(export.described_inputs(ranker, data.schema, data.statistics)))


def empty_exports(folder: Path) -> None:
    """Make `folder`, without the exports that an interrupted run left: a file there is of a rung that runs now."""
    with contextlib.suppress(OSError):  # where that fails, so does every rung that writes a file
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            if path.suffix in EXPORTED:
                path.unlink(missing_ok=True)


def finalist_rungs(ranker: Ranker, name: str, folder: Path, *, threads: int, compiled: bool) -> Iterator[Rung]:
    """The finalist as it was trained, then its exports, which are written to `folder`."""
    names = export.input_names(ranker)

    def rung(runtime: str, file: str | None = None, *, grid: bool = False) -> Rung:
        place = None if file is None else folder / file
        return Rung(ranker=name, runtime=runtime, parameters=parameters(ranker), release=True, grid=grid, file=place)

    yield dataclasses.replace(rung("eager", grid=True), scorer=export.eager_scorer(ranker))
    program = None
    saved = rung("torch.export", "ranker.pt2")
    try:
        program = export.export_program(ranker)
    except Exception as error:
        yield saved.failed(error)
    else:
        yield saved.built(lambda: _saved(program, names, folder / "ranker.pt2"))
    if compiled:
        yield rung("torch.compile").built(lambda: export.compiled_scorer(ranker))
    path, target = folder / "ranker.onnx", folder / "ranker-int8.onnx"
    exact = rung("onnxruntime", path.name, grid=True).built(
        lambda: export.onnx_scorer(export.export_onnx(ranker, path, program), names, threads)
    )
    yield exact
    rounded = rung("onnxruntime, dynamic int8", target.name)
    if exact.scorer is None:
        yield dataclasses.replace(rounded, note=exact.note)
    else:
        yield rounded.built(lambda: export.onnx_scorer(export.quantise_onnx(path, target), names, threads))


def _saved(program: torch.export.ExportedProgram, names: tuple[str, ...], path: Path) -> Scorer:
    torch.export.save(program, path)
    return export.program_scorer(program, names)


def smaller_rungs(front: RunFolder, data: RankingDataset, folder: Path, *, than: int, threads: int) -> list[Rung]:
    """Two ways to run each of a few front trials with fewer parameters than `than`."""
    try:
        names = _smaller(front, than)
    except Exception as error:
        return [Rung(ranker="smaller rankers of the front", runtime="eager").failed(error)]
    found = []
    for name in told("exporting smaller rankers", names):
        try:
            model = load_ranker(front.checkpoints / name, data)
            found += _rungs_of(name, model, folder / f"{name}.onnx", threads)
        except Exception as error:
            found.append(Rung(ranker=name, runtime="eager").failed(error))
    return found


def _rungs_of(name: str, model: Ranker, path: Path, threads: int) -> list[Rung]:
    names, size = export.input_names(model), parameters(model)
    fast = Rung(ranker=name, runtime="onnxruntime", parameters=size, file=path)
    return [
        Rung(ranker=name, runtime="eager", scorer=export.eager_scorer(model), parameters=size),
        fast.built(lambda: export.onnx_scorer(export.export_onnx(model, path), names, threads)),
    ]


def _smaller(front: RunFolder, than: int) -> list[str]:
    """Front trials with fewer parameters: the smallest, then the best of the others."""
    path = front.path / "pareto.csv"
    if not path.exists():
        return []
    table = pd.read_csv(path, dtype={"trial_id": str})
    table = table[table["parameters"] < than].sort_values("parameters")
    kept = [t for t in table["trial_id"] if (front.checkpoints / t / WEIGHTS).exists()]
    ndcgs = table.set_index("trial_id")["ndcg"]
    others = sorted(kept[1:], key=lambda t: -float(ndcgs[t]))
    return [*kept[:1], *others][:SMALLER]


def v1_rung(data: RankingDataset, v1_reads: Sequence[str]) -> Rung:
    """What V1 does, as far as time goes: one weighted sum of the features that it reads, a candidate."""
    generator = torch.Generator().manual_seed(0)
    weights = {m: torch.randn(data.schema.width(m), generator=generator) for m in v1_reads}

    def scores(batch: Batch) -> Tensor:
        parts = [batch.features[m] @ w for m, w in weights.items()]
        return torch.stack(parts or [batch.v1]).sum(dim=0)

    return Rung(ranker=V1_SUM, runtime="torch", scorer=scores, grid=True)


def parameters(ranker: Ranker) -> int:
    """Numbers that are trained."""
    return sum(p.numel() for p in ranker.parameters())
