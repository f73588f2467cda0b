"""Which logs and weights a command refuses, before anything is served or written: those of another V2, or broken."""

import json
import shutil
import socket
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from fusion_models.config import Recipe
from fusion_models.models import build_ranker
from fusion_models.models.own import own_model
from search import shadow
from search.api import load
from search.run_store.artifacts import RECIPE, WEIGHTS, weights_sha256
from search.serving.journal import SCHEMA, Journal, write_decisions
from search.serving.reference import DESCRIPTION, FILE, require_log_of, training_reference, write_reference
from search.serving.session import require_free
from search.shadow import main

MODULES = Path(__file__).parents[2] / "own" / "modules"
OWN = "two_towers:TwoTowers"


@pytest.fixture
def log(tmp_path, small_data, checkpoint):
    """A log of one V2 with a decision in it."""
    path = tmp_path / "log"
    write_reference(path, small_data, checkpoint, {})
    write_decisions(pa.Table.from_pylist([], schema=SCHEMA), path / "0-a.parquet")
    return path


@pytest.fixture
def other(tmp_path, checkpoint):
    """Another training's weights."""
    place = shutil.copytree(checkpoint, tmp_path / "other")
    weights = load_file(place / WEIGHTS)
    save_file({name: tensor + 1 for name, tensor in weights.items()}, place / WEIGHTS)
    return place


def test_a_log_goes_on_with_its_own_v2_wherever_that_lies(log, small_data, checkpoint, tmp_path):
    require_log_of(log, small_data, checkpoint)
    require_log_of(log, small_data, shutil.copytree(checkpoint, tmp_path / "moved"))


@pytest.mark.parametrize("change", ["weights", "no v2", "data", "older log", "journal"])
def test_a_log_of_another_v2_or_of_other_data_is_refused(log, small_data, checkpoint, other, change):
    v2 = {"weights": other, "older log": other, "journal": other, "no v2": None}.get(change, checkpoint)
    said = json.loads((log / DESCRIPTION).read_text())
    if change == "data":
        said["fingerprint"] = "of then"
    if change == "older log":
        del said["weights"]
    (log / DESCRIPTION).write_text(json.dumps(said))
    if change == "journal":
        (log / "0-a.parquet").unlink()
        Journal(log).answer(0.0, "r", [0], 1.0, "{}")
    with pytest.raises(ValueError, match=r"holds decisions (of another V2|over other data) .*: name an empty"):
        require_log_of(log, small_data, v2)


def test_a_log_without_decisions_may_become_another_one(log, small_data, other):
    (log / "0-a.parquet").unlink()
    require_log_of(log, small_data, other)


def test_serve_touches_nothing_of_another_v2_s_log(log, small_data, other, capsys):
    before = {path.name: path.read_bytes() for path in log.iterdir()}
    asked = ["serve", "--checkpoint", str(other), "--data", small_data.source, "--log", str(log)]
    assert main(asked) == 2
    assert "holds decisions of another V2" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in log.iterdir()} == before


