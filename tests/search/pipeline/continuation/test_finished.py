"""A finished run or roadmap: what the same command sends again, and which other questions it does not answer."""

import dataclasses
import json

import pytest

from search.audit.audit import run_audit
from search.audit.options import AuditOptions
from search.options import RunOptions
from search.pipeline import roadmap
from search.pipeline.continuation.resuming import plain_options
from search.pipeline.phase import run_phase
from search.pipeline.release.production import run_production
from search.pipeline.roadmap import run_roadmap
from search.run_store.folder import FORMAT, RunFolder, RunFolderError
from search.run_store.mirror import local_results
from spaces import PHASES, ROADMAP_STEPS, phase_to_plain

RUNS = {"phase1": run_phase, "roadmap": run_roadmap}


def described(options, **changes):
    """run.json of what these options would have run to its end."""
    said = {"format": FORMAT, "phase": options.phase, "options": plain_options(options), "start": "2026-01-01"}
    if options.phase == "roadmap":
        said["definitions"] = {name: phase_to_plain(options.to_phase(name)) for name in ROADMAP_STEPS}
    else:
        said["definition"] = phase_to_plain(options.to_phase())
    return said | {"end": "2026-01-02"} | changes


@pytest.mark.parametrize("phase", RUNS)
def test_the_same_command_sends_what_the_last_mirroring_did_not(tmp_path, console, monkeypatch, phase):
    monkeypatch.setenv("FUSION_SEARCH_CACHE", str(tmp_path / "cache"))
    store = tmp_path / "store"
    options = RunOptions(phase=phase, results=f"local://{store}")
    here = local_results(options.results) / phase
    for folder, end in ((here, "2026-01-02"), (store / phase, None)):
        (folder / "phase1").mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(described(options, end=end)))
    (here / "decision.json").write_text('{"verdict": "GO"}')
    (here / "phase1" / "study.journal").write_text("t0000\n")
    RUNS[phase](options, console)
    assert "nothing was changed" in console.file.getvalue()
    assert (store / phase / "phase1" / "study.journal").read_text() == "t0000\n"
    assert json.loads((store / phase / "run.json").read_text())["end"] == "2026-01-02"
    assert (store / phase / "decision.json").exists()


def finished(path, options, **changes):
    """A run folder at `path` that has ended in GO, as these options would have."""
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps(described(options, **changes)))
    (path / "decision.json").write_text('{"verdict": "GO"}')
    return path


ASKED = {"phase1": run_phase, "phase4": run_production, "roadmap": run_roadmap}


@pytest.mark.parametrize("end", ["2026-01-02", None])
@pytest.mark.parametrize("there", ["phase3", "audit", "roadmap", "phase1"])
@pytest.mark.parametrize("phase", ASKED)
def test_a_folder_answers_for_its_own_phase_alone(tmp_path, console, phase, there, end):
    if phase == there:
        return
    of = RunOptions(phase="roadmap" if there == "roadmap" else "phase3")
    path = finished(tmp_path / "shop", of, phase=there, end=end)
    said = f"{'a finished' if end else 'an unfinished'} run of {there}, not of {phase}"
    with pytest.raises(RunFolderError, match=said):
        ASKED[phase](RunOptions(phase=phase, name="shop", results=str(tmp_path)), console)
    assert {p.name for p in path.iterdir()} == {"run.json", "decision.json"}


@pytest.mark.parametrize("further", [{"settle": True}, {"extend": True, "trials": 48}])
def test_another_phase_is_not_gone_on_with(tmp_path, console, further):
    finished(tmp_path / "shop", RunOptions(phase="phase1"))
    with pytest.raises(RunFolderError, match="a finished run of phase1, not of phase3"):
        run_phase(RunOptions(phase="phase3", name="shop", results=str(tmp_path), **further), console)
    ours = edited(PHASES["phase1"])
    with pytest.raises(RunFolderError, match="gates differ"):
        run_phase(RunOptions(phase="phase1", name="shop", results=str(tmp_path), **further), console, phase=ours)


def edited(phase):
    """The phase with a gate less."""
    return dataclasses.replace(phase, gates=phase.gates[:-1])


