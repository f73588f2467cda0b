"""What is printed: whole in 80 and 140 columns, plain in a file, in any encoding; no text is taken for markup."""

import dataclasses
import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest
from report_folders import PHASE, baselines, decided, judged, record
from rich.console import Console

from fusion_models.metrics import Interval
from fusion_models.terminal import ERRORS
from search.analysis.decision import decide
from search.analysis.gates import GateResult
from search.pipeline.summary import print_gates, print_rankers
from search.reporting.terminal import Column, Row, make_console, print_table, say

MARKUP = "[bold]b[/bold] [/] [1, 2] :smile: \\[x]"
QUANTITIES = {
    "ndcg_gain": Interval(0.04, 0.0123, 0.0677),
    "visual_masking_drop": Interval(0.06, 0.041, 0.079),
    "attention_max_share": Interval(0.36, 0.34, 0.38),
    "attention_min_share": Interval(0.31, 0.29, 0.33),
    "v1_correlation": Interval(0.80, 0.78, 0.82),
}
FACT = GateResult(
    key="resume: resources (business fact)",
    name="resume: resources (business fact)",
    quantity="",
    kind="fact",
    value=1.0,
    ci_low=1.0,
    ci_high=1.0,
    threshold=1.0,
    direction="at least",
    status="pass",
)


def terminal(width):
    """A terminal so wide; what is written there is read with `screen`."""
    return Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, markup=False, emoji=False)


def screen(console):
    return console.file.getvalue().splitlines()


def print_all(console):
    """Both tables of a run's end; the gates of a decision and the trials' names hold what looks like markup."""
    searched = [record(0, name="base"), *(record(i, name=MARKUP if i == 4 else "sampled") for i in range(1, 5))]
    print_rankers(console, PHASE, searched, baselines())
    decision = decide(PHASE, "t0004", judged(QUANTITIES), {}, more_gates=[FACT])
    decision = dataclasses.replace(decision, reasons=(*decision.reasons, MARKUP), warnings=(MARKUP,))
    print_gates(console, decision, "test split, look 2 at this test split: intervals of 99.24 %")
    return decision


def test_every_table_fits_80_columns_with_every_number_whole():
    console = terminal(80)
    decision = print_all(console)
    lines = screen(console)
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "…" not in text
    for whole in ("[+0.0123, +0.0677]", "[4.1 %, 7.9 %]", "[−0.0400, −0.0100]", "[0.780, 0.820]", "[-0.010, +0.030]"):
        assert whole in text, whole
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("gates (")) :]
    rows = [line for line in table if line.count("│") >= 5]
    counted = [gate for gate in decision.gates if gate.status != "not applicable"]
    assert len(counted) <= len(rows) <= len(counted) + 5  # short names: hardly one needs a second line
    assert "rival: base recipe" in text
    assert "decision.md" in text  # the legend says where the rest is


def test_140_columns_hold_every_column_and_the_full_names():
    console = terminal(140)
    decision = print_all(console)
    lines = screen(console)
    assert max(map(len, lines)) <= 140
    text = " ".join(" ".join(line.replace("│", " ").split()) for line in lines)
    for heading in ("max share", "V1 corr.", "gain over V1", "what would settle it"):
        assert heading in text
    joined = "".join(lines).replace(" ", "").replace("│", "")
    assert "…" not in joined
    assert len(decision.gates) > 15


def test_a_file_gets_one_plain_line_a_row_whatever_its_length():
    console = Console(file=io.StringIO(), width=80)
    decision = print_all(console)
    lines = screen(console)
    assert not set("│┃━┏") & set("".join(lines))
    for gate in decision.gates:
        if gate.status != "not applicable":
            (line,) = [line for line in lines if line.startswith(gate.name + "  ")]
            assert gate.status in line
            assert gate.needed in line
            assert gate.note in line


@pytest.mark.parametrize("width", [80, 140])
def test_brackets_colons_and_backslashes_of_names_stand_as_they_are(width):
    for console in (terminal(width), Console(file=io.StringIO(), width=80), Console(file=io.StringIO())):
        print_table(console, MARKUP, [Column(name=MARKUP)], [Row(cells=(MARKUP,))])
        say(console, MARKUP)
        assert console.file.getvalue().count(MARKUP) >= 4 - (console.width < 2 * len(MARKUP)), console.file.getvalue()


