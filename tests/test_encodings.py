"""Whatever encoding a stream has, what is written there never raises and keeps its meaning."""

import importlib
import io
import sys

import pytest

from fusion_models.terminal import forgiving, plain
from fusion_models.work.console import PlainConsole


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "koi8-r"])
def test_a_stream_takes_every_character(encoding):
    text = "≥ 0.05 → 商品 🙂 − … é"
    with pytest.raises(UnicodeEncodeError):
        text.encode(encoding)
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert forgiving(stream) is stream
    stream.write(text)
    stream.flush()
    written = stream.buffer.getvalue().decode(encoding)
    assert written == plain(text, encoding)
    assert "0.05" in written


def test_what_an_encoding_holds_stays_and_what_it_lacks_is_told():
    assert plain("é ≥ 1 → 2 − 3 商", "latin-1") == "é >= 1 -> 2 - 3 ?"
    assert plain("é ≥ 商 🙂", "utf-8") == "é ≥ 商 🙂"


def test_a_stream_that_cannot_be_changed_is_left_alone():
    stream = io.StringIO()
    assert forgiving(stream) is stream


@pytest.mark.parametrize("module", ["fusion_models.data", "fusion_models.check", "search.shadow"])
@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_help_is_printed_in_any_encoding(module, encoding, monkeypatch):
    name = f"{module}.__main__" if module == "fusion_models.data" else module
    main = importlib.import_module(name).main
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    stream.flush()
    assert ended.value.code == 0
    assert "usage" in stream.buffer.getvalue().decode(encoding)


ESCAPES = "\x1b[31mred\x1b[2J \x9b1m \x07 \x7f \x1b]0;title\x07"


def test_a_terminal_obeys_no_text_from_outside(capsys):
    console = PlainConsole()
    console.print(ESCAPES)
    console.print("a\tb\nc")
    PlainConsole(stderr=True).print(f"error: {ESCAPES}", style="red")
    said = capsys.readouterr()
    spelled = r"\x1b[31mred\x1b[2J \x9b1m \x07 \x7f \x1b]0;title\x07"
    assert said.out.splitlines()[0] == spelled
    assert said.out.splitlines()[-1] == "c"
    assert said.err == f"error: {spelled}\n"
    assert plain(ESCAPES, "utf-8") == spelled
