"""One audit from its options to its verdict: the table or the model, rivals, one look, evidence, decision, report."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pandas as pd
from rich.console import Console

from fusion_models.data import RankingDataset, open_dataset
from fusion_models.data.crossed_clusters import crossed_clusters
from fusion_models.data.readiness import require_rankable
from fusion_models.data.views.cold import needs_cold_lists
from fusion_models.evaluation import split_lists
from fusion_models.files import write_whole
from fusion_models.modalities import SUSPECT
from search.analysis.decision import Decision
from search.audit.checks import split_checks
from search.audit.given import Given, digest, given_model, given_scores, together
from search.audit.judge import Case, archive_asked, gather, judge
from search.audit.model.input_map import read_input_map
from search.audit.model.process import measured_model
from search.audit.options import AUDIT, AuditOptions
from search.audit.references import references
from search.audit.score_table import ScoreTable, read_scores
from search.audit.tables import verdicts, write_tables
from search.execution.cluster import processors
from search.monitoring.progress import clock
from search.pipeline.confirmation.probing import FoundByProbe, Probes
from search.pipeline.continuation.resuming import require_run_of
from search.pipeline.summary import print_gates
from search.reporting import build_report
from search.reporting.decision_page import decision_text, release_text
from search.reporting.terminal import FULL, Column, Row, print_table, say
from search.reporting.words import meaning
from search.run_store.driver_lock import driving
from search.run_store.facts import read_facts
from search.run_store.folder import REPORT_DUE, RunFolder, RunFolderError, environment, json_text, now
from search.run_store.looks import DECIDING_SPLIT, SPLIT_NAMES, count_look, require_looks
from search.run_store.mirror import is_uri, local_results
from spaces import ROADMAP_STEPS, Phase, for_dataset, phase_to_plain

SPLITS = ("validation", DECIDING_SPLIT)
FILES = ("report.html", "decision.md", "decision.json", "evidence.json", "baselines.csv", "integrity.csv")
QUESTION = ("phase", "suspect", "members", "seed")
"""Options that an audit which was interrupted must have had, for its look to be that of the next one."""
VERDICTS = (Column(name="by the gates of"), Column(name="verdict"), Column(name="why"))


def run_audit(options: AuditOptions, console: Console, *, scores: Any = None) -> RunFolder:
    """Audit one V2 and write its run folder; `scores` stands in for the table that the options name.

    The table is checked in full before the test split's labels are read, so that a mistake in it is no look.

    Raises ValueError, in one line, for options, data or scores that cannot be used.
    """
    if is_uri(options.results):
        raise RunFolderError("an audit writes to a folder of this machine: give one as --results")
    folder = RunFolder(local_results(options.results) / options.name)
    with driving(folder.path):
        return _run(folder, options, console, scores)


def _run(folder: RunFolder, options: AuditOptions, console: Console, scores: Any) -> RunFolder:
    if not options.fresh and folder.finished():
        require_run_of(folder, AUDIT)
        if folder.report_due():
            build_report(folder, console)
            say(console, f"{folder.path} holds a finished audit, whose report was not there yet")
        raise RunFolderError(
            f"{folder.path} holds a finished run, and an audit is a look of its own: give another --name, or --fresh "
            "to delete it and look once more"
        )
    if not options.fresh:
        require_run_of(folder, AUDIT)
    require_looks(folder)
    began = time.monotonic()
    facts = read_facts(options.facts)
    data = open_dataset(options.data).measured_by(ROADMAP_STEPS[options.phase].metric)
    require_rankable(data)
    modalities = tuple(data.item_features)
    phases = phases_of(modalities, options.suspect or SUSPECT)
    phase = phases[options.phase]
    table = _table(options, data, modalities, scores)
    given = _given(options, data, modalities, table, console)
    test = given[DECIDING_SPLIT]
    assert test is not None, "a table scores all of the test split, and a model any"
    description = _described(options, phase, data, table) | {"v2": digest(given)}
    before = _look_of_before(folder, description) if not options.fresh else {}
    for said in folder.prepare(resume=False, fresh=options.fresh):
        console.print(said, highlight=False, soft_wrap=True)
    folder.write(description | before)
    _say_given(console, table, test, given["validation"])
    found = references(data, SPLITS, phase, modalities, seed=options.seed, members=options.members)
    look = count_look(folder, data.fingerprint, data.source)
    say(console, f"opening the {SPLIT_NAMES[DECIDING_SPLIT]} ({look.said()})")
    case = Case(
        test=test,
        validation=given["validation"],
        references=found,
        clusters=crossed_clusters(data, DECIDING_SPLIT),
        members=options.members,
        look=look,
        facts=facts,
        recurring=needs_cold_lists(data, DECIDING_SPLIT, phase.suspect),
        images=data.schema.shows(phase.suspect),
        checks=split_checks(data, test.artefact(options.members), seed=options.seed),
        seed=options.seed,
    )
    if any(archive_asked(case, each) for each in phases.values()):
        case = dataclasses.replace(case, probes=_probes(data, phase, console))
    decisions = _decide(case, phases)
    write_tables(folder, data, case, phase, gather(case, phase))
    _write_decision(folder, case, phase, decisions, weighted=data.weighted)
    ended = {"end": now(), REPORT_DUE: True}
    folder.write((folder.read() or {}) | ended | {"seconds": round(time.monotonic() - began, 1)})
    build_report(folder, console)
    _print(console, folder, case, phase, decisions, time.monotonic() - began)
    return folder


def phases_of(modalities: tuple[str, ...], suspect: str) -> dict[str, Phase]:
    """The roadmap's phases for a dataset of these modalities. Raises ValueError where it lacks the suspect."""
    try:
        return {name: for_dataset(phase, modalities, suspect) for name, phase in ROADMAP_STEPS.items()}
    except ValueError as error:
        raise ValueError(f"--suspect: {error}") from None


