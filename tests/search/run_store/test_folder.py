"""A run folder: which names it may have, and what may be deleted for a run that starts over."""

import pytest

from search.audit.options import AuditOptions
from search.options import RunOptions
from search.run_store.folder import RunFolder, RunFolderError


@pytest.mark.parametrize("name", ["", ".", "./", "..", "../other", "a/../..", "/tmp/elsewhere"])
def test_a_name_lies_below_the_results(name):
    with pytest.raises(ValueError, match="names no folder below --results"):
        RunOptions(phase="phase1", name=name)
    with pytest.raises(ValueError, match="names no folder below --results"):
        AuditOptions(name=name)


@pytest.mark.parametrize("name", ["shop", "team/shop", ".hidden", "a b"])
def test_a_name_may_be_a_path_below_them(name):
    assert RunOptions(phase="phase1", name=name).name == AuditOptions(name=name).name == name


def test_fresh_deletes_runs_alone(tmp_path):
    team = tmp_path / "team"
    (team / "phase3").mkdir(parents=True)
    (team / "phase3" / "run.json").write_text("{}")
    with pytest.raises(RunFolderError, match=r"holds no run.*phase3.*--fresh does not delete it"):
        RunFolder(team).prepare(resume=False, fresh=True)
    assert (team / "phase3" / "run.json").exists()
    RunFolder(team / "phase3").prepare(resume=False, fresh=True)
    assert list((team / "phase3").iterdir()) == []
    RunFolder(team / "phase3").prepare(resume=False, fresh=True)  # an empty folder is anybody's
