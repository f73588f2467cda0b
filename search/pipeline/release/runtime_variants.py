"""How fast the finalist answers, and what each way of making it faster costs: latency.csv, and the exported files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fusion_models import export, latency
from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch
from fusion_models.data.clusters import query_clusters
from fusion_models.export import ExportError, Scorer
from fusion_models.files import write_whole
from fusion_models.metrics import Interval, block_quantile_interval, poisson_arrivals, summarise_latency
from fusion_models.models import Ranker
from fusion_models.work import tell, told
from search.analysis.archive import RELEASE_RULE_LEVEL
from search.analysis.measure import mean_ndcg
from search.pipeline.context import Run
from search.pipeline.release.variant_quality import EXACT, FAILS, own_quality, variant_outputs
from search.run_store.artifacts import WEIGHTS, load_ranker
from search.run_store.csv_tables import write_csv
from search.run_store.folder import RunFolder, json_text
from spaces import Phase

SPLIT = "validation"
UTILISATION = 0.3
"""Share of the time in which the eager ranker is busy at the arrivals' rate: every rung gets the same traffic."""
REQUESTS, FEWEST_REQUESTS, WARM_UP = 400, 60, 20
SECONDS_A_CELL = 4.0
"""About how long the arrivals of one cell of the grid last; the judged lists get all their requests."""
CANDIDATES, BATCHES = (20, 100, 500), (1, 8)
SMALLER = 2
"""Front trials with fewer parameters than the finalist that are timed beside it."""
V1_SUM = "V1: weighted sum of its features"


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One way to score: of which ranker, run how."""

    ranker: str
    runtime: str
    scorer: Scorer | None
    """None: it could not be built; `note` says why."""
    parameters: int = 0
    release: bool = False
    """Whether it may stand for the finalist where it scores the same."""
    grid: bool = False
    """Whether it is also timed over numbers of candidates and batches."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class TimingSize:
    """How much is timed."""

    compiled: bool = True
    """Whether torch.compile, which takes a minute, is a rung."""
    requests: int = REQUESTS
    candidates: Sequence[int] = CANDIDATES
    """Lengths of lists in the grid; empty: only the lists as they were judged."""
    batches: Sequence[int] = BATCHES


@dataclass(frozen=True, kw_only=True)
class RuntimeVariants:
    """What was found."""

    table: pd.DataFrame
    released: Interval | None
    """P95 of the exact rung of the finalist with the least median, over the lists as they were judged."""
    fastest: Interval | None
    """The least P95 of all rungs of V2 whose own gain and drop do not fail, at the level of an archive rule."""


EXPORTS = 4
"""Runtimes of the finalist, torch.compile apart."""


def measure_variants(run: Run, trial_id: str, front: RunFolder, size: TimingSize) -> RuntimeVariants:
    """Export the training `trial_id`, time every rung on one open-loop schedule, and write latency.csv and `export/`.

    Threads are those of one training (`--cpus-per-worker`). nDCG is the validation split's. Nothing else should run.
    """
    ranker = load_ranker(run.folder.checkpoints / trial_id, run.data)
    smaller = _smaller(front, run.data, _parameters(ranker))
    threads = run.options.cpus_per_worker
    with _threads(threads):
        rungs: list[Rung] = []
        for rung in _finalist_rungs(ranker, trial_id, run.folder.path / "export", threads, size.compiled):
            rungs.append(rung)
            tell(f"exporting {trial_id}", len(rungs), EXPORTS + size.compiled)
        for name, model in told("exporting smaller rankers", smaller):
            rungs += _smaller_rungs(name, model, run.folder.path / "export", threads)
        rungs.append(
            Rung(ranker=V1_SUM, runtime="torch", scorer=_weighted_sum(run.data, run.phase.v1_reads), grid=True)
        )
        cells: list[tuple[int | None, int]] = [(None, 1)]
        cells += [(c, b) for c in size.candidates for b in size.batches]
        rows = _accuracy(rungs, run.data, run.phase)
        table = pd.DataFrame(_timed(run, rungs, rows, cells, size.requests, threads))
    write_csv(table, run.folder, "latency.csv")
    return RuntimeVariants(table=table, released=released(table), fastest=fastest(table))


