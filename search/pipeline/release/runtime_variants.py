"""How fast the finalist answers, and what each way of making it faster costs: latency.csv, and the exported files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import nan
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from fusion_models import export, latency
from fusion_models.data import RankingDataset
from fusion_models.data.clusters import query_clusters
from fusion_models.metrics import Interval, block_quantile_interval, poisson_arrivals, summarise_latency
from fusion_models.quantities import Outputs
from fusion_models.work import tell, told
from search.analysis.archive import RELEASE_RULE_LEVEL
from search.analysis.measure import mean_ndcg
from search.pipeline.context import Run
from search.pipeline.late import costs_itself
from search.pipeline.release.rungs import (
    EXPORTS,
    INPUTS,
    V1_SUM,
    Rung,
    describe_inputs,
    empty_exports,
    finalist_rungs,
    parameters,
    smaller_rungs,
    v1_rung,
    why,
)
from search.pipeline.release.variant_quality import EXACT, FAILS, own_quality, variant_outputs
from search.run_store.artifacts import load_ranker
from search.run_store.csv_tables import write_csv
from search.run_store.folder import RunFolder
from spaces import Phase

SPLIT = "validation"
UTILISATION = 0.3
"""Share of the time in which the eager ranker is busy at the arrivals' rate: every rung gets the same traffic."""
REQUESTS, FEWEST_REQUESTS, WARM_UP = 400, 60, 20
SECONDS_A_CELL = 4.0
"""About how long the arrivals of one cell of the grid last; the judged lists get all their requests."""
CANDIDATES, BATCHES = (20, 100, 500), (1, 8)


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


def measure_variants(run: Run, trial_id: str, front: RunFolder, size: TimingSize) -> RuntimeVariants:
    """Export the training `trial_id`, time every rung on one open-loop schedule, and write latency.csv and `export/`.

    Threads are those of one training (`--cpus-per-worker`). nDCG is the validation split's. Nothing else should run.
    Only the eager ranker on the judged lists must work: any other rung that fails is *not measured*.
    """
    ranker = load_ranker(run.folder.checkpoints / trial_id, run.data)
    folder, threads = run.folder.path / "export", run.options.cpus_per_worker
    empty_exports(folder)
    with costs_itself(run.console, f"export/{INPUTS}", "the exports stand without it", files=[folder / INPUTS]):
        describe_inputs(ranker, folder, run.data)
    with _threads(threads):
        built: list[Rung] = []
        for rung in finalist_rungs(ranker, trial_id, folder, threads=threads, compiled=size.compiled):
            built.append(rung)
            tell(f"exporting {trial_id}", len(built), EXPORTS + size.compiled)
        built += smaller_rungs(front, run.data, folder, than=parameters(ranker), threads=threads)
        built.append(v1_rung(run.data, run.phase.v1_reads))
        cells: list[tuple[int | None, int]] = [(None, 1)]
        cells += [(c, b) for c in size.candidates for b in size.batches]
        rungs, rows = _accuracy(built, run.data, run.phase)
        table = pd.DataFrame(_timed(run, rungs, rows, cells, size.requests, threads))
    write_csv(table, run.folder, "latency.csv")
    return RuntimeVariants(table=table, released=released(table), fastest=fastest(table))


def _accuracy(rungs: Sequence[Rung], data: RankingDataset, phase: Phase) -> tuple[list[Rung], list[dict[str, Any]]]:
    """The rungs, those that fail without a scorer; for each its nDCG, what it costs against the eager finalist, and
    its largest difference of a score.

    A rung that does not score as the finalist does also has a gain and a drop of its own.
    """
    clusters = query_clusters(data, SPLIT)
    assert rungs[0].scorer is not None
    reference = variant_outputs(rungs[0].scorer, data, SPLIT)
    ran, rows = [], []
    for rung in rungs:
        numbers: dict[str, Any] = {}
        try:
            if rung.scorer is not None:
                found = reference if rung is rungs[0] else variant_outputs(rung.scorer, data, SPLIT)
                numbers = _numbers(rung, found, reference)
                if numbers and not numbers.get("largest_difference", nan) <= export.TOLERANCE:
                    outputs = variant_outputs(rung.scorer, data, SPLIT, phase.suspect)
                    numbers |= own_quality(phase, outputs, clusters)
        except Exception as error:  # of a runtime, on lists that it did not see when it was built
            if rung is rungs[0]:
                raise
            rung, numbers = rung.failed(error), {}
        row: dict[str, Any] = {"ranker": rung.ranker, "runtime": rung.runtime, "parameters": rung.parameters or nan}
        row |= {"status": "measured" if rung.scorer is not None else "not measured", "note": rung.note}
        ran.append(rung)
        rows.append(row | numbers)
    return ran, rows


def _numbers(rung: Rung, found: Outputs, reference: Outputs) -> dict[str, Any]:
    """What a rung's scores say, but for V1's stand-in, which is there for its time. Raises ValueError for NaN."""
    valid = reference.lists.valid
    if not np.isfinite(found.scores[valid]).all():
        raise ValueError("not all of its scores are finite")
    if rung.ranker == V1_SUM:
        return {}
    reached = mean_ndcg(found)
    numbers = {"ndcg": reached, "ndcg_cost": mean_ndcg(reference) - reached, "quality": EXACT, "fails_in": ""}
    if rung.release:
        numbers["largest_difference"] = float(np.abs(found.scores - reference.scores)[valid].max())
    return numbers


def _timed(
    run: Run,
    rungs: Sequence[Rung],
    rows: Sequence[dict[str, Any]],
    cells: Sequence[tuple[int | None, int]],
    requests: int,
    threads: int,
) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    rungs, rows = list(rungs), list(rows)
    for candidates, size in told("timing requests", cells):
        generator = np.random.default_rng(run.options.seed)
        asked = latency.single_requests(run.data, SPLIT, WARM_UP + requests, size)
        warm, timed = asked[:WARM_UP], asked[WARM_UP:]
        failed, rate, arrivals = "", nan, np.zeros(0)
        try:
            assert rungs[0].scorer is not None
            rate = UTILISATION / latency.warm_seconds(latency.answerer(rungs[0].scorer, run.data, candidates), warm)
            count = requests if candidates is None else int(np.clip(SECONDS_A_CELL * rate, FEWEST_REQUESTS, requests))
            arrivals = poisson_arrivals(rate, count, generator)
        except Exception as error:
            if candidates is None:
                raise
            failed = f"no rate, since the eager ranker failed here: {why(error)}"
        for place, (rung, row) in enumerate(zip(rungs, rows, strict=True)):
            if candidates is not None and not rung.grid:
                continue
            found = dict(row) | {"candidates": candidates or "as judged", "batch": size, "threads": threads}
            if rung.scorer is not None and failed:
                found |= {"status": "not measured", "note": failed}
            elif rung.scorer is not None:
                try:
                    answer = latency.answerer(rung.scorer, run.data, candidates)
                    latency.warm_seconds(answer, warm)
                    milliseconds = latency.open_loop(answer, timed[: len(arrivals)], arrivals)
                    found |= quantiles(milliseconds, generator) | {"requests_per_second": rate}
                except Exception as error:
                    if place == 0 and candidates is None:
                        raise
                    said = {"status": "not measured", "note": why(error)}
                    found |= said
                    if candidates is None:  # what it would be released for: nothing else of it is timed, or stays
                        rungs[place], rows[place] = rung.failed(error), row | said
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


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
