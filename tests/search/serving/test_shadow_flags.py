"""The flags of `python -m search.shadow` are a promise: adding one is a decision, and each is explained."""

import dataclasses
from pathlib import Path

import pytest

from search.shadow import Monitor, Replay, Serve, main

FLAGS = {
    Serve: {
        *("run", "checkpoint", "data", "v2", "log", "host", "port"),
        *("queue", "timeout", "rows", "seconds", "replicas"),
    },
    Replay: {"log", "checkpoint", "data", "out"},
    Monitor: {"log", "data", "salt"},
}
POSITIONAL = {Serve: "run", Replay: "log", Monitor: "log"}
PAGE = (Path(__file__).parents[3] / "docs" / "shadow.md").read_text()


@pytest.mark.parametrize("command", FLAGS)
def test_flags_are_the_promised_ones(command):
    assert {field.name for field in dataclasses.fields(command)} == FLAGS[command]
    asked = command() if command is Serve else command(log=Path("log"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        asked.data = "other"


@pytest.mark.parametrize("command", FLAGS)
def test_every_flag_has_help_and_stands_in_its_page(command, capsys):
    with pytest.raises(SystemExit):
        main([command.__name__.lower(), "--help"])
    said = capsys.readouterr().out
    for flag in FLAGS[command] - {POSITIONAL[command]}:
        asked = "--no-v2" if flag == "v2" else f"--{flag}"
        assert asked in said
        assert f"`{asked}" in PAGE, f"docs/shadow.md does not explain {asked}"
