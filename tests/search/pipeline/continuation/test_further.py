"""A further verdict costs a look only where it rests on something new, and is taken once however often it is asked."""

import contextlib
import dataclasses
import shutil
from types import SimpleNamespace

import pytest
from run_context import run_in

from search.options import RunOptions
from search.pipeline.confirmation import verdict
from search.pipeline.confirmation.arms import STAGE
from search.pipeline.confirmation.finalist import fix_finalist
from search.pipeline.confirmation.short_list import Candidate
from search.pipeline.continuation import extend, settle
from search.pipeline.continuation.extend import extend_phase
from search.pipeline.continuation.further import (
    NothingNewError,
    give_up,
    note_look,
    nothing_new,
    require_something_new,
    taken_already,
)
from search.pipeline.continuation.kept import begin_verdict, end_verdict
from search.pipeline.continuation.settle import settle_phase
from search.pipeline.phase import run_phase
from search.run_store.folder import FORMAT, REPORT_DUE, RunFolder, RunFolderError
from search.run_store.job import Job
from search.run_store.mirror import MirrorError
from search.study.stages import FixedStage
from spaces import PHASES

PHASE = PHASES["phase3"]
T1, T2 = (Candidate(trial_id=t, recipe=PHASE.base.flat(), trainings=("a", "b")) for t in ("t0001", "t0002"))


@pytest.fixture
def run(tmp_path, small_data):
    """A run whose first verdict was of t0001 and two trainings; its second is under way."""
    folder = RunFolder(tmp_path / "phase3")
    folder.path.mkdir()
    folder.write({"format": FORMAT, "phase": "phase3", "end": "then"})
    fix_finalist(folder, T1, [0], of=["t0001"])
    (folder.path / "judged.json").write_text('{"trainings": [2, 2]}')
    (folder.path / "decision.json").write_text('{"verdict": "GO", "trainings": ["d0", "d1"]}')
    begin_verdict(folder, "--settle")
    made = run_in(folder, RunOptions(phase="phase3", max_concurrent=1, ablation=False), PHASE, small_data)
    return dataclasses.replace(made, verdict=2)


def require(run, trainings, finalist=None):
    found = finalist or fix_finalist(run.folder, T1, [0], of=[])
    require_something_new(run, found, trainings, finished=len(trainings), why="why")


@pytest.mark.parametrize("named", [True, False])
def test_the_same_trainings_are_no_further_verdict(run, named):
    if not named:  # a verdict of a version before
        (run.folder.verdicts / "1" / "decision.json").write_text('{"verdict": "GO"}')
    with pytest.raises(NothingNewError, match="the finalist is t0001 as before, and no training was added: why"):
        require(run, ["d0", "d1"])
    require(run, ["d0", "d1", "d2"])


def test_what_is_something_new(run):
    require(dataclasses.replace(run, verdict=1), ["d0", "d1"])
    other = fix_finalist(run.folder, T2, [0], of=["t0002"], verdict=2)
    require(run, ["d0", "d1"], other)
    again = dataclasses.replace(other, trial_id="t0001", arms=2)
    require(run, ["d0", "d1"], again)
    (run.folder.verdicts / "1" / "judged.json").unlink()  # nothing was judged
    require(run, ["d0", "d1"], dataclasses.replace(again, arms=1))


def test_a_verdict_whose_look_is_counted_is_taken(run):
    note_look(run)
    require(run, ["d0", "d1"])
    give_up(run.folder)
    assert "further" in run.folder.read()


def test_nothing_new_ends_before_the_look(run, monkeypatch):
    whole = SimpleNamespace(whole="whole")
    deciding = SimpleNamespace(trainings={"whole": ["d0", "d1"]}, plan=whole, finished=2, ended="why")
    monkeypatch.setattr(verdict, "needs_cold_lists", lambda run, facts: False)
    monkeypatch.setattr(verdict, "train_deciding_arms", lambda *given, **more: deciding)
    monkeypatch.setattr(verdict, "on_validation", lambda *given: None)
    monkeypatch.setattr(verdict, "choose_rivals", lambda *given: None)
    monkeypatch.setattr(verdict, "count_look", lambda *given, **more: pytest.fail("a look was taken"))
    monkeypatch.setattr(verdict, "judge_short_list", lambda run, references: SimpleNamespace(candidates=[]))
    with pytest.raises(NothingNewError):
        verdict.confirm_and_decide(run, {}, [])


def test_what_is_given_up_leaves_the_verdict_that_stands(run):
    before = (run.folder.path / "decision.json").read_bytes()
    (run.folder.path / "decision.json").write_text("changed")
    (run.folder.path / "confirmed.csv").write_text("new")
    give_up(run.folder, trials=3)
    assert (run.folder.path / "decision.json").read_bytes() == before
    assert not (run.folder.path / "confirmed.csv").exists()
    assert not (run.folder.verdicts / "1").exists()
    described = run.folder.read()
    assert "further" not in described
    assert described["judged_trials"] == 3
    begin_verdict(run.folder, "--extend")  # another flag is free again
    end_verdict(run.folder)
    assert "judged_trials" not in run.folder.read()