def test_a_finished_phase_does_not_answer_for_other_thresholds(tmp_path, console):
    options, ours = RunOptions(phase="phase1", results=str(tmp_path)), edited(PHASES["phase1"])
    path = finished(tmp_path / "phase1", options)
    run_phase(options, console)
    run_phase(options, console, phase=PHASES["phase1"])
    assert console.file.getvalue().count("nothing was changed") == 2
    with pytest.raises(RunFolderError, match="gates differ"):
        run_phase(options, console, phase=ours)
    (path / "run.json").write_text(json.dumps(described(options, definition=phase_to_plain(options.around(ours)))))
    run_phase(options, console, phase=ours)
    with pytest.raises(RunFolderError, match=r"another phase1 .gates differ"):
        run_phase(options, console)


def test_a_finished_roadmap_does_not_answer_for_other_thresholds(tmp_path, console):
    options = RunOptions(phase="roadmap", results=str(tmp_path))
    before = described(options)
    path = finished(tmp_path / "roadmap", options)
    run_roadmap(options, console)
    before["definitions"]["phase2"] = phase_to_plain(options.around(edited(PHASES["phase2"])))
    (path / "run.json").write_text(json.dumps(before))
    with pytest.raises(RunFolderError, match=r"another phase2 .gates differ"):
        run_roadmap(options, console)


def test_other_options_alone_are_still_the_same_run(tmp_path, console):
    """What was searched, and how long, is in run.json: the command shows the run that is there."""
    finished(tmp_path / "phase1", RunOptions(phase="phase1", epochs=2, set=("model.layers=1",), trials=6))
    run_phase(RunOptions(phase="phase1", results=str(tmp_path)), console)
    assert "nothing was changed" in console.file.getvalue()


def test_a_finished_phase_4_has_the_suspect_of_its_phase_3(tmp_path, console):
    finished(tmp_path / "phase4", RunOptions(phase="phase4", suspect="text"))
    run_production(RunOptions(phase="phase4", results=str(tmp_path)), console)
    assert "nothing was changed" in console.file.getvalue()
    with pytest.raises(RunFolderError, match="suspect is text, not visual"):
        run_production(RunOptions(phase="phase4", suspect="visual", results=str(tmp_path)), console)


WRITERS = {
    "phase1": "search.pipeline.phase.build_report",
    "phase4": "search.pipeline.release.production.build_report",
    "roadmap": "search.pipeline.roadmap.write_roadmap_report",
    "audit": "search.audit.audit.build_report",
}


@pytest.mark.parametrize("phase", WRITERS)
def test_a_command_that_was_interrupted_in_its_report_writes_it_when_repeated(tmp_path, console, monkeypatch, phase):
    written = []
    monkeypatch.setattr(WRITERS[phase], lambda folder, *_: written.append(folder.path) or folder.note_report())
    if phase == "audit":
        audited = AuditOptions(scores="none.parquet", results=str(tmp_path))
        path = finished(tmp_path / phase, RunOptions(phase="phase1"), phase=phase, report_due=True)
        with pytest.raises(RunFolderError, match="look of its own"):
            run_audit(audited, console)
    else:
        options = RunOptions(phase=phase, results=str(tmp_path))
        path = finished(tmp_path / phase, options, report_due=True)
        for _ in range(2):
            ASKED[phase](options, console)
    assert written == [path]
    if phase == "audit":
        with pytest.raises(RunFolderError, match="look of its own"):
            run_audit(audited, console)


def test_a_finished_roadmap_writes_the_reports_that_are_missing_and_survives_one_that_fails(
    tmp_path, console, monkeypatch
):
    written = []
    monkeypatch.setattr(roadmap, "build_report", lambda folder, *_: written.append(folder.path.name))

    def fails(folder):
        raise ValueError("no figure")

    monkeypatch.setattr(roadmap, "write_roadmap_report", fails)
    options = RunOptions(phase="roadmap", results=str(tmp_path))
    path = finished(tmp_path / "roadmap", options, report_due=True)
    for name in ("phase1", "phase2", "phase4"):
        finished(path / name, RunOptions(phase=name), report_due=name != "phase2")
    run_roadmap(options, console)
    assert written == ["phase1", "phase4"]
    assert "the roadmap's report failed (ValueError: no figure)" in console.file.getvalue()


def test_a_phase_that_had_ended_before_its_report_gets_it_as_the_roadmap_goes_on(tmp_path, console, monkeypatch):
    written = []
    monkeypatch.setattr(roadmap, "build_report", lambda folder, *_: written.append(folder.path.name))
    for due in (True, False):
        path = finished(tmp_path / str(due) / "phase1", RunOptions(phase="phase1"), report_due=due)
        assert not roadmap._announced(console, RunFolder(path))
    assert written == ["phase1"]
