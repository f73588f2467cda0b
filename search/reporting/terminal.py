"""Tables in a terminal: every column where there is room, short ones in 80 columns, plain lines in a file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fusion_models.terminal import plain
from fusion_models.work.console import PlainConsole
from search.run_store.folder import json_text

FULL = 120
"""Columns of a terminal from which a table is shown whole."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table."""

    name: str
    right: bool = False
    """Whether it holds numbers: aligned to the right, and never broken."""
    short: str | None = ""
    """Its heading in a narrow terminal; empty: `name`; None: left out there."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table. Nothing in it is taken for markup."""

    cells: Sequence[str]
    """A text for every column."""
    short: Mapping[str, str] | None = None
    """Column -> what stands there in a narrow terminal, where that is less."""
    style: str = ""


def make_console(*, stderr: bool = False) -> Console:
    """The console of a command, which shows text from outside as it is (`PlainConsole`).

    Where the output is no terminal, lines stay whole.
    """
    stream = sys.stderr if stderr else sys.stdout
    return PlainConsole(stderr=stderr, soft_wrap=not stream.isatty())


def print_table(
    console: Console, title: str, columns: Sequence[Column], rows: Sequence[Row], legend: Sequence[str] = ()
) -> None:
    """Print rows under `title`; `legend` says, under a narrow table, what its short words stand for."""
    if not console.is_terminal:
        _print_lines(console, title, columns, rows)
        return
    narrow = console.width < FULL
    shown = [column for column in columns if not narrow or column.short is not None]
    table = Table(pad_edge=False)
    for column in shown:
        heading = (column.short or column.name) if narrow else column.name
        justify = "right" if column.right else "left"
        table.add_column(_text(console, heading), justify=justify, no_wrap=column.right, overflow="fold")  # type: ignore[arg-type]
    places = [columns.index(column) for column in shown]
    for row in rows:
        less = (row.short or {}) if narrow else {}
        cells = [less.get(columns[i].name, row.cells[i]) for i in places]
        table.add_row(*(_text(console, cell) for cell in cells), style=row.style or None)
    say(console, title, style="bold")
    console.print(table)
    if narrow:
        for line in legend:
            say(console, line, style="dim")


def _print_lines(console: Console, title: str, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """A line a row, columns under one another, however long it gets: a log file is searched, not looked at."""
    texts = [[column.name for column in columns], *(row.cells for row in rows)]
    lines = [[plain(text, console.encoding) for text in line] for line in texts]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    say(console, title)
    for line in lines:
        padded = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ]
        say(console, "  ".join(padded).rstrip())


def print_json(value: object) -> None:
    """A value on standard output, for scripts; numbers that are not finite become null."""
    sys.stdout.write(json_text(value))


def say(console: Console, text: str, style: str = "") -> None:
    """A line of text as it is: nothing in it is markup or an emoji code. A log's lines stay whole."""
    console.print(_text(console, text, style), soft_wrap=not console.is_terminal, highlight=False)


def _text(console: Console, text: str, style: str = "") -> Text:
    return Text(plain(text, console.encoding), style=style)
