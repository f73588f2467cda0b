"""A run is opened again without the files that only its making needed."""

import contextlib
import io
import json
import signal
import sys

import optuna
import pytest
from rich.console import Console

from fusion_models.config import Recipe
from fusion_models.data import open_dataset
from search.options import RunOptions
from search.pipeline.confirmation.arms import STAGE
from search.pipeline.confirmation.finalist import Finalist
from search.pipeline.continuation import reopen as reopening
from search.pipeline.continuation import settle as settling
from search.pipeline.continuation.reopen import facts_of, reopen
from search.pipeline.continuation.resuming import plain_options
from search.pipeline.phase import run_phase
from search.reporting import read_run
from search.run_store.folder import FORMAT
from search.run_store.job import Job, Outcome
from search.run_store.journal import open_journal
from search.study.stages import SEARCH, FixedStage
from spaces import phase_to_plain

SMALL = "planted?queries=160&candidates=8"


@pytest.fixture
def ended(tmp_path):
    """A run folder without a training, made with facts that are gone since and a tracker that is not here."""
    facts, path = tmp_path / "facts.toml", tmp_path / "results" / "phase1"
    facts.write_text("resources = true\n")
    options = RunOptions(phase="phase1", data=SMALL, facts=str(facts), results=str(path.parent))
    facts.unlink()
    path.mkdir(parents=True)
    data = open_dataset(SMALL)
    said = {"format": FORMAT, "phase": "phase1", "options": plain_options(options) | {"track": "mlflow"}}
    said |= {"definition": phase_to_plain(options.to_phase()), "data": data.source, "fingerprint": data.fingerprint}
    (path / "run.json").write_text(json.dumps(said | {"seed": 0, "start": "2026-01-01", "end": "2026-01-02"}))
    optuna.create_study(study_name=SEARCH, storage=open_journal(path / "study.journal"))
    return path


def test_neither_facts_nor_tracker_are_needed(ended, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    run = reopen(read_run(ended), Console(file=io.StringIO()))
    assert (run.options.facts, run.options.track) == (None, None)


def test_a_tracker_that_is_here_stays(ended):
    assert reopen(read_run(ended), Console(file=io.StringIO())).options.track == "mlflow"


def test_a_further_verdict_takes_the_facts_of_now_or_says_which_are_gone(ended, tmp_path):
    record, given = read_run(ended), tmp_path / "moved.toml"
    given.write_text("resources = true\n")
    assert facts_of(record, RunOptions(phase="phase1", facts=str(given))) == str(given)
    with pytest.raises(ValueError, match=r"give them as --facts .*facts\.toml cannot be read"):
        facts_of(record, RunOptions(phase="phase1"))
    given.rename(tmp_path / "facts.toml")
    assert facts_of(record, RunOptions(phase="phase1")) == str(tmp_path / "facts.toml")


def test_an_extension_says_it_before_a_verdict_is_begun(ended, console):
    options = RunOptions(phase="phase1", results=str(ended.parent), extend=True, trials=48)
    with pytest.raises(ValueError, match="give them as --facts"):
        run_phase(options, console)
    assert "further" not in json.loads((ended / "run.json").read_text())


@pytest.mark.parametrize("asked", [{"extend": True, "trials": 48}, {"settle": True}])
def test_a_ray_that_does_not_come_up_leaves_no_verdict_that_was_begun(ended, tmp_path, console, monkeypatch, asked):
    (tmp_path / "facts.toml").write_text("resources = true\n")
    recipe = read_run(ended).phase.base.flat()
    monkeypatch.setattr(settling, "read_finalist", lambda folder: Finalist(trial_id="t0", recipe=recipe, seeds=(0,)))
    before = (ended / "run.json").read_text()
    with pytest.raises(ValueError, match="for Ray's sockets"):  # no test without its mark may start Ray
        run_phase(RunOptions(phase="phase1", results=str(ended.parent), **asked), console)
    assert (ended / "run.json").read_text() == before
    assert not (ended / "verdicts").exists()


def test_an_ablation_hears_an_interrupt_as_a_run_does(ended, console, monkeypatch):
    """Else a second Ctrl-C breaks off the end of Ray, and leaves processes behind."""
    before, seen = signal.getsignal(signal.SIGINT), []

    @contextlib.contextmanager
    def session(options):
        seen.append(signal.getsignal(signal.SIGINT))
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(reopening, "ray_session", session)
    record = read_run(ended)
    monkeypatch.setattr(type(record), "trial", lambda self, trial_id: None)
    with pytest.raises(KeyboardInterrupt):
        reopening.ablate_trial(record, "t0000", console)
    assert seen != [before]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("asked", [{"extend": True, "trials": 48}, {"settle": True}])
def test_a_phase_of_a_roadmap_gets_no_further_verdict(ended, console, asked):
    described = json.loads((ended / "run.json").read_text())
    (ended / "run.json").write_text(json.dumps(described | {"roadmap": {"folder": "roadmap"}}))
    with pytest.raises(ValueError, match="is a phase of a roadmap, whose later phases stand on its verdict"):
        run_phase(RunOptions(phase="phase1", results=str(ended.parent), **asked), console)


@pytest.mark.parametrize("arms", [1, 2])
def test_the_intact_finalist_of_an_ablation_is_its_own_arm_alone(ended, arms):
    """The base recipe's arm has its recipe and seeds, where it is the finalist of a later verdict."""
    run = reopen(read_run(ended), Console(file=io.StringIO()))
    recipe = run.phase.base.flat()
    whole = f"finalist-{'+'.join(Recipe.from_flat(recipe).model.modalities)}"
    slugs = ["base-visual+text+metadata", whole, f"{whole}-v2"]
    jobs = [Job(trial_id=f"{slug}-d{i}", name=slug, recipe=recipe, seed=i) for slug in slugs for i in range(4)]
    stage = FixedStage(run.store.journal, STAGE, jobs)
    while (job := stage.ask()) is not None:
        state = "failed" if job.trial_id.endswith("d1") else "finished"
        stage.tell(job, Outcome(state=state, reason="", epochs=1, numbers={"ndcg": 0.5}, seconds=1.0))
    intact = reopening._deciding(run, Finalist(trial_id="t0000", recipe=recipe, seeds=(0,), is_base=True, arms=arms))
    own = whole if arms == 1 else f"{whole}-v2"
    assert intact.trainings == (f"{own}-d0", f"{own}-d2", f"{own}-d3")