def _finalist_rungs(ranker: Ranker, name: str, folder: Path, threads: int, compiled: bool) -> Iterator[Rung]:
    folder.mkdir(exist_ok=True)
    names, size = export.input_names(ranker), _parameters(ranker)
    rows = "lists" if export.VALID in names else "documents"
    inputs = {"inputs": list(names), "output": "scores", "rows": rows, "exact_to": export.TOLERANCE}
    write_whole(folder / "inputs.json", json_text(inputs))

    def rung(runtime: str, scorer: Scorer | ExportError, *, grid: bool = False) -> Rung:
        failed = isinstance(scorer, ExportError)
        return Rung(
            ranker=name,
            runtime=runtime,
            scorer=None if isinstance(scorer, ExportError) else scorer,
            parameters=size,
            release=True,
            grid=grid,
            note=str(scorer) if failed else "",
        )

    yield rung("eager", export.eager_scorer(ranker), grid=True)
    try:
        program = export.export_program(ranker)
        torch.export.save(program, folder / "ranker.pt2")
        yield rung("torch.export", export.program_scorer(program, names))
    except ExportError as error:
        yield rung("torch.export", error)
        program = None
    if compiled:
        yield rung("torch.compile", _attempt(lambda: export.compiled_scorer(ranker)))
    path = folder / "ranker.onnx"
    exact = _attempt(lambda: export.onnx_scorer(export.export_onnx(ranker, path, program), names, threads))
    yield rung("onnxruntime", exact, grid=True)
    target = folder / "ranker-int8.onnx"
    yield rung(
        "onnxruntime, dynamic int8",
        _attempt(lambda: export.onnx_scorer(export.quantise_onnx(path, target), names, threads))
        if not isinstance(exact, ExportError)
        else exact,
    )


def _smaller_rungs(name: str, model: Ranker, folder: Path, threads: int) -> list[Rung]:
    names, size = export.input_names(model), _parameters(model)
    path = folder / f"{name}.onnx"
    fast = _attempt(lambda: export.onnx_scorer(export.export_onnx(model, path), names, threads))
    failed = isinstance(fast, ExportError)
    return [
        Rung(ranker=name, runtime="eager", scorer=export.eager_scorer(model), parameters=size),
        Rung(
            ranker=name,
            runtime="onnxruntime",
            scorer=None if isinstance(fast, ExportError) else fast,
            parameters=size,
            note=str(fast) if failed else "",
        ),
    ]


def _attempt(build: Any) -> Scorer | ExportError:
    try:
        built: Scorer = build()
    except ExportError as error:
        return error
    return built


def _smaller(front: RunFolder, data: RankingDataset, than: int) -> list[tuple[str, Ranker]]:
    """Front trials with fewer parameters: the smallest, then the best of the others."""
    path = front.path / "pareto.csv"
    if not path.exists():
        return []
    table = pd.read_csv(path)
    table = table[table["parameters"] < than].sort_values("parameters")
    kept = [str(t) for t in table["trial_id"] if (front.checkpoints / str(t) / WEIGHTS).exists()]
    ndcgs = table.set_index("trial_id")["ndcg"]
    others = sorted(kept[1:], key=lambda t: -float(ndcgs[t]))
    return [(t, load_ranker(front.checkpoints / t, data)) for t in [*kept[:1], *others][:SMALLER]]


def _accuracy(rungs: Sequence[Rung], data: RankingDataset, phase: Phase) -> list[dict[str, Any]]:
    """For each rung its nDCG, what it costs against the eager finalist, and its largest difference of a score.

    A rung that does not score as the finalist does also has a gain and a drop of its own.
    """
    clusters = query_clusters(data, SPLIT)
    scored = [variant_outputs(rung.scorer, data, SPLIT) if rung.scorer is not None else None for rung in rungs]
    reference = scored[0]
    assert reference is not None
    valid, whole = reference.lists.valid, mean_ndcg(reference)
    out = []
    for rung, found in zip(rungs, scored, strict=True):
        row: dict[str, Any] = {"ranker": rung.ranker, "runtime": rung.runtime, "parameters": rung.parameters or nan}
        row |= {"status": "measured" if found else "not measured", "note": rung.note}
        if found is not None and rung.scorer is not None and rung.ranker != V1_SUM:
            reached = mean_ndcg(found)
            row |= {"ndcg": reached, "ndcg_cost": whole - reached, "quality": EXACT, "fails_in": ""}
            if rung.release:
                row["largest_difference"] = float(np.abs(found.scores - reference.scores)[valid].max())
            if not row.get("largest_difference", nan) <= export.TOLERANCE:
                outputs = variant_outputs(rung.scorer, data, SPLIT, phase.suspect)
                row |= own_quality(phase, outputs, clusters)
        out.append(row)
    return out


