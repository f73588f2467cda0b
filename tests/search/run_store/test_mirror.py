"""Runs whose results lie at a URI: what is sent, when, and what another machine makes of it."""

import json
import uuid
from pathlib import Path

import pytest

from fusion_models.data import open_dataset
from fusion_models.data.tables import TABLES, filesystem_of
from search.run_store.mirror import Mirror, MirrorError, is_uri, local_results, located, mirrored

SMALL = "planted?queries=160&candidates=8"


@pytest.fixture
def mirror(tmp_path):
    """A run folder mirrored in memory."""
    made = Mirror(f"memory://{uuid.uuid4().hex}/results/phase3", tmp_path / "here" / "phase3")
    (made.local / "checkpoints" / "t0000" / "training").mkdir(parents=True)
    (made.local / "tune").mkdir()
    for name in ("run.json", "study.journal", "checkpoints/t0000/weights.safetensors", "tune/x", ".part"):
        (made.local / name).write_text(f"{name}\n")
    (made.local / "checkpoints" / "t0000" / "training" / "state").write_text("half of an epoch")
    return made


def elsewhere(mirror, tmp_path, name="there"):
    """The same URI, seen from another machine."""
    return Mirror(mirror.uri, tmp_path / name / "phase3")


def tree(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")}


def test_what_is_sent_is_what_lasts_and_only_once(mirror, tmp_path):
    assert mirror.sync() == 3
    assert mirror.sync() == 0
    other = elsewhere(mirror, tmp_path)
    assert other.fetch()
    assert tree(other.local) == {"run.json", "study.journal", "checkpoints/t0000/weights.safetensors"}
    assert mirror.sync(whole=True) == 1  # the interrupted training's checkpoint, now that nobody writes it
    assert elsewhere(mirror, tmp_path, "third").fetch()
    assert "checkpoints/t0000/training/state" in tree(tmp_path / "third" / "phase3")


def test_what_is_deleted_here_goes_there(mirror, tmp_path):
    mirror.sync()
    (mirror.local / "checkpoints" / "t0000" / "weights.safetensors").unlink()
    mirror.sync()
    other = elsewhere(mirror, tmp_path)
    other.fetch()
    assert tree(other.local) == {"run.json", "study.journal"}


def test_half_a_line_of_the_journal_is_not_sent(mirror, tmp_path):
    with (mirror.local / "study.journal").open("a") as journal:
        journal.write("half a li")
    mirror.sync()
    other = elsewhere(mirror, tmp_path)
    other.fetch()
    assert (other.local / "study.journal").read_text() == "study.journal\n"


def test_a_training_told_while_others_are_sent_is_not_called_finished_before_what_it_left_is_there(mirror, tmp_path):
    """Whenever the machine is lost, what the journal at the URI speaks of lies there too."""
    weights = mirror.local / "checkpoints" / "t0001" / "weights.safetensors"
    put = mirror._put

    def told_meanwhile(name):
        if not weights.exists():
            weights.parent.mkdir()
            weights.write_text("weights")
            with (mirror.local / "study.journal").open("a") as journal:
                journal.write("t0001 finished\n")
        put(name)

    mirror._put = told_meanwhile
    mirror.sync()
    other = elsewhere(mirror, tmp_path)
    other.fetch()
    assert "t0001 finished" not in (other.local / "study.journal").read_text()
    mirror.sync()
    other.fetch()
    assert "t0001 finished" in (other.local / "study.journal").read_text()
    assert (other.local / "checkpoints" / "t0001" / "weights.safetensors").read_text() == "weights"


def test_a_copy_that_is_ahead_stays_and_one_that_is_behind_or_of_another_run_is_replaced(mirror, tmp_path):
    mirror.sync()
    with (mirror.local / "study.journal").open("a") as journal:
        journal.write("not sent yet\n")
    assert mirror.fetch()
    assert "not sent yet" in (mirror.local / "study.journal").read_text()
    assert "checkpoints/t0000/training/state" in tree(mirror.local)
    other = elsewhere(mirror, tmp_path)
    other.fetch()
    with (other.local / "study.journal").open("a") as journal:
        journal.write("the other machine went on\n")
    other.sync()
    assert mirror.fetch()
    assert (mirror.local / "study.journal").read_text() == "study.journal\nthe other machine went on\n"


@pytest.mark.parametrize("place", ["", "phase1"])
@pytest.mark.parametrize("half_a_line", ["", "half a li"])
def test_a_run_that_another_machine_has_ended_is_fetched_though_its_journal_says_no_more(tmp_path, place, half_a_line):
    """This machine was lost after its last training, and comes back: the end of a run writes nothing into a journal."""
    here = Mirror(f"memory://{uuid.uuid4().hex}/results/phase3", tmp_path / "here" / "phase3")
    (here.local / place).mkdir(parents=True)
    for name, said in (("run.json", '{"end": null}'), ("study.journal", "t0000\n"), ("decision.md", "of before")):
        (here.local / place / name).write_text(said)
    here.sync()
    other = elsewhere(here, tmp_path)
    other.fetch()
    (other.local / place / "run.json").write_text('{"end": "now"}')
    (other.local / place / "decision.md").write_text("GO")
    other.sync(whole=True)
    with (here.local / place / "study.journal").open("a") as journal:
        journal.write(half_a_line)
    assert here.fetch()
    assert (here.local / place / "decision.md").read_text() == "GO"
    assert json.loads((here.local / place / "run.json").read_text())["end"] == "now"
    assert here.sync() == 0


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "of an earlier version"])
def test_a_run_that_this_machine_has_ended_stays(mirror, tmp_path, noted):
    mirror.sync()
    if not noted:
        state = json.loads((mirror.local / ".mirror.json").read_text())
        (mirror.local / ".mirror.json").write_text(json.dumps(state["files"]))
    (mirror.local / "run.json").write_text('{"end": "now"}')
    assert mirror.fetch()
    assert (mirror.local / "run.json").read_text() == '{"end": "now"}'
    assert mirror.sync() == 1
    assert mirror.fetch()
    assert "checkpoints/t0000/training/state" in tree(mirror.local)