@pytest.mark.parametrize("resume", [True, False])
def test_an_interrupted_further_verdict_is_no_finished_run(run, console, resume):
    options = RunOptions(phase="phase3", results=str(run.folder.path.parent), resume=resume)
    with pytest.raises(RunFolderError, match="verdict 2 was begun by --settle and interrupted"):
        run_phase(options, console)


@pytest.fixture
def reports(monkeypatch):
    """Stands in for the report; how often it was written."""
    written = []

    def build(folder, console):
        written.append(folder.path)
        folder.note_report()

    for module in ("continuation.further", "phase"):
        monkeypatch.setattr(f"search.pipeline.{module}.build_report", build)
    return written


class Store:
    """A mirror that has sent all but the last files."""

    sent = 0

    def behind(self):
        return not self.sent

    def sync(self, *, whole):
        self.sent += 1


@pytest.mark.parametrize("missing", ["report", "mirror", "both"])
@pytest.mark.parametrize("command", [settle_phase, extend_phase])
def test_the_same_command_ends_what_it_had_begun_and_no_more(run, console, reports, monkeypatch, command, missing):
    flag = {settle_phase: settle, extend_phase: extend}[command].FLAG
    monkeypatch.setattr(extend, "require_unchanged", lambda *given: None)
    monkeypatch.setattr(settle, "require_unchanged", lambda *given: None)
    run.folder.write(run.folder.read() | {"further": run.folder.read()["further"] | {"by": flag}})
    end_verdict(run.folder)
    if missing == "mirror":
        run.folder.note_report()
    store = Store() if missing != "report" else None
    options = RunOptions(phase="phase3", **{flag.removeprefix("--"): True}, trials=48)
    command(run.folder, options, console, store)
    assert f"verdict 2 had been taken by {flag}" in console.file.getvalue()
    assert len(reports) == (missing != "mirror")
    assert store is None or store.sent == 1
    assert REPORT_DUE not in run.folder.read()
    assert not taken_already(run.folder, flag, console, store)


def test_a_further_verdict_after_a_report_that_was_missing_is_one(run, console, reports):
    """The run before was interrupted in its report, and --settle is asked for the first time."""
    give_up(run.folder)
    run.folder.write(run.folder.read() | {REPORT_DUE: True})
    assert not taken_already(run.folder, "--settle", console, None)
    assert reports == [run.folder.path]


def test_a_finished_run_without_its_report_gets_it(run, console, reports):
    give_up(run.folder)
    options = {"model": None, "suspect": None, "data": "clipart"}
    run.folder.write(run.folder.read() | {REPORT_DUE: True, "options": options})
    run_phase(RunOptions(phase="phase3", results=str(run.folder.path.parent), resume=True), console)
    assert reports == [run.folder.path]


@pytest.mark.parametrize(("most", "refused"), [(5, True), (8, True), (9, False), (20, False)])
def test_arms_that_may_get_no_more_are_said_before_ray_starts(run, most, refused):
    """The arm with fewest trainings counts; one that was never trained is none."""
    own = PHASE.base.model.modalities
    counts = {f"finalist-{'+'.join(own)}": 9, f"base-{'+'.join(own)}": 8}
    ids = [f"{arm}-d{index}" for arm, count in counts.items() for index in range(count)]
    FixedStage(run.store.journal, STAGE, [Job(trial_id=t, name=t, recipe=T1.recipe, seed=0) for t in ids])
    asked = dataclasses.replace(run, options=dataclasses.replace(run.options, max_seeds=most))
    journal = run.folder.journal.read_bytes()
    if refused:
        with pytest.raises(RunFolderError, match="every arm has 8 trainings or more: give --max-seeds above 8"):
            settle._require_room(asked)
    else:
        settle._require_room(asked)
    assert run.folder.journal.read_bytes() == journal


def test_confirm_seeds_do_not_settle():
    with pytest.raises(ValueError, match="--settle goes by --max-seeds"):
        RunOptions(phase="phase1", settle=True, confirm_seeds=8)


@pytest.fixture
def decide(run, console, monkeypatch):
    """Takes verdict 2 by a flag; its decision is an error, before the look or after it."""
    give_up(run.folder)
    again = dataclasses.replace(run, verdict=1, console=console)
    monkeypatch.setattr(run.trainer, "tuning", contextlib.nullcontext)
    for module in (settle, extend):
        monkeypatch.setattr(module, "ray_session", lambda options: contextlib.nullcontext())
    monkeypatch.setattr(extend, "search", lambda *given: ({}, []))
    for name in ("replace_failed_singles", "tune_sums", "reference_rankers"):
        monkeypatch.setattr(settle, name, lambda *given: [])
    monkeypatch.setattr(settle, "single_modality_jobs", lambda *given: [])

    def decided(flag, error, *, looked, mirror=None):
        def confirm(run, *given):
            if looked:
                note_look(run)
            raise error

        for module in (settle, extend):
            monkeypatch.setattr(module, "confirm_and_decide", confirm)
        if flag == "--settle":
            return settle._settled(again, run.folder, console, mirror)
        return extend._extended(again, {}, console, mirror, 24)

    return decided