def _table(options: AuditOptions, data: RankingDataset, modalities: tuple[str, ...], scores: Any) -> ScoreTable | None:
    given = scores if scores is not None else options.scores
    if given is None and options.model is None:
        raise ValueError("nothing to audit: give V2's scores as --scores, or V2 itself as --model (docs/audit.md)")
    return read_scores(given, data, modalities) if given is not None else None


def _given(
    options: AuditOptions,
    data: RankingDataset,
    modalities: tuple[str, ...],
    table: ScoreTable | None,
    console: Console,
) -> dict[str, Given | None]:
    """Split -> what V2 said of it, by the table, by the model, or by both."""
    lists = {split: split_lists(data, split) for split in SPLITS}
    told: dict[str, Given | None] = dict.fromkeys(SPLITS)
    if table is not None:
        told = {
            split: given_scores(table, data, lists[split], modalities, options.members, needed=split == DECIDING_SPLIT)
            for split in SPLITS
        }
    if options.model is None:
        return told
    inputs = read_input_map(options.inputs, options.model, modalities)
    arrays = measured_model(
        options.model,
        inputs,
        options.data,
        seed=options.seed,
        limit=options.answer_seconds,
        say=lambda doing: say(console, f"model: {doing}"),
    )
    out: dict[str, Given | None] = {}
    for split in SPLITS:
        model, scored = given_model(arrays, lists[split], modalities, split), told[split]
        out[split] = model if scored is None or table is None else together(model, scored, table.source)
    return out


def _described(options: AuditOptions, phase: Phase, data: RankingDataset, table: ScoreTable | None) -> dict[str, Any]:
    """What run.json says of the audit."""
    said = dataclasses.replace(phase, title=f"Audit of a V2 that was given, by the gates of {phase.name}")
    return {
        "phase": AUDIT,
        "definition": phase_to_plain(said),
        "options": {f.name: getattr(options, f.name) for f in dataclasses.fields(AuditOptions)},
        "seed": options.seed,
        "data": data.source,
        "fingerprint": data.fingerprint,
        "counts": data.counts,
        "weighted": data.weighted,
        "scores": _described_table(table),
    } | environment()


def _look_of_before(folder: RunFolder, description: Mapping[str, Any]) -> dict[str, Any]:
    """Id and start of the audit that was interrupted here, if it is this one: its look is this one's, counted once.

    Nothing where it asked another question, or was of another V2 or of other data.
    """
    before = folder.read()
    if before is None or any(before.get(key) != description[key] for key in ("fingerprint", "v2")):
        return {}
    asked = before.get("options") or {}
    same = all(asked.get(name) == description["options"][name] for name in QUESTION)
    return {key: before[key] for key in ("id", "start") if key in before} if same else {}


