"""Phase 4 validates one verdict of phase 3, and no other in its place."""

import json

import pytest

from fusion_models.data import fingerprint_of
from search.options import RunOptions
from search.pipeline.continuation.resuming import plain_options
from search.pipeline.release.production import run_production
from search.pipeline.release.standing import standing
from search.run_store.folder import FORMAT, RunFolder, RunFolderError
from spaces import phase_to_plain

SMALL = "planted?queries=160&candidates=8"


def written(path, phase, **changes):
    options = RunOptions(phase=phase, data=SMALL)
    said = {"format": FORMAT, "phase": phase, "options": plain_options(options), "start": "2026-01-01", "data": SMALL}
    said |= {"definition": phase_to_plain(options.to_phase()), "fingerprint": fingerprint_of(SMALL)}
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps(said | {"end": "2026-01-02"} | changes))
    return RunFolder(path)


@pytest.fixture
def source(tmp_path):
    """A phase 3 that has ended."""
    folder = written(tmp_path / "phase3", "phase3")
    (folder.path / "finalist.json").write_text("{}")
    return folder


def settled(source):
    further = {"number": 2, "by": "--settle", "start": "now", "end": "now", "before": "then"}
    source.write(source.read() | {"verdicts": [further]})


def run_anew(source):
    (source.path / "finalist.json").write_text('{"fixed": "later"}')


@pytest.mark.parametrize("end", ["2026-01-03", None])
@pytest.mark.parametrize(("changed", "said"), [(settled, "has verdict 2"), (run_anew, "has another finalist")])
def test_a_phase_4_goes_on_with_the_verdict_that_it_began_with(source, tmp_path, console, end, changed, said):
    folder = written(tmp_path / "phase4", "phase4", end=end, phase3=standing(source))
    (folder.path / "study.journal").write_text("")
    changed(source)
    asked = RunOptions(phase="phase4", data=SMALL, results=str(tmp_path), resume=end is None)
    with pytest.raises(RunFolderError, match=rf"validates verdict 1 of .*phase3, which {said} by now: give --fresh"):
        run_production(asked, console)


def test_a_finished_phase_4_whose_phase_3_is_gone_or_as_it_was_is_shown(source, tmp_path, console):
    written(tmp_path / "phase4", "phase4", phase3=standing(source))
    asked = RunOptions(phase="phase4", data=SMALL, results=str(tmp_path))
    run_production(asked, console)
    source.description.unlink()
    run_production(asked, console)
    assert console.file.getvalue().count("nothing was changed") == 2


def test_phase_4_does_not_begin_while_a_further_verdict_of_phase_3_is_under_way(source, tmp_path, console):
    source.write(source.read() | {"further": {"number": 2, "by": "--extend", "start": "now", "before": "then"}})
    with pytest.raises(RunFolderError, match="has begun verdict 2 by --extend: end that one first"):
        run_production(RunOptions(phase="phase4", data=SMALL, results=str(tmp_path)), console)
    assert not (tmp_path / "phase4").exists()