def test_what_has_gone_before_the_store_failed_is_known_as_sent(mirror, monkeypatch):
    """Else the run.json there would be taken for another machine's."""
    monkeypatch.setattr(mirror, "_put_looks", lambda: 1 / 0)
    with pytest.raises(MirrorError, match="ZeroDivisionError"):
        mirror.sync()
    (mirror.local / "run.json").write_text('{"end": "now"}')
    assert mirror.fetch()
    assert (mirror.local / "run.json").read_text() == '{"end": "now"}'


@pytest.fixture
def mirrored_roadmap(tmp_path):
    """A roadmap in its first phase, mirrored in memory."""
    made = Mirror(f"memory://{uuid.uuid4().hex}/results/phase3", tmp_path / "here" / "phase3")
    (made.local / "phase1" / "checkpoints" / "t0000").mkdir(parents=True)
    (made.local / "run.json").write_text('{"phase": "roadmap", "start": "2026-01-01"}')
    made.sync()
    return made


def write_phase(mirror, name, text):
    (mirror.local / name / "checkpoints" / "t0000").mkdir(parents=True, exist_ok=True)
    (mirror.local / name / "checkpoints" / "t0000" / "weights.safetensors").write_text("weights")
    (mirror.local / name / "run.json").write_text("{}")
    with (mirror.local / name / "study.journal").open("a") as journal:
        journal.write(text)


def test_a_roadmap_that_is_ahead_stays_whatever_its_phase(mirrored_roadmap):
    """The store was down: an hour of a phase of which it knows nothing, then one of which it knows the beginning."""
    write_phase(mirrored_roadmap, "phase1", "t0000\n")
    assert mirrored_roadmap.fetch()
    assert (mirrored_roadmap.local / "phase1" / "study.journal").read_text() == "t0000\n"
    mirrored_roadmap.sync(whole=True)
    write_phase(mirrored_roadmap, "phase1", "t0001\n")
    write_phase(mirrored_roadmap, "phase2", "t0000\n")
    before = tree(mirrored_roadmap.local)
    assert mirrored_roadmap.fetch()
    assert tree(mirrored_roadmap.local) == before
    assert (mirrored_roadmap.local / "phase1" / "study.journal").read_text() == "t0000\nt0001\n"


def test_a_roadmap_that_is_behind_or_another_one_is_replaced(mirrored_roadmap, tmp_path):
    write_phase(mirrored_roadmap, "phase1", "t0000\n")
    mirrored_roadmap.sync(whole=True)
    other = elsewhere(mirrored_roadmap, tmp_path)
    other.fetch()
    write_phase(other, "phase2", "the other machine went on\n")
    other.sync(whole=True)
    assert mirrored_roadmap.fetch()
    assert "phase2/study.journal" in tree(mirrored_roadmap.local)
    other.erase()
    other.local.mkdir(parents=True)
    (other.local / "run.json").write_text('{"phase": "roadmap", "start": "2026-02-02"}')
    other.sync(whole=True)
    assert mirrored_roadmap.fetch()
    assert tree(mirrored_roadmap.local) == {"run.json"}


def test_a_fetch_that_was_cut_off_is_made_again(mirror, tmp_path):
    mirror.sync()
    other = elsewhere(mirror, tmp_path)
    other.fetch()
    (other.local / "run.json").unlink()  # it comes last
    assert other.fetch()
    assert "run.json" in tree(other.local)


def test_who_reads_a_run_that_is_driven_here_never_replaces_it(mirror, console):
    reader = Mirror(mirror.uri, mirror.local)
    with mirrored(mirror, console):
        filesystem, root = filesystem_of(mirror.uri)
        filesystem.rm(root, recursive=True)
        assert reader.fetch()
        assert (mirror.local / "study.journal").exists()
        with mirrored(reader, console):  # a phase of a roadmap, within it
            assert reader.fetch()
        assert reader.fetch()
        assert (mirror.local / "checkpoints" / "t0000" / "training" / "state").exists()
    filesystem.rm(root, recursive=True)
    assert not reader.fetch()
    assert not mirror.local.exists()


