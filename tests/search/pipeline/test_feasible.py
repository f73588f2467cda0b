"""What cannot be done is said before anything is deleted or written, of a phase and of a roadmap."""

import dataclasses
import json

import pytest
import ray

from search.options import RunOptions
from search.pipeline.feasible import open_feasible
from search.pipeline.phase import run_phase
from search.pipeline.roadmap import run_roadmap
from search.run_store.folder import FORMAT
from spaces import PHASES, Choice, Float, Weight

SMALL = "planted?queries=160&candidates=8"
WHOLE = ("visual+text+metadata",)
MISTAKES = (
    ({"set": ("model.widht=64",)}, "model.widht"),
    ({"data": "my-shpo"}, "my-shpo"),
    ({"set": ("model.modalities=visual",)}, "at least one more"),
    ({"set": ("model.variant=filmm",)}, "model.variant must be one of cross_attention"),
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


def assert_refused_in_time(results, asked, console, changes, said):
    """A mistake makes no folder, and with --fresh deletes none."""
    with pytest.raises(ValueError, match=said):
        RUNS[asked.phase](changed(asked, changes), console)
    assert list(results.iterdir()) == []
    folder = finished(asked, results)
    with pytest.raises(ValueError, match=said):
        RUNS[asked.phase](changed(asked, changes | {"fresh": True}), console)
    assert {path.name for path in folder.iterdir()} == {"run.json", "decision.json"}


@pytest.mark.parametrize("case", RAY)
@pytest.mark.usefixtures("no_cluster")
def test_a_ray_that_does_not_come_up_leaves_nothing_behind_and_deletes_nothing(tmp_path, asked, console, case):
    assert_refused_in_time(tmp_path, asked, console, *RAY[case])


ROOM = {
    "processors": ({"cpus_per_worker": 64}, "--cpus-per-worker 64 asks for more than the 2 CPUs"),
    "a GPU": ({"gpus_per_worker": 1.0}, "--gpus-per-worker 1.0 asks for more than the 0 GPUs"),
    "workers": ({"workers_per_trial": 3}, "--workers-per-trial 3 asks for more workers than the 2"),
}


@pytest.fixture
def two_processors(monkeypatch):
    """As if Ray had come up on a machine that has them."""
    monkeypatch.setattr("search.execution.cluster.start_ray", lambda *_: None)
    monkeypatch.setattr("search.execution.cluster.close_groups", lambda: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])


@pytest.mark.parametrize("case", ROOM)
@pytest.mark.usefixtures("two_processors")
def test_a_training_for_which_there_is_no_room_leaves_nothing_behind_and_deletes_nothing(
    tmp_path, asked, console, case
):
    assert_refused_in_time(tmp_path, asked, console, *ROOM[case])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"ranges": {"loss.unimodal": Weight(low=0.1, high=0.2)}, "known": {"x": {"loss.unimodal": 0.3}}},
            r"the known point 'x' lies outside of the ranges \(.*\): widen them",
        ),
        ({"known": {"x": {"model.width": 64}}}, "'x' sets model.width, which phase1 does not search: give it a range"),
        (
            {"ranges": {"train.learning_rate": Float(low=1e-6, high=1e-5)}, "known": {}},
            "the known point 'base' lies outside",
        ),
        (
            {"ranges": {"model.modalities": Choice(values=(*WHOLE, "text+metadata"))}, "known": {}},
            r"the range of model.modalities has text\+metadata: a phase asks .* needs visual and at least one more",
        ),
        (
            {"ranges": {"model.modalities": Choice(values=(*WHOLE, "visual"))}, "known": {}},
            "the range of model.modalities has visual: a phase asks",
        ),
    ],
)
def test_a_phase_whose_trials_cannot_be_asked_is_refused(tmp_path, console, changes, said):
    options = RunOptions(phase="phase1", data=SMALL, results=str(tmp_path))
    with pytest.raises(ValueError, match=said):
        run_phase(options, console, phase=dataclasses.replace(PHASES["phase1"], **changes))
    assert list(tmp_path.iterdir()) == []


def test_modalities_may_be_searched_with_the_suspect_in_each():
    spans = {"model.modalities": Choice(values=(*WHOLE, "visual+text"))}
    phase = dataclasses.replace(PHASES["phase1"], ranges=spans, known={})
    assert open_feasible(RunOptions(phase="phase1", data=SMALL), [phase]).counts


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
