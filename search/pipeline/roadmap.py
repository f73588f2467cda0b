"""The phases in order: each starts from the last one's front, phase 4 from the finalist; one verdict ends them all.

Lies in RESULTS/roadmap, with a whole run folder for each phase in it. Which phases have ended is read from their own
run.json, so that an interrupted roadmap goes on where it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import time
from typing import Any

from rich.console import Console

from fusion_models.data import open_dataset
from fusion_models.files import write_whole
from search.analysis.judged import is_judged
from search.analysis.roadmap_decision import PhaseVerdict, RoadmapDecision, decide_roadmap, stops
from search.execution.cluster import ray_session
from search.monitoring.progress import clock
from search.options import RunOptions
from search.pipeline.continuation.resuming import (
    plain_options,
    require_run_of,
    require_same_options,
    require_same_phase,
    require_same_question,
    with_own_facts,
)
from search.pipeline.continuation.same_inputs import described_model, note_data, require_same_data, require_same_model
from search.pipeline.continuation.warm_start import front_recipes, warm_recipes
from search.pipeline.feasible import open_feasible
from search.pipeline.late import costs_itself
from search.pipeline.phase import run_phase
from search.pipeline.release.production import run_production
from search.pipeline.release.runtime_variants import TimingSize
from search.pipeline.roadmap_step import TEST_PHASES, RoadmapStep, halved
from search.pipeline.summary import STYLES
from search.reporting import build_report
from search.reporting.decision_page import roadmap_text
from search.reporting.roadmap_page import write_roadmap_report
from search.reporting.terminal import Column, Row, print_table, say
from search.reporting.words import meaning
from search.run_store.driver_lock import driving
from search.run_store.folder import (
    REPORT_DUE,
    RunFolder,
    RunFolderError,
    environment,
    json_text,
    now,
    phase_of,
    read_json,
)
from search.run_store.looks import SPLIT_NAMES, read_look
from search.run_store.mirror import Mirror, is_uri, local_results, mirror_of, mirrored
from search.run_store.start_weights import adopt_start_weights, described_start, keep_start_weights
from spaces import PHASE4, PHASES, ROADMAP_STEPS, phase_to_plain

ROADMAP = "roadmap"
FIRST = next(iter(PHASES))
Done = dict[str, tuple[PhaseVerdict, dict[str, Any]]]
"""Phase -> its verdict, and its decision.json."""


def run_roadmap(
    options: RunOptions,
    console: Console,
    *,
    timing: TimingSize = TimingSize(),  # noqa: B008  (frozen)
) -> RunFolder:
    """Run the roadmap to its end, or go on with it; `timing` says how much of its latency phase 4 times.

    Raises ValueError for options or data that cannot be used, and where another process drives a run in that folder.
    """
    name = options.name or ROADMAP
    folder, mirror = RunFolder(local_results(options.results) / name), None
    with driving(folder.path):
        if is_uri(options.results):
            mirror = mirror_of(options.results, name)
            if not options.fresh:
                mirror.fetch(to_drive=True)
        return _run(folder, options, console, mirror, timing)


def _run(
    folder: RunFolder, options: RunOptions, console: Console, mirror: Mirror | None, timing: TimingSize
) -> RunFolder:
    if not options.fresh:
        require_run_of(folder, ROADMAP)
    if not options.fresh and folder.finished():
        for run in (RunFolder(folder.path / name) for name in ROADMAP_STEPS):
            _write_due_report(run, console)
        if folder.report_due():
            _write_report(folder, console)
        if mirror is not None:
            mirror.sync(whole=True)  # a last mirroring that failed is made up for
        unknown = require_same_question(folder, options)
        console.print(f"{folder.path} holds a finished roadmap; nothing was changed. --fresh starts over.{unknown}")
        return folder
    began = time.monotonic()
    options = with_own_facts(folder, options)
    with contextlib.ExitStack() as session:
        _open(folder, options, console, mirror, session)
        with mirrored(mirror, console):
            done = _run_phases(options, folder, console, mirror, timing, session)
            decision = decide_roadmap(tuple(ROADMAP_STEPS), done, releasing=TEST_PHASES)
            write_whole(folder.path / "decision.json", json_text(decision.as_json()))
            write_whole(folder.path / "decision.md", roadmap_text(decision))
            described = folder.read() or {}
            ended = {"end": now(), REPORT_DUE: True}
            folder.write(described | ended | {"seconds": round(time.monotonic() - began, 1)})
            _write_report(folder, console)
    _print(console, folder, decision, time.monotonic() - began)
    return folder


def _write_report(folder: RunFolder, console: Console) -> None:
    again = f"python -m search.report {shlex.quote(str(folder.path))} tries again"
    with costs_itself(console, "the roadmap's report", f"the tables are whole; {again}"):
        write_roadmap_report(folder)


def _write_due_report(run: RunFolder, console: Console) -> None:
    """The report of a phase that had ended when the roadmap was interrupted."""
    if run.report_due():
        build_report(run, console)


def _run_phases(
    options: RunOptions,
    folder: RunFolder,
    console: Console,
    mirror: Mirror | None,
    timing: TimingSize,
    session: contextlib.ExitStack,
) -> Done:
    """Each phase that has not ended yet, until an archive rule holds or no finalist is left to validate.

    `session` ends with the phases that search.
    """
    done: Done = {}
    runs = {phase: RunFolder(folder.path / phase) for phase in ROADMAP_STEPS}
    searched = all(runs[phase].finished() for phase in PHASES)
    with session, contextlib.nullcontext() if searched else ray_session(options):
        for phase in PHASES:
            if _announced(console, runs[phase]):
                run_phase(_options(options, folder, phase), console, link=_link(folder, phase), mirror=mirror)
            done[phase] = _read_verdict(runs[phase], phase)
            if stops(done[phase][1]):
                return done
    # outside of the session above: phase 4 times rankers when Ray's workers are gone
    last, release = list(PHASES)[-1], PHASE4.name
    if done[last][0].finalist is None:
        return done
    if _announced(console, runs[release]):
        asked, link = _options(options, folder, release), _link(folder, release)
        run_production(asked, console, source=runs[last], timing=timing, link=link, mirror=mirror)
    done[release] = _read_verdict(runs[release], release)
    return done


def _announced(console: Console, run: RunFolder) -> bool:
    """Say which phase comes; whether there is anything to do in it."""
    name = run.path.name
    console.rule(f"{name}, {list(ROADMAP_STEPS).index(name) + 1} of {len(ROADMAP_STEPS)}")
    if run.finished():
        console.print("done before; nothing is run again")
        _write_due_report(run, console)
    return not run.finished()


def _open(
    folder: RunFolder, options: RunOptions, console: Console, mirror: Mirror | None, session: contextlib.ExitStack
) -> None:
    """Write run.json; on a resumed roadmap, check first that it is the same one.

    Before a new one deletes or writes anything, all is checked that its phases would refuse, and Ray is up (`session`).
    """
    previous = None if options.fresh else folder.read()
    if previous is None and options.resume:
        raise RunFolderError(f"nothing to resume in {folder.path}: leave --resume out to start a roadmap there")
    if previous is not None and not options.resume:
        raise RunFolderError(
            f"{folder.path} holds an unfinished roadmap: add --resume to go on with it, or --fresh to start over "
            "(which deletes it)"
        )
    phases = {name: options.to_phase(name) for name in ROADMAP_STEPS}
    asked, definitions = plain_options(options), {name: phase_to_plain(phase) for name, phase in phases.items()}
    described = {"phase": ROADMAP, "phases": list(ROADMAP_STEPS), "definitions": definitions, "options": asked}
    model = described_model(phases[FIRST].base.model.variant)
    described |= {"resumed": 0, "model": model} | environment()
    if previous is not None:
        require_same_options(folder, previous, options)
        data = open_dataset(halved(options.data))
        began = previous.get("fingerprint") or _began_on(folder) or data.fingerprint
        require_same_data(folder, previous | {"fingerprint": began}, options.data, data.fingerprint)
        if "model" in previous:
            require_same_model(folder, previous, model)
        for name, phase in phases.items():
            require_same_phase(folder, {"phase": name, "definition": previous["definitions"][name]}, phase)
        described |= {key: previous[key] for key in ("id", "start") if key in previous}
        described |= {"resumed": previous["resumed"] + 1}
        adopt_start_weights(RunFolder(folder.path / FIRST).checkpoints, folder.checkpoints)
        for run in (RunFolder(folder.path / name) for name in ROADMAP_STEPS):
            if (run.read() or {}).get("data", data.source) != data.source:  # the data have moved
                note_data(run, halved(options.data), data.source)
    else:
        if options.warm_from is not None:
            warm_recipes(options.warm_from)
        data = open_feasible(dataclasses.replace(options, data=halved(options.data)), [phases[name] for name in PHASES])
        folder.require_ready(resume=False, fresh=options.fresh)
        session.enter_context(ray_session(options))
        if mirror is not None and options.fresh:
            mirror.erase()
        for said in folder.prepare(resume=False, fresh=options.fresh):
            console.print(said, highlight=False, soft_wrap=True)
    if options.weights is not None:  # one copy for all phases: the file may change between them
        keep_start_weights(options.weights, folder.checkpoints, phases[FIRST].base, data, anew=previous is None)
    weights = described_start(options.weights, folder.checkpoints)
    folder.write(described | {"fingerprint": data.fingerprint, "weights": weights})


def _began_on(folder: RunFolder) -> str | None:
    """The fingerprint of the data of its first phase: earlier versions did not note it in the roadmap's run.json."""
    return (RunFolder(folder.path / FIRST).read() or {}).get("fingerprint")


