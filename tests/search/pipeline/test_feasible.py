"""What cannot be done is said before anything is deleted or written, of a phase and of a roadmap."""

import json

import pytest
import ray

from search.options import RunOptions
from search.pipeline.phase import run_phase
from search.pipeline.roadmap import run_roadmap
from search.run_store.folder import FORMAT

SMALL = "planted?queries=160&candidates=8"
MISTAKES = (
    ({"set": ("model.widht=64",)}, "model.widht"),
    ({"data": "my-shpo"}, "my-shpo"),
    ({"set": ("model.modalities=visual",)}, "at least one more"),
    ({"data": SMALL.replace("160", "2")}, "split"),
    ({"warm_from": "no-such-run"}, "no run lies there"),
    ({"max_seeds": 6, "set": ("train.members=8",)}, "fewer than the 9 trainings"),
    ({"weights": "no-such-weights.pt"}, "no such file"),
)
RUNS = {"phase1": run_phase, "roadmap": run_roadmap}


@pytest.fixture(params=RUNS)
def asked(request, tmp_path):
    return RunOptions(phase=request.param, data=SMALL, results=str(tmp_path))


def finished(options, tmp_path):
    """A run of that name that has ended."""
    folder = tmp_path / options.phase
    folder.mkdir()
    described = {"format": FORMAT, "phase": options.phase, "start": "2026-01-01", "end": "2026-01-02"}
    (folder / "run.json").write_text(json.dumps(described))
    (folder / "decision.json").write_text('{"verdict": "GO"}')
    return folder


def changed(options, changes):
    return RunOptions(**vars(options) | changes)


@pytest.mark.parametrize(("changes", "said"), MISTAKES)
def test_fresh_deletes_nothing_for_a_run_that_cannot_be(tmp_path, asked, console, changes, said):
    folder = finished(asked, tmp_path)
    with pytest.raises(ValueError, match=said):
        RUNS[asked.phase](changed(asked, changes | {"fresh": True}), console)
    assert {path.name for path in folder.iterdir()} == {"run.json", "decision.json"}


@pytest.mark.parametrize(("changes", "said"), MISTAKES)
def test_a_run_that_cannot_be_leaves_nothing_behind(tmp_path, asked, console, changes, said):
    with pytest.raises(ValueError, match=said):
        RUNS[asked.phase](changed(asked, changes), console)
    assert list(tmp_path.iterdir()) == []


RAY = {"cannot start": ({}, "for Ray's sockets"), "no cluster": ({"address": "auto"}, "no Ray cluster answers there")}


@pytest.fixture
def no_cluster(monkeypatch):
    """No cluster answers; here, Ray may make no folder (see `ray_forbidden`)."""

    def nobody(**arguments):
        raise ConnectionError("nobody")

    monkeypatch.setattr(ray, "init", nobody)


@pytest.mark.parametrize("case", RAY)
@pytest.mark.usefixtures("no_cluster")
def test_a_ray_that_does_not_come_up_leaves_nothing_behind_and_deletes_nothing(tmp_path, asked, console, case):
    changes, said = RAY[case]
    with pytest.raises(ValueError, match=said):
        RUNS[asked.phase](changed(asked, changes), console)
    assert list(tmp_path.iterdir()) == []
    folder = finished(asked, tmp_path)
    with pytest.raises(ValueError, match=said):
        RUNS[asked.phase](changed(asked, changes | {"fresh": True}), console)
    assert {path.name for path in folder.iterdir()} == {"run.json", "decision.json"}


def test_looks_that_cannot_be_read_are_told_before_anything_is_trained(tmp_path, asked, console, monkeypatch):
    state = tmp_path / "state"
    state.mkdir()
    (state / "test_looks.json").write_text('{"half')
    monkeypatch.setenv("FUSION_SEARCH_STATE", str(state))
    with pytest.raises(ValueError, match=r"test_looks\.json is not JSON"):
        RUNS[asked.phase](changed(asked, {}), console)
    assert list(tmp_path.iterdir()) == [state]


def test_a_roadmap_at_a_uri_is_not_erased_for_a_mistake(tmp_path, console, monkeypatch):
    monkeypatch.setenv("FUSION_SEARCH_CACHE", str(tmp_path / "cache"))
    there = tmp_path / "store" / "roadmap"
    there.mkdir(parents=True)
    (there / "run.json").write_text("{}")
    options = RunOptions(phase="roadmap", data="my-shpo", results=f"local://{tmp_path / 'store'}", fresh=True)
    with pytest.raises(ValueError, match="my-shpo"):
        run_roadmap(options, console)
    assert (there / "run.json").exists()


def test_every_phase_of_the_roadmap_is_asked(tmp_path, console):
    """A phase file that narrows phase 2 to one modality is refused before phase 1 is run."""
    file = tmp_path / "ours.toml"
    file.write_text('extends = "phase2"\n[base]\n"model.modalities" = ["visual"]\n')
    options = RunOptions(phase="roadmap", data=SMALL, results=str(tmp_path), phase_file=str(file))
    with pytest.raises(ValueError, match="modalities"):
        run_roadmap(options, console)
    assert not (tmp_path / "roadmap").exists()