def test_a_replay_without_a_v2_s_name_is_of_the_weights_that_the_log_was_of(log, checkpoint, other, capsys):
    said = json.loads((log / DESCRIPTION).read_text())
    (log / DESCRIPTION).write_text(json.dumps(said | {"checkpoint": str(other)}))
    assert main(["replay", str(log)]) == 2
    assert f"{other} holds other weights than {log} was logged with" in " ".join(capsys.readouterr().err.split())
    assert not (log / "replay").exists()
    assert main(["replay", str(log), "--checkpoint", str(other)]) == 0, capsys.readouterr().err
    del said["weights"]
    (log / DESCRIPTION).write_text(json.dumps(said))
    assert main(["replay", str(log), "--out", str(log / "again")]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(("name", "content"), [(DESCRIPTION, b'{"data": '), (DESCRIPTION, b"{}"), (DESCRIPTION, b"[]")])
@pytest.mark.parametrize("command", ["monitor", "replay"])
def test_a_broken_description_is_named(log, command, name, content, capsys):
    (log / name).write_bytes(content)
    assert main([command, str(log)]) == 2
    assert f"{log / name} " in capsys.readouterr().err


@pytest.mark.parametrize("what", ["gone", "cut", "empty"])
def test_a_broken_reference_is_named(log, small_data, what, capsys):
    path = log / FILE
    write_reference(log, small_data, None, training_reference(small_data, None))
    whole = path.read_bytes()
    path.unlink()
    if what != "gone":
        path.write_bytes(whole[: len(whole) // 2] if what == "cut" else b"")
    assert main(["monitor", str(log)]) == 2
    assert f"{path} cannot be read" in capsys.readouterr().err


def test_a_cut_file_of_the_log_is_named(log, capsys):
    (log / "0-b.parquet").write_bytes(b"PAR1 cut")
    assert main(["monitor", str(log)]) == 2
    assert f"{log / '0-b.parquet'} cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["/proc/nowhere", __file__])
def test_a_log_that_cannot_be_made_is_one_line(small_data, place, capsys, monkeypatch):
    monkeypatch.setattr("search.serving.session.require_free", lambda host, port: None)
    assert main(["serve", "--no-v2", "--data", small_data.source, "--log", place]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: cannot use {place}")
    assert len(said.splitlines()) == 1


def test_a_port_that_somebody_has_is_said(small_data, tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        asked = ["serve", "--no-v2", "--data", small_data.source, "--log", str(tmp_path / "log"), "--port", port]
        assert main(asked) == 2
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use): give another --port" in capsys.readouterr().err
    assert not (tmp_path / "log").exists()
    for host, number in (("127.0.0.1", 99_999), ("no.such.host.invalid", 0)):
        with pytest.raises(ValueError, match="cannot listen on"):
            require_free(host, number)


@pytest.fixture
def own_run(tmp_path, small_data, monkeypatch):
    """A run of a module of somebody's own, with weights."""
    monkeypatch.syspath_prepend(MODULES)
    run = tmp_path / "phase3"
    place = run / "checkpoints" / "artefact"
    place.mkdir(parents=True)
    recipe = Recipe.from_flat({"model.variant": OWN})
    torch.manual_seed(0)
    save_file(build_ranker(recipe, small_data.schema, small_data.statistics).state_dict(), place / WEIGHTS)
    (place / RECIPE).write_text(json.dumps({"recipe": recipe.flat(), "seed": 0}))
    described(run, small_data, own_model(OWN).sha256())
    return run


def described(run, data, sha256):
    said = {"format": 4, "phase": "phase3", "data": data.source, "fingerprint": data.fingerprint}
    (run / "run.json").write_text(json.dumps(said | {"model": {"reference": OWN, "sha256": sha256}}))


def test_weights_of_another_source_of_one_s_own_module_are_refused(own_run, small_data, log, monkeypatch, capsys):
    place = own_run / "checkpoints" / "artefact"
    load(own_run)
    shadow._load(place, small_data)
    described(own_run, small_data, "of then")
    with pytest.raises(ValueError, match=r"was trained with another source of two_towers:TwoTowers .* has changed"):
        load(own_run)
    monkeypatch.setattr("search.serving.session.require_free", lambda host, port: None)
    for asked in (
        ["serve", str(own_run), "--log", str(own_run / "log")],
        ["serve", "--checkpoint", str(place), "--data", small_data.source, "--log", str(own_run / "log")],
        ["replay", str(log), "--checkpoint", str(place), "--out", str(own_run / "again")],
    ):
        assert main(asked) == 2
        assert "was trained with another source" in capsys.readouterr().err
    assert not (own_run / "log").exists()
    shutil.copytree(place, own_run.parent / "elsewhere")
    shadow._load(own_run.parent / "elsewhere", small_data)  # nothing says what it was trained with


def test_weights_have_one_hash_wherever_they_lie(checkpoint, other, tmp_path):
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    assert weights_sha256(copy) == weights_sha256(checkpoint) != weights_sha256(other)