@pytest.mark.parametrize(
    ("error", "looked", "kept"),
    [
        (ValueError("other facts"), False, False),
        (ValueError("other facts"), True, True),
        (KeyboardInterrupt(), False, True),
        (RuntimeError("Ray"), False, True),
    ],
)
@pytest.mark.parametrize("flag", ["--settle", "--extend"])
def test_a_mistake_that_is_found_before_the_look_leaves_the_run_as_it_was(run, decide, flag, error, looked, kept):
    with pytest.raises(type(error)):
        decide(flag, error, looked=looked)
    assert ("further" in run.folder.read()) == kept
    assert (run.folder.verdicts / "1").exists() == kept
    assert run.folder.read().get("judged_trials") == (24 if flag == "--extend" and not kept else None)


@pytest.mark.parametrize("flag", ["--settle", "--extend"])
def test_a_verdict_without_anything_new_is_said_and_is_no_mistake(run, decide, console, flag):
    assert decide(flag, NothingNewError("nothing grew"), looked=False) == run.folder
    assert "nothing grew. Verdict 1 stands, and no look was taken" in console.file.getvalue()
    assert {"further", "verdicts", "judged_trials"}.isdisjoint(run.folder.read())


@pytest.mark.parametrize(("asked", "said"), [(48, None), (24, None), (60, "has fixed its finalist")])
def test_an_extension_that_is_repeated_after_its_finalist_was_fixed_searches_no_further(run, asked, said):
    give_up(run.folder)
    begin_verdict(run.folder, "--extend", trials=48, there=24)
    fix_finalist(run.folder, T2, [0], of=["t0002"], verdict=2)
    options = RunOptions(phase="phase3", extend=True, trials=asked)
    if said is None:
        assert extend._require_begun_or_more(run.folder, options) == 24
    else:
        with pytest.raises(RunFolderError, match=said):
            extend._require_begun_or_more(run.folder, options)


class Gone:
    """A store that cannot be written."""

    def __init__(self, local):
        self.local = local

    def sync(self, *, whole=False):
        raise MirrorError("the store is gone")


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("flag", ["--settle", "--extend"])
def test_a_store_that_fails_as_a_further_verdict_begins_leaves_none_that_was_begun(run, decide, flag, begun):
    if begun:  # and interrupted, which is gone on with once the store is there
        begin_verdict(run.folder, flag, **({"trials": 48} if flag == "--extend" else {}))
    with pytest.raises(MirrorError, match="the store is gone"):
        decide(flag, RuntimeError("not reached"), looked=False, mirror=Gone(run.folder.path))
    assert ("further" in run.folder.read()) == begun


def test_what_a_given_up_verdict_left_of_its_copy_is_copied_anew(run):
    shutil.copytree(run.folder.verdicts / "1", run.folder.path / "kept")
    give_up(run.folder)
    assert not list(run.folder.verdicts.iterdir())
    (run.folder.verdicts / "1").mkdir()  # as where the process was killed between two files
    begin_verdict(run.folder, "--settle")
    kept = {path.name for path in (run.folder.verdicts / "1").iterdir()}
    assert kept == {path.name for path in (run.folder.path / "kept").iterdir()}


@pytest.mark.parametrize("end", [give_up, end_verdict])
@pytest.mark.parametrize("flag", ["--settle", "--extend"])
def test_how_many_trials_are_judged_is_known_until_an_extension_judges_them_all(run, flag, end):
    give_up(run.folder)
    run.folder.write(run.folder.read() | {"judged_trials": 24})
    begin_verdict(run.folder, flag)
    end(run.folder)
    assert run.folder.read().get("judged_trials") == (24 if flag == "--settle" else None)


def test_an_extension_that_was_begun_before_and_says_no_trials_leaves_none_judged(run):
    give_up(run.folder)
    begin_verdict(run.folder, "--extend", trials=48)
    assert extend._require_begun_or_more(run.folder, RunOptions(phase="phase3", extend=True, trials=48)) is None


@pytest.mark.parametrize("given", [True, False])
def test_that_other_facts_alone_take_no_verdict_is_said(run, console, tmp_path, given):
    (tmp_path / "facts.toml").write_text("closed_catalogue = true\n")
    facts = str(tmp_path / "facts.toml") if given else None
    asked = dataclasses.replace(run, console=console, options=dataclasses.replace(run.options, facts=facts))
    nothing_new(asked, NothingNewError("nothing grew"))
    assert ("Other --facts alone take none" in console.file.getvalue()) == given