def test_a_run_deleted_at_the_uri_is_no_run_here(mirror):
    mirror.sync()
    filesystem, root = filesystem_of(mirror.uri)
    filesystem.rm(root, recursive=True)
    assert not mirror.fetch()
    assert not mirror.local.exists()


def test_fresh_deletes_runs_alone(mirror, tmp_path):
    mirror.sync()
    above = Mirror(mirror.uri.rpartition("/")[0], mirror.local.parent)
    with pytest.raises(MirrorError, match=r"holds no run.*phase3/.*--fresh does not delete it"):
        above.erase()
    assert mirror.local.exists()
    assert elsewhere(mirror, tmp_path).fetch()


def test_looks_of_both_machines_are_kept_and_survive_fresh(mirror, tmp_path):
    mirror.sync()
    other = elsewhere(mirror, tmp_path)
    other.fetch()
    for side, run in ((mirror, "phase3"), (other, "phase1")):
        (side.local.parent / "test_looks.json").write_text(json.dumps({"abc": [{"run": run}]}))
        side.sync()
    mirror.erase()
    assert not mirror.local.exists()
    third = elsewhere(mirror, tmp_path, "third")
    assert not third.fetch()
    looks = json.loads((third.local.parent / "test_looks.json").read_text())
    assert [look["run"] for look in looks["abc"]] == ["phase3", "phase1"]


def test_a_store_that_cannot_be_used_is_an_error_that_names_it(tmp_path, s3_store, console):
    mirror = Mirror("s3://no-such-bucket/results/phase3", tmp_path / "phase3")
    mirror.local.mkdir()
    (mirror.local / "run.json").write_text("{}")
    with pytest.raises(MirrorError, match=r"s3://no-such-bucket.*credentials"), mirrored(mirror, console):
        pytest.fail("nothing may be trained for a store that takes nothing")
    with pytest.raises(MirrorError, match="cannot use nonsense://"):
        Mirror("nonsense://x/y", tmp_path)
    with pytest.raises(MirrorError, match="no run at s3://team/none/phase3"):
        located("s3://team/none/phase3")


def test_paths_are_paths(tmp_path):
    assert not is_uri("results")
    assert local_results(f"file://{tmp_path}") == local_results(str(tmp_path)) == tmp_path
    assert located(str(tmp_path)) == (tmp_path, None)


def test_a_run_goes_to_a_server_that_speaks_s3_and_comes_back(mirror, tmp_path, s3_store, small_data):
    there = Mirror("s3://team/results/phase3", mirror.local)
    assert there.sync(whole=True) == 4
    (mirror.local / "checkpoints" / "t0000" / "weights.safetensors").unlink()
    there.sync(whole=True)
    folder, _ = located("s3://team/results/phase3")
    assert folder != mirror.local
    assert tree(folder) == tree(mirror.local) - {"tune/x"}
    listed = s3_store.list_objects_v2(Bucket="team", Prefix="results/")["Contents"]
    assert "results/phase3/study.journal" in {entry["Key"] for entry in listed}


def test_data_on_s3_is_the_same_data(s3_store, small_data):
    filesystem, root = filesystem_of("s3://team/data")
    for table in TABLES:
        with filesystem.open(f"{root}/{table}.parquet", "wb") as file:
            file.write((Path(small_data.location) / f"{table}.parquet").read_bytes())
    assert open_dataset("s3://team/data").fingerprint == small_data.fingerprint


def test_whether_all_was_sent_is_known(mirror, tmp_path):
    assert mirror.behind()
    mirror.sync(whole=True)
    assert not mirror.behind()
    other = elsewhere(mirror, tmp_path)
    other.fetch()
    assert not other.behind()
    with (mirror.local / "study.journal").open("a") as journal:
        journal.write("a stage was opened, by a command that was refused\n")
    assert not mirror.behind()
    (mirror.local / "run.json").write_text("ended\n")
    assert mirror.behind()
    mirror.sync()
    (mirror.local / "study.journal").unlink()
    assert mirror.behind()


@pytest.mark.parametrize("after", range(3))
def test_a_deletion_at_the_uri_that_was_cut_off_is_made_again(mirror, tmp_path, monkeypatch, after):
    for place in (mirror.local / "checkpoints").rglob("*"):
        place.unlink() if place.is_file() else None
    (mirror.local / "trials.csv").write_text("a table\n")
    mirror.sync(whole=True)
    filesystem, left = mirror._filesystem, [after]
    delete = filesystem.rm_file

    def killed(path):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        delete(path)

    monkeypatch.setattr(filesystem, "rm_file", killed)
    with pytest.raises(KeyboardInterrupt):
        mirror.erase()
    monkeypatch.setattr(filesystem, "rm_file", delete)
    other = elsewhere(mirror, tmp_path)
    assert other.fetch()
    other.erase()
    assert not other.fetch()
