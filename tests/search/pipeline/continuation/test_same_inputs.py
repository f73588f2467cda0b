"""Data that have moved are the same data, and other data at the same place are not."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import optuna
import pytest
from rich.console import Console
from safetensors.torch import save_file

from fusion_models.data import fingerprint_of, open_dataset
from fusion_models.data.planted import write_planted
from fusion_models.data.planted.presets import planted_config
from fusion_models.training import start
from search.options import RunOptions
from search.pipeline import roadmap
from search.pipeline.continuation.reopen import reopen
from search.pipeline.continuation.resuming import plain_options
from search.pipeline.continuation.same_inputs import open_again, require_same_data
from search.pipeline.phase import describe, run_phase
from search.pipeline.release.production import run_production
from search.pipeline.roadmap import run_roadmap
from search.pipeline.roadmap_step import RoadmapStep, halved
from search.reporting import read_run
from search.run_store.folder import FORMAT, RunFolder, RunFolderError
from search.run_store.journal import open_journal
from search.run_store.start_weights import kept_start
from search.study.stages import SEARCH
from spaces import ROADMAP_STEPS, phase_to_plain

RUNS = {"phase1": run_phase, "phase4": run_production, "roadmap": run_roadmap}
MODULE = """
from fusion_models.models.variants import CrossAttention
class Mine(CrossAttention):
    \"\"\"Somebody's own.\"\"\"