def _timed(
    run: Run,
    rungs: Sequence[Rung],
    rows: Sequence[dict[str, Any]],
    cells: Sequence[tuple[int | None, int]],
    requests: int,
    threads: int,
) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for candidates, size in told("timing requests", cells):
        generator = np.random.default_rng(run.options.seed)
        asked = latency.single_requests(run.data, SPLIT, WARM_UP + requests, size)
        assert rungs[0].scorer is not None
        seconds = latency.warm_seconds(latency.answerer(rungs[0].scorer, run.data, candidates), asked[:WARM_UP])
        rate = UTILISATION / seconds
        count = requests if candidates is None else int(np.clip(SECONDS_A_CELL * rate, FEWEST_REQUESTS, requests))
        arrivals = poisson_arrivals(rate, count, generator)
        for rung, row in zip(rungs, rows, strict=True):
            if candidates is not None and not rung.grid:
                continue
            found = dict(row) | {"candidates": candidates or "as judged", "batch": size, "threads": threads}
            if rung.scorer is not None:
                answer = latency.answerer(rung.scorer, run.data, candidates)
                latency.warm_seconds(answer, asked[:WARM_UP])
                milliseconds = latency.open_loop(answer, asked[WARM_UP : WARM_UP + count], arrivals)
                found |= quantiles(milliseconds, generator) | {"requests_per_second": rate}
            out.append(found)
    return out


def quantiles(milliseconds: np.ndarray[Any, np.dtype[np.float64]], generator: np.random.Generator) -> dict[str, Any]:
    """The columns of a rung's latencies `[N]`, in the order of arrival; P95 with intervals that know of queues."""
    found = summarise_latency(milliseconds)
    p95 = block_quantile_interval(milliseconds, 0.95, generator)
    rule = block_quantile_interval(milliseconds, 0.95, generator, level=RELEASE_RULE_LEVEL)
    return {
        "requests": found.requests,
        "p50_ms": found.p50,
        "p95_ms": found.p95,
        "p95_ms_ci_low": p95.low,
        "p95_ms_ci_high": p95.high,
        "p95_ms_rule_low": min(rule.low, p95.low),
        "p95_ms_rule_high": max(rule.high, p95.high),
        "p99_ms": found.p99,
        "worst_ms": found.worst,
    }


def released(table: pd.DataFrame) -> Interval | None:
    """P95 of what would be released: the rung that scores as the finalist does and has the least median."""
    exact = [r for r in _judged(table) if r.get("largest_difference", nan) <= export.TOLERANCE]
    return _interval(min(exact, key=lambda r: float(r["p50_ms"]))) if exact else None


def fastest(table: pd.DataFrame) -> Interval | None:
    """The least P95 of V2, at the level of an archive rule; the rung whose interval begins lowest.

    A lossy rung or a smaller recipe counts unless its own gain or drop fails: what saves time must still be worth it.
    """
    rungs = [r for r in _judged(table) if r["ranker"] != V1_SUM and r.get("quality") != FAILS]
    return _interval(min(rungs, key=lambda r: float(r["p95_ms_rule_low"])), "rule") if rungs else None


def _judged(table: pd.DataFrame) -> list[dict[Any, Any]]:
    """Rows of the lists as they were judged that could be timed."""
    return table[(table["candidates"] == "as judged") & table["p95_ms"].notna()].to_dict("records")


def _interval(row: Mapping[Any, Any], kind: Literal["ci", "rule"] = "ci") -> Interval:
    level = 0.95 if kind == "ci" else RELEASE_RULE_LEVEL
    return Interval(float(row["p95_ms"]), float(row[f"p95_ms_{kind}_low"]), float(row[f"p95_ms_{kind}_high"]), level)


def _weighted_sum(data: RankingDataset, v1_reads: Sequence[str]) -> Scorer:
    """What V1 does, as far as time goes: one weighted sum of the features that it reads, a candidate."""
    generator = torch.Generator().manual_seed(0)
    weights = {m: torch.randn(data.schema.width(m), generator=generator) for m in v1_reads}

    def scores(batch: Batch) -> Tensor:
        parts = [batch.features[m] @ w for m, w in weights.items()]
        return torch.stack(parts or [batch.v1]).sum(dim=0)

    return scores


def _parameters(ranker: Ranker) -> int:
    return sum(p.numel() for p in ranker.parameters())


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