def _options(options: RunOptions, folder: RunFolder, phase: str) -> RunOptions:
    """The same for one phase: its folder in the roadmap's, its share of the time, resumed where it had begun."""
    budget = options.budget_seconds
    return dataclasses.replace(
        options,
        phase=phase,  # type: ignore[arg-type]
        data=halved(options.data),
        phase_file=options.phase_file_of(phase),
        results=str(folder.path),
        name=phase,
        resume=RunFolder(folder.path / phase).journal.exists(),
        fresh=False,
        warm_from=options.warm_from if phase == FIRST else None,
        time_budget=f"{max(1.0, budget / len(ROADMAP_STEPS)):.0f}s" if budget is not None else None,
    )


def _link(folder: RunFolder, phase: str) -> RoadmapStep:
    """What `phase` takes over: every phase before it, and where it searches the front of the last."""
    names = list(ROADMAP_STEPS)
    earlier = tuple(RunFolder(folder.path / name) for name in names[: names.index(phase)])
    warm = front_recipes(earlier[-1]) if earlier and phase in PHASES else None
    return RoadmapStep(phase=phase, folder=folder, earlier=earlier, warm=warm)


def _read_verdict(run: RunFolder, phase: str) -> tuple[PhaseVerdict, dict[str, Any]]:
    decision = read_json(run.path / "decision.json")
    described = run.read() or {}
    look = read_look(decision, run=described)
    return PhaseVerdict(
        phase=phase,
        title=phase_of(described).title,
        verdict=decision["verdict"],
        fragile=decision["fragile"],
        finalist=decision["finalist"] if is_judged(run.path) else None,
        decided_on=SPLIT_NAMES[described["roadmap"]["decides_on"]],
        reasons=tuple(decision["reasons"]),
        look=f"look {look.short()}: intervals of {100 * look.level:.4g} %" if look is not None else "",
    ), decision