"""


def shop(path, seed=0):
    write_planted(planted_config(f"planted?queries=160&candidates=8&seed={seed}"), path)
    return str(path)


@pytest.fixture
def data(tmp_path):
    return shop(tmp_path / "shop")


def replaced(data):
    """Other tables where these lay."""
    shutil.rmtree(data)
    shop(Path(data), seed=1)


def moved(data, to):
    shutil.move(data, to)
    return str(to)


def written(path, options, *, end="2026-01-02", **changes):
    """The folder of a run as these options began it, without a training."""
    said = {"format": FORMAT, "phase": options.phase, "options": plain_options(options), "start": "2026-01-01"}
    if options.phase == "roadmap":
        said["definitions"] = {name: phase_to_plain(options.to_phase(name)) for name in ROADMAP_STEPS}
        said["resumed"] = 0
    else:
        said["definition"] = phase_to_plain(options.to_phase())
        said["data"] = open_dataset(options.data).source
        path.mkdir(parents=True)
        optuna.create_study(study_name=SEARCH, storage=open_journal(path / "study.journal"))
    said |= {"fingerprint": fingerprint_of(options.data), "end": end, "seed": 0}
    RunFolder(path).path.mkdir(parents=True, exist_ok=True)
    (path / "run.json").write_text(json.dumps(said | changes))
    return RunFolder(path)


@pytest.mark.parametrize("phase", RUNS)
def test_a_finished_run_answers_for_its_data_wherever_they_lie_and_for_no_others(tmp_path, data, console, phase):
    options = RunOptions(phase=phase, data=data, results=str(tmp_path / "results"))
    folder = written(tmp_path / "results" / phase, options)
    RUNS[phase](options, console)
    there = moved(data, tmp_path / "elsewhere")
    RUNS[phase](RunOptions(phase=phase, data=there, results=options.results), console)
    assert console.file.getvalue().count("nothing was changed") == 2
    before = folder.description.read_text()
    shop(tmp_path / "shop", seed=1)
    with pytest.raises(RunFolderError, match="as it was, and other data lie there now"):
        RUNS[phase](options, console)
    assert folder.description.read_text() == before


@pytest.mark.parametrize("phase", RUNS)
def test_a_finished_run_can_be_read_where_its_data_are_gone(tmp_path, data, console, phase):
    options = RunOptions(phase=phase, data=data, results=str(tmp_path / "results"))
    written(tmp_path / "results" / phase, options)
    shutil.rmtree(data)
    RUNS[phase](options, console)
    said = " ".join(console.file.getvalue().split())
    assert "nothing was changed" in said
    assert "cannot be told, since it cannot be opened" in said
    with pytest.raises(RunFolderError, match=r"not on .*nowhere, which cannot be opened \(no dataset at"):
        RUNS[phase](RunOptions(phase=phase, data=str(tmp_path / "nowhere"), results=options.results), console)


def test_so_can_one_whose_data_declared_their_own_modalities(tmp_path, data, console):
    options = RunOptions(phase="phase1", data="planted?queries=160&candidates=8&modalities=visual,text")
    folder = written(tmp_path / "results" / "phase1", options)
    said = folder.read()
    folder.write(said | {"options": said["options"] | {"data": str(tmp_path / "gone")}})
    run_phase(RunOptions(phase="phase1", data=str(tmp_path / "gone"), results=str(tmp_path / "results")), console)
    assert "nothing was changed" in console.file.getvalue()


def test_a_finished_run_does_not_answer_for_a_module_that_has_changed(tmp_path, data, console, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_then.py").write_text(MODULE)
    options = RunOptions(phase="phase1", data=data, model="mine_then:Mine", results=str(tmp_path / "results"))
    written(tmp_path / "results" / "phase1", options, model={"reference": options.model, "sha256": "of then"})
    with pytest.raises(RunFolderError, match="another source of mine_then:Mine"):
        run_phase(options, console)


def test_a_resumed_run_notes_where_its_data_lie_now(tmp_path, data):
    options = RunOptions(phase="phase1", data=data, resume=True)
    folder = written(tmp_path / "results" / "phase1", options, end=None)
    there = moved(data, tmp_path / "elsewhere")
    asked = RunOptions(phase="phase1", data=there, resume=True)
    describe(folder, asked, asked.to_phase(), open_dataset(there), folder.read())
    assert (folder.read()["data"], folder.read()["options"]["data"]) == (there, there)


@pytest.mark.parametrize("asked", ["{}/other", "{}/shop", "{}/shop#halved"])
def test_a_run_is_not_resumed_on_other_data_or_other_halves(tmp_path, data, asked):
    folder = written(tmp_path / "results" / "phase1", RunOptions(phase="phase1", data=data), end=None)
    shop(tmp_path / "other", seed=1)
    if asked.endswith("shop"):
        replaced(data)
    place = asked.format(tmp_path)
    with pytest.raises(RunFolderError, match="was started on other data") as caught:
        require_same_data(folder, folder.read(), place, fingerprint_of(place))
    assert ("holds now" in str(caught.value)) is (place == data)


@pytest.mark.parametrize("half", ["", "#halved"])
def test_a_run_is_opened_again_from_where_its_data_lie_now(tmp_path, data, console, half):
    folder = written(tmp_path / "results" / "phase1", RunOptions(phase="phase1", data=data + half))
    there = moved(data, tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"cannot be opened .*: give the place where they lie now as --data"):
        open_again(folder)
    run = reopen(read_run(folder.path), console, there)
    assert (run.data.source, run.options.data) == (there + half, there + half)
    assert folder.read()["data"] == there + half
    assert open_again(folder).source == there + half
    shop(tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match="holds other data than when"):
        open_again(folder, str(tmp_path / "other"))


@pytest.mark.parametrize("further", [{"settle": True}, {"extend": True, "trials": 48}])
def test_a_further_verdict_is_taken_on_data_that_have_moved(tmp_path, data, console, monkeypatch, further):
    folder = written(tmp_path / "results" / "phase1", RunOptions(phase="phase1", data=data))
    monkeypatch.setattr("search.pipeline.continuation.settle.read_finalist", lambda folder: "t0000")
    monkeypatch.setattr("search.pipeline.continuation.settle._require_room", lambda run: None)
    there = moved(data, tmp_path / "elsewhere")
    asked = RunOptions(phase="phase1", data=there, results=str(tmp_path / "results"), **further)
    with pytest.raises(ValueError, match="for Ray's sockets"):  # all before Ray was in order
        run_phase(asked, console)
    assert folder.read()["data"] == there


def begun_roadmap(tmp_path, data, **options):
    """A roadmap that was interrupted after its first phase."""
    asked = RunOptions(phase="roadmap", data=data, results=str(tmp_path / "results"), **options)
    folder = written(tmp_path / "results" / "roadmap", asked, end=None)
    first = RunOptions(phase="phase1", data=halved(data), **options)
    written(folder.path / "phase1", first)
    return folder


def resumed(folder, data, **options):
    asked = RunOptions(phase="roadmap", data=data, resume=True, results=str(folder.path.parent), **options)
    with contextlib.ExitStack() as session:
        roadmap._open(folder, asked, Console(file=io.StringIO()), None, session)


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "of an earlier version"])
def test_a_roadmap_is_not_resumed_on_other_data(tmp_path, data, noted):
    folder = begun_roadmap(tmp_path, data)
    if not noted:
        folder.write({k: v for k, v in folder.read().items() if k != "fingerprint"})
    replaced(data)
    with pytest.raises(RunFolderError, match=r"was started on other data than .* holds now"):
        resumed(folder, data)


def test_a_roadmap_is_resumed_on_data_that_have_moved_and_every_phase_notes_it(tmp_path, data):
    folder = begun_roadmap(tmp_path, data)
    there = moved(data, tmp_path / "elsewhere")
    resumed(folder, there)
    assert folder.read()["options"]["data"] == there
    assert RunFolder(folder.path / "phase1").read()["data"] == halved(there)


@pytest.mark.parametrize("phase", ["phase2", "phase4"])
def test_a_phase_does_not_begin_on_other_data_than_its_roadmap(tmp_path, data, console, phase):
    """Hours after the roadmap itself was opened."""
    folder = begun_roadmap(tmp_path, data)
    replaced(data)
    asked = RunOptions(phase=phase, data=halved(data), results=str(folder.path))
    link = RoadmapStep(phase=phase, folder=folder, earlier=(), warm={})
    if phase == "phase4":
        three = written(folder.path / "phase3", RunOptions(phase="phase3", data=halved(data)))
        (three.path / "decision.json").write_text('{"verdict": "GO"}')
    with pytest.raises(RunFolderError, match=r"roadmap was started on other data than .*shop holds now"):
        run_phase(asked, console, link=link) if phase == "phase2" else run_production(
            asked, console, source=three, link=link
        )
    assert not (folder.path / phase).exists()


def test_phase_4_says_that_the_tables_of_phase_3_have_changed(tmp_path, data, console):
    written(tmp_path / "results" / "phase3", RunOptions(phase="phase3", data=data))
    replaced(data)
    with pytest.raises(RunFolderError, match="as it was, and other data lie there now"):
        run_production(RunOptions(phase="phase4", data=data, results=str(tmp_path / "results")), console)


def test_a_roadmap_is_not_resumed_with_another_source_of_a_module(tmp_path, data, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_now.py").write_text(MODULE)
    folder = begun_roadmap(tmp_path, data, model="mine_now:Mine")
    folder.write(folder.read() | {"model": {"reference": "mine_now:Mine", "sha256": "of then"}})
    with pytest.raises(RunFolderError, match="another source of mine_now:Mine"):
        resumed(folder, data, model="mine_now:Mine")


def test_every_phase_of_a_roadmap_starts_from_the_weights_that_the_first_did(tmp_path, data, console):
    """The file of `--weights` may be another one by then, or none."""
    phase = RunOptions(phase="phase1", data=data, weights="unread").to_phase()
    opened = open_dataset(data)
    file = tmp_path / "production.safetensors"
    save_file(start(phase.base.updated({"train.start": "fresh"}), opened, seed=7).model.state_dict(), file)
    folder = begun_roadmap(tmp_path, data, weights=str(file))
    resumed(folder, data, weights=str(file))
    kept = kept_start(folder.checkpoints)
    assert folder.read()["weights"]["sha256"]
    file.unlink()
    resumed(folder, data, weights=str(file))
    link = RoadmapStep(phase="phase2", folder=folder, earlier=(), warm={})
    asked = RunOptions(phase="phase2", data=halved(data), results=str(folder.path), weights=str(file))
    with pytest.raises(ValueError, match="for Ray's sockets"):  # all before Ray was in order
        run_phase(asked, console, link=link)
    assert kept_start(folder.checkpoints) == kept
