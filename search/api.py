"""A run from Python, for programs and notebooks: `run` makes one, `audit` judges a V2 that exists, `read` opens either.

All give a `Result`.

    from search.api import run
    result = run(items=items, queries=queries, judgements=judgements, phase="phase1", trials=12)
    result.verdict, result.gates, result.front

docs/python-api.md walks through it. The command line (`python -m search.run`) does the same with flags.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pandas as pd
from rich.console import Console

from fusion_models.config import near
from fusion_models.config.annotated import as_annotated
from fusion_models.data import RankingDataset, open_dataset
from fusion_models.data.errors import DataError
from fusion_models.data.tables import TABLES
from fusion_models.work.bar import shown_work
from search.audit.audit import run_audit
from search.audit.model.input_map import mapped_inputs
from search.audit.options import AuditOptions
from search.execution.interrupts import heard_interrupts
from search.options import RunOptions
from search.options.asked import as_source
from search.pipeline.phase import run_phase
from search.pipeline.release.production import run_production
from search.pipeline.roadmap import ROADMAP, run_roadmap
from search.reporting import RunRecord, read_run
from search.reporting.records import AUDIT
from search.reporting.terminal import make_console
from search.reporting.words import meaning
from search.run_store.folder import RunFolder, read_json
from search.run_store.given_tables import keep_tables
from search.run_store.mirror import located
from search.serving.frames import FrameRanker, open_ranker
from spaces import PHASE4, PHASES, ROADMAP_STEPS, Phase

__all__ = ["Result", "audit", "load", "read", "run", "start"]

Table = pd.DataFrame | Any
"""A pandas or polars frame, an Arrow table, a dict of columns, or a path, URI or glob of Parquet files."""
GATES = ["name", "status", "value", "ci_low", "ci_high", "direction", "threshold", "needed"]


def run(
    *,
    items: Table | None = None,
    queries: Table | None = None,
    judgements: Table | None = None,
    data: str | Path | RankingDataset | None = None,
    phase: str | Phase = "phase3",
    progress: bool | None = None,
    **options: Any,
) -> Result:
    """Run a phase (or `"roadmap"`) to its end, or go on with it, and return what came of it.

    The data are the three tables `items`, `queries` and `judgements` of docs/bring-your-own-ranker.md, each whatever
    `open_dataset(items=...)` takes (a frame, an Arrow table, a path or glob, ...); or `data`: `clipart` (the default),
    `planted`, or the folder or URI of the three tables. Tables are kept in RESULTS/data, so that the run can
    be resumed and ablated.

    `phase` is a name, or a `spaces.Phase` (such as `dataclasses.replace(PHASES["phase1"], trials=8)`).
    `progress`: a bar in a notebook (by default), and what the command line prints elsewhere (by default nothing).
    `options` are the flags of the command line with underscores (`trials=`, `results=`, `resume=True`, see
    `RunOptions`); `set` may be a mapping of recipe keys, `{"model.width": 64}`, times may be seconds or a timedelta,
    `model` a class that can be imported, `data` an open dataset, `warm_from` a `Result`.

    Raises ValueError for options or data that cannot be used, naming what is allowed.
    """
    asked = dict(options)
    known = [field.name for field in dataclasses.fields(RunOptions) if field.name not in ("phase", "data")]
    for name in asked:
        if name not in known:
            raise ValueError(f"unknown option {name!r}; {near(name, known)}")
    named = phase.name if isinstance(phase, Phase) else phase
    names = list(PHASES) if isinstance(phase, Phase) else [*ROADMAP_STEPS, ROADMAP]
    if named not in names:
        raise ValueError(f"phase = {named!r}: {near(str(named), names)}")
    # What is amiss is said before data are kept; a phase file and a suspect are read against the data, once they are.
    early = asked if data is not None else {k: v for k, v in asked.items() if k not in ("phase_file", "suspect")}
    of_data: dict[str, Any] = {"data": data} if data is not None else {}
    checked = RunOptions(phase=cast(Any, named), **of_data, **early)
    source = _source(
        {"items": items, "queries": queries, "judgements": judgements},
        checked if data is not None else None,
        checked.results,
    )
    own = phase if isinstance(phase, Phase) else None
    return start(RunOptions(phase=cast(Any, named), **asked | {"data": source}), _console(progress), phase=own)


def audit(
    *,
    scores: Table | None = None,
    items: Table | None = None,
    queries: Table | None = None,
    judgements: Table | None = None,
    data: str | Path | RankingDataset | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Result:
    """Audit a V2 that exists, from a table of its scores or as a model (docs/audit.md), and return what came of it.

    `scores` is a pandas DataFrame, a pyarrow Table or the path of a Parquet or CSV file; the data are given as to
    `run`. `options` are the flags of `python -m search.run audit` with underscores (see `AuditOptions`); `inputs` may
    be a mapping, input of the model -> column or list of columns, or all that its TOML file holds.

    Raises ValueError, in one line, for options, data or scores that cannot be used.
    """
    known = [field.name for field in dataclasses.fields(AuditOptions) if field.name not in ("scores", "data")]
    for name in options:
        if name not in known:
            raise ValueError(f"unknown option {name!r}; {near(name, known)}")
    asked: dict[str, Any] = dict(options)
    if isinstance(asked.get("inputs"), Mapping):
        asked["inputs"] = mapped_inputs(asked["inputs"])
    checked = AuditOptions(**asked | ({"data": data} if data is not None else {}))
    source = _source(
        {"items": items, "queries": queries, "judgements": judgements},
        checked if data is not None else None,
        checked.results,
    )
    named = str(scores) if isinstance(scores, str | Path) else None
    settled = dataclasses.replace(checked, data=source, scores=named)
    console = _console(progress)
    with shown_work(console):
        return Result(run_audit(settled, console, scores=scores).path)


def start(options: RunOptions, console: Console, *, phase: Phase | None = None) -> Result:
    """What the command line does: run what `options` ask for, saying on `console` how it goes.

    `phase` stands in for the one that the options name. Raises ValueError for what cannot be used, KeyboardInterrupt
    after Ctrl-C; what had finished is then written, and the same options with `resume` go on from there.
    """
    with heard_interrupts(), shown_work(console):
        if options.phase == ROADMAP:
            folder = run_roadmap(options, console)
        elif options.phase == PHASE4.name:
            folder = run_production(options, console)
        else:
            folder = run_phase(options, console, phase=phase)
    return Result(folder.path)


def read(path: str | Path | Result) -> Result:
    """A run, or a roadmap, that lies at a path or URI; finished or not.

    Raises ValueError where there is none (naming those that are there), or where another version wrote it (naming it).
    """
    place = _located(path)
    if (RunFolder(place).read() or {}).get("phase") != ROADMAP:
        read_run(place)
    return Result(place)


def load(
    run: str | Path | Result, *, trial: str | None = None, data: str | Path | RankingDataset | None = None
) -> FrameRanker:
    """The ranker that a run would release, ready to score DataFrames: `load("results/phase3").score(pairs)`.

    Of a roadmap: that of its last phase that has one.

    `trial`: another ranker of the run whose weights were kept, such as one of its front. `data`: where the dataset that
    it was trained on lies now, if it has moved; it must be the same. A ranker to be released scores without it, too,
    what brings all its features. See `FrameRanker.score` for what may be scored.

    Raises ValueError where there is no such ranker, naming those that are there.
    """
    trial = as_annotated("trial", trial, str | None, "give a trial's id, such as t0003")
    opened = data if data is None or isinstance(data, RankingDataset) else open_dataset(as_source(data))
    return open_ranker(_located(run), trial, opened)


def _located(run: str | Path | Result) -> Path:
    """The folder of a run. Raises ValueError for what names none."""
    if isinstance(run, Result):
        return run.path
    return located(as_annotated("run", run, str, "give a run's folder or URI, or a Result"))[0]


class Result:
    """What a run came to, read from its folder. In a notebook it shows its verdict and gates.

    Of a roadmap, each table holds the rows of all its phases, with their name in the column `phase`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        """The run folder; results/README.md says what each file in it holds."""

    @cached_property
    def phases(self) -> dict[str, Result]:
        """The phases of a roadmap that have begun, by name; empty for a run of one phase."""
        names = ROADMAP_STEPS if self.description.get("phase") == ROADMAP else ()
        return {name: Result(self.path / name) for name in names if (self.path / name / "run.json").exists()}

    @cached_property
    def description(self) -> dict[str, Any]:
        """What run.json says: options, phase, data, versions, start and end."""
        return RunFolder(self.path).read() or {}

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.description.get("end") is not None

    @cached_property
    def decision(self) -> dict[str, Any]:
        """decision.json; empty while nothing is decided."""
        place = self.path / "decision.json"
        return read_json(place) if place.exists() else {}

    @property
    def verdict(self) -> str | None:
        """`GO`, `PAUSE_AND_FIX` or `ARCHIVE`; None while nothing is decided."""
        return self.decision.get("verdict")

    @property
    def meaning(self) -> str:
        """What a GO means here, which is a release in phase 4 and the roadmap alone; empty for other verdicts."""
        phase = self.description.get("phase")
        asked = PHASE4.name if phase == ROADMAP else (self.description.get("definition") or {}).get("name", "")
        return meaning(self.verdict or "", asked, audited=phase == AUDIT)

    @property
    def reasons(self) -> list[str]:
        """Why the verdict is what it is."""
        return list(self.decision.get("reasons", []))

    @property
    def finalist(self) -> str | None:
        """The trial whose recipe the verdict is about."""
        return self.decision.get("finalist")

    @property
    def gates(self) -> pd.DataFrame:
        """One row a gate: its status, what was measured with its interval at the level of the look, its threshold."""
        found = pd.DataFrame(self.decision.get("gates", []))
        columns = (["phase"] if "phase" in found else []) + GATES
        return found.reindex(columns=columns)

    @property
    def front(self) -> pd.DataFrame:
        """The trials that no other one dominates, best first, on the validation split (pareto.csv)."""
        return self._table(lambda record: record.pareto)

    @property
    def trials(self) -> pd.DataFrame:
        """Every training: what it was, how it ended, what it measured (trials.parquet)."""
        return self._table(lambda record: record.trials)

    @property
    def confirmed(self) -> pd.DataFrame:
        """The short list retrained with fresh seeds, with intervals (confirmed.csv)."""
        return self._table(lambda record: record.confirmed)

    @property
    def baselines(self) -> pd.DataFrame:
        """V1 and the other rankers that a fusion must beat, a row a split (baselines.csv): validation and, when it is
        open, the one that decides."""
        return self._table(lambda record: record.baselines)

    @property
    def report(self) -> Path:
        """report.html: one page with verdict, gates and figures, which opens offline."""
        return self.path / "report.html"

    def as_json(self) -> dict[str, Any]:
        """For scripts: where the run lies and what it came to, `decision` being decision.json."""
        said = {"path": str(self.path), "phase": self.description.get("phase"), "finished": self.finished}
        said |= {"verdict": self.verdict, "report": str(self.report) if self.report.exists() else None}
        return said | {"decision": self.decision}

    @cached_property
    def _record(self) -> RunRecord:
        return read_run(self.path)

    def _table(self, of: Any) -> pd.DataFrame:
        if self.description.get("phase") != ROADMAP:
            return of(self._record).copy()  # type: ignore[no-any-return]
        parts = {name: of(result._record) for name, result in self.phases.items()}
        filled = [part.assign(phase=name) for name, part in parts.items() if len(part)]
        return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()

    def __repr__(self) -> str:
        return f"<Result of {self.description.get('phase')}: {self._said}, {self.path}>"

    def _repr_html_(self) -> str:
        title = html.escape(f"{self.description.get('phase')}: {self._said}")
        reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in self.reasons)
        gates = self.gates.drop(columns="needed").to_html(
            index=False, escape=True, float_format="{:.4g}".format, na_rep="–"
        )
        page = f"<p>Report: <code>{html.escape(str(self.report))}</code></p>" if self.report.exists() else ""
        meant = f"<p>{html.escape(self.meaning)}</p>" if self.meaning else ""
        return f"<div><h3>{title}</h3>{meant}<ul>{reasons}</ul>{gates if len(self.gates) else ''}{page}</div>"

    @property
    def _said(self) -> str:
        fragile = " (fragile)" if self.decision.get("fragile") else ""
        return f"{self.verdict}{fragile}" if self.verdict else "no verdict yet" if not self.finished else "no verdict"


def _source(tables: dict[str, Table | None], named: RunOptions | AuditOptions | None, results: str) -> str:
    """Where the data lie: as `named` in the options, or kept beside the results."""
    given = [name for name, table in tables.items() if table is not None]
    if given and named is not None:
        raise ValueError(f"data = {named.data!r} and {' and '.join(given)}: give one dataset")
    if not given:
        return named.data if named is not None else RunOptions.data
    if len(given) < len(TABLES):
        missing = [name for name in TABLES if name not in given]
        raise DataError(f"{' and '.join(missing)} missing.", f"A dataset has three tables: {', '.join(TABLES)}.")
    return keep_tables(results, tables)


def _console(progress: bool | None) -> Console:
    """Silent unless asked; in a notebook the bar is drawn all the same, unless it is unwanted."""
    if Console().is_jupyter:
        return Console(quiet=True, force_jupyter=progress is not False)
    return make_console() if progress else Console(quiet=True)
