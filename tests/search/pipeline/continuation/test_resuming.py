"""Which options may differ when a run is resumed."""

import json

import pytest

from search.options import RunOptions
from search.pipeline.continuation.resuming import plain_options, require_same_options
from search.pipeline.phase import run_phase
from search.pipeline.release.production import run_production
from search.pipeline.roadmap import run_roadmap
from search.run_store.folder import FORMAT, RunFolder, RunFolderError


def test_a_run_that_was_started_with_fresh_can_be_resumed(tmp_path):
    before = {"options": plain_options(RunOptions(phase="phase1", fresh=True))}
    require_same_options(RunFolder(tmp_path), before, RunOptions(phase="phase1", resume=True))


def test_other_options_are_named(tmp_path):
    before = {"options": plain_options(RunOptions(phase="phase1", seed=1))}
    with pytest.raises(RunFolderError, match="seed was 1 and is now 0"):
        require_same_options(RunFolder(tmp_path), before, RunOptions(phase="phase1", resume=True))


RUNS = {"phase1": run_phase, "phase4": run_production, "roadmap": run_roadmap}


class StoppedError(Exception):
    """Where the facts of a resumed run are known."""


@pytest.fixture
def begun(tmp_path):
    """RESULTS in which a run of `phase` was begun with facts."""

    def write(phase):
        facts = tmp_path / "facts.toml"
        facts.write_text("closed_catalogue = true\n")
        said = {"format": FORMAT, "phase": phase, "options": {"facts": str(facts)}, "end": None}
        (tmp_path / phase).mkdir()
        (tmp_path / phase / "run.json").write_text(json.dumps(said))
        return str(facts)

    return write


@pytest.mark.parametrize(("phase", "begun_of"), [*zip(RUNS, RUNS, strict=True), ("phase4", "phase3")])
def test_a_resumed_run_keeps_its_facts(tmp_path, console, begun, monkeypatch, phase, begun_of):
    """A phase 4 that was killed in the phase 3 that it runs first has them of that."""
    own, seen = begun(begun_of), []

    def stop(options, *rest):
        seen.append(next(o for o in (options, *rest) if isinstance(o, RunOptions)).facts)
        raise StoppedError

    for place in ("phase._warm", "roadmap._open", "release.production.finished_phase3"):
        monkeypatch.setattr(f"search.pipeline.{place}", stop)
    for given in (None, "docs/facts.example.toml"):
        asked = RunOptions(phase=phase, results=str(tmp_path), resume=True, facts=given)
        with pytest.raises(StoppedError):
            RUNS[phase](asked, console)
    assert seen == [own, "docs/facts.example.toml"]


def test_a_resumed_run_says_which_facts_are_gone(tmp_path, console, begun):
    begun("phase1")
    (tmp_path / "facts.toml").unlink()
    with pytest.raises(RunFolderError, match=r"give them as --facts .*facts\.toml cannot be read"):
        run_phase(RunOptions(phase="phase1", results=str(tmp_path), resume=True), console)