def test_the_console_of_a_command_takes_nothing_for_markup(capsys):
    make_console().print(f"results/{MARKUP}", soft_wrap=True, highlight=False)
    make_console(stderr=True).print(f"error: {MARKUP}", style="red", soft_wrap=True)
    said = capsys.readouterr()
    assert said.out == f"results/{MARKUP}\n"
    assert said.err == f"error: {MARKUP}\n"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252"])
@pytest.mark.parametrize("width", [80, 140])
def test_no_encoding_ends_what_is_printed(encoding, width):
    written = io.BytesIO()
    file = io.TextIOWrapper(written, encoding=encoding, errors=ERRORS, newline="\n")
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    print_all(console)
    file.flush()
    text = written.getvalue().decode(encoding)
    with console.status("starting the trainings …"):
        console.rule("phase1, 1 of 4")
    file.flush()
    assert max(map(len, text.splitlines())) <= width
    assert "≥" not in text
    assert ">= +0.0200" in text
    assert "-0.0250" in text
    assert "?" not in text  # every character of ours has one that stands for it


@pytest.fixture(scope="module")
def bracketed(tmp_path_factory):
    """A decided run in a folder whose name looks like markup."""
    folder = decided(tmp_path_factory.mktemp("runs") / "[red]phase3[/red] :bug:")
    return folder.path


def environment(**more):
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR")}
    return kept | {"TERM": "xterm"} | more


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_a_command_in_a_pipe_prints_plain_lines_in_any_encoding(bracketed, encoding):
    command = [sys.executable, "-m", "search.report", str(bracketed), "--explain", "t0001"]
    done = subprocess.run(command, capture_output=True, env=environment(PYTHONIOENCODING=encoding), timeout=300)
    said = done.stdout.decode(encoding)
    assert done.returncode == 0, done.stderr
    assert "loss.unimodal" in said
    assert "│" not in said
    assert ("1368" if encoding == "latin-1" else "▁") in said
    wrong = subprocess.run([*command[:-1], "t9999"], capture_output=True, env=environment(PYTHONIOENCODING=encoding))
    assert wrong.returncode == 2
    assert f"{bracketed} has no trial 't9999'" in wrong.stderr.decode(encoding)  # the path as it is, on one line


@pytest.mark.parametrize(("encoding", "width"), [("latin-1", 80), ("utf-8", 80), ("utf-8", 140)])
def test_a_command_in_a_real_terminal_keeps_within_its_columns(bracketed, encoding, width):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    command = [sys.executable, "-m", "search.report", str(bracketed), "--explain", "t0001"]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(PYTHONIOENCODING=encoding, NO_COLOR="1")
    )
    os.close(theirs)
    said = b""
    try:
        while block := os.read(ours, 65536):
            said += block
    except OSError:  # Linux says so that the other side has closed
        pass
    os.close(ours)
    assert process.wait(300) == 0, said
    lines = said.decode(encoding).replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    assert any("loss.unimodal" in line for line in lines)
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", [80, 140])
def test_no_text_from_outside_is_obeyed(width):
    name = "\x1b[31mred\x1b[2J\x9b\x07"
    for console in (terminal(width), Console(file=io.StringIO(), width=width)):
        print_table(console, name, [Column(name=name)], [Row(cells=(name,))])
        say(console, name)
        said = console.file.getvalue()
        assert said.count(r"\x1b[31mred\x1b[2J\x9b\x07") == 4
        assert not set("\x1b\x9b\x07") & set(said.replace("\x1b[1m", "").replace("\x1b[0m", ""))


@pytest.mark.parametrize("name", sorted({*record(1).numbers} - {"parameters"}))
def test_a_number_that_was_not_finite_is_a_dash_in_the_table_of_rankers(name):
    """It is left out of a trial's numbers, and the table came after all trainings of the search."""
    searched = [record(0, name="base"), record(1), record(2)]
    for one in searched[:2]:
        one.numbers.pop(name)
    console = Console(file=io.StringIO(), width=200)
    print_rankers(console, PHASE, searched, baselines())
    (line,) = [line for line in screen(console) if line.startswith("t0000 base")]
    shown = ("ndcg", "ndcg_gain", "visual_masking_drop", "attention_max_share", "v1_correlation")
    assert ("–" in line.split()) == (name in shown)