def _described_table(table: ScoreTable | None) -> dict[str, Any] | None:
    """The table as run.json names it, with a digest of what it says."""
    if table is None:
        return None
    state = hashlib.sha256()
    for name in sorted(table.values):
        state.update(name.encode())
        state.update(table.values[name].tobytes())
    return {
        "source": table.source,
        "digest": state.hexdigest(),
        "columns": [column.name for column in table.columns],
        "ignored": list(table.ignored),
        "trainings": list(table.trainings),
    }


def _say_given(console: Console, table: ScoreTable | None, test: Given, validation: Given | None) -> None:
    arms = ", ".join(f"{'+'.join(key.modalities)} {len(runs)}" for key, runs in test.trained.items())
    say(console, f"V2 as it was given: trainings of each modality set on the test split: {arms}")
    if table is not None and table.ignored:
        say(console, f"columns that were not read: {', '.join(table.ignored)}")
    if validation is None:
        say(
            console, "the validation split is not scored in full: rivals are chosen on the test split, which is harsher"
        )


def _probes(data: RankingDataset, phase: Phase, console: Console) -> list[FoundByProbe]:
    with ThreadPoolExecutor(processors()) as pool:
        call = partial(_submitted, pool)
        return Probes(lambda: data, phase, call).begin(DECIDING_SPLIT, console)()


def _submitted(pool: ThreadPoolExecutor, function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return pool.submit(function, *arguments).result


def _decide(case: Case, phases: Mapping[str, Phase]) -> dict[str, Decision]:
    """The verdict by every phase's gates; phase 4 reads what phase 3's say."""
    out: dict[str, Decision] = {}
    for name, phase in phases.items():
        earlier = next((d.verdict for n, d in out.items() if n == "phase3"), "")
        out[name] = judge(case, phase, gather(case, phase), earlier)
    return out


def _write_decision(
    folder: RunFolder, case: Case, phase: Phase, decisions: dict[str, Decision], *, weighted: bool
) -> None:
    decision, look = decisions[phase.name], case.look
    said = decision.as_json() | {"look": look.as_json()}
    said["by_phase"] = verdicts(list(decisions.items()))
    write_whole(folder.path / "decision.json", json_text(said))
    titled = dataclasses.replace(phase, title=f"Audit of a V2 that was given, by the gates of {phase.name}")
    text = decision_text(titled, decision, SPLIT_NAMES[DECIDING_SPLIT], look, weighted=weighted, audited=True)
    others = pd.DataFrame({"phase": list(decisions), "verdict": [d.verdict for d in decisions.values()]})
    rows = "\n".join(f"| {row.phase} | {row.verdict} |" for row in others.itertuples())
    text += f"\n## By the gates of each phase\n\n| phase | verdict |\n|---|---|\n{rows}\n"
    write_whole(folder.path / "decision.md", text + release_text(phase, case.checks, None, None))


def _print(
    console: Console, folder: RunFolder, case: Case, phase: Phase, decisions: dict[str, Decision], seconds: float
) -> None:
    verdict = decisions[phase.name].verdict
    where = f"{phase.name}, {SPLIT_NAMES[DECIDING_SPLIT]}, {case.look.said()}"
    print_gates(console, decisions[phase.name], where, meaning(verdict, phase.name, audited=True))
    short = console.is_terminal and console.width < FULL  # where the table leaves that column out
    for gate in decisions[phase.name].gates if short else ():
        if gate.status == "not measured" and gate.needed:
            say(console, f"  not measured: {gate.name}: {gate.needed}")
    rows = [Row(cells=(name, d.verdict, d.reasons[0] if d.reasons else "")) for name, d in decisions.items()]
    print_table(console, "by every phase's gates", VERDICTS, rows, [])
    say(console, f"{clock(seconds)}; files:")
    for name in FILES:
        console.print(f"  {folder.path / name}", highlight=False, markup=False, emoji=False, soft_wrap=True)