def _print(console: Console, folder: RunFolder, decision: RoadmapDecision, seconds: float) -> None:
    columns = [
        Column(name="phase"),
        Column(name="what", short=None),
        Column(name="verdict"),
        Column(name="finalist"),
        Column(name="decided on"),
    ]
    rows = [
        Row(
            cells=(
                said.phase,
                said.title,
                _verdict(said),
                said.finalist or "none",
                ", ".join(filter(None, (said.decided_on, said.look))),
            ),
            style=STYLES[said.verdict],
        )
        for said in decision.phases
    ]
    rows += [Row(cells=(name, "", "not run", "", "")) for name in decision.not_run]
    print_table(console, "the roadmap", columns, rows)
    say(console, _verdict(decision), style=STYLES[decision.verdict])
    if meant := meaning(decision.verdict, PHASE4.name):
        say(console, f"  {meant}")
    for reason in decision.reasons:
        say(console, f"  {reason}")
    say(console, f"{clock(seconds)}; files:")
    for path in ("decision.md", "report.html", *(f"{said.phase}/decision.md" for said in decision.phases)):
        console.print(f"  {folder.path / path}", highlight=False, markup=False, emoji=False, soft_wrap=True)


def _verdict(said: PhaseVerdict | RoadmapDecision) -> str:
    return f"{said.verdict}{' (fragile)' if said.fragile else ''}"
