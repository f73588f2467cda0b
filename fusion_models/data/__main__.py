"""Look at, convert, embed or make a dataset: `python -m fusion_models.data check|convert|embed|planted`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fusion_models.data.commands.card import data_card
from fusion_models.data.commands.convert import ELSEWHERE, convert_flat
from fusion_models.data.commands.embed import Models, embed_dataset
from fusion_models.data.errors import DataError, foreign_errors
from fusion_models.data.planted import write_planted
from fusion_models.data.planted.presets import planted_config
from fusion_models.data.sources import located, open_dataset
from fusion_models.data.tables import refuse_overwriting
from fusion_models.modalities import MODALITIES, PICTURED, TITLED
from fusion_models.terminal import plain
from fusion_models.work.bar import shown_work
from fusion_models.work.console import PlainConsole


@dataclass(frozen=True)
class Check:
    """Check a dataset at the door and print its card with its doubts."""

    path: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """`clipart`, `planted`, `planted:PRESET`, or a folder (path or URI) of the three tables."""
    cache: str | None = None
    """Folder of the memory-mapped arrays; the user's cache folder unless given."""
    json: bool = False
    """Print the card as JSON, and nothing else."""


@dataclass(frozen=True)
class Convert:
    """Convert a flat Parquet table (one row a query-item pair with its own features) into the three tables."""

    flat: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FLAT")]
    """The flat table (path or URI); docs/migrating-a-flat-table.md lists its columns."""
    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """A folder for the three tables."""
    modalities: tuple[str, ...] = MODALITIES
    """Columns of the flat table that are modalities; others than these are named in dataset.toml."""


@dataclass(frozen=True)
class Embed:
    """Make vectors of a dataset's pictures, titles and query texts: a new dataset, the old one stays as it is.

    MODEL is a .onnx file, or a name or folder that sentence-transformers loads; NAME=MODEL makes the modality NAME. The
    same command goes on where it
    was stopped. docs/embed.md says what happens to rows that have no picture or text.
    """

    path: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """`clipart`, or a folder (path or URI) of the three tables."""
    image: Annotated[str | None, tyro.conf.arg(name=PICTURED, metavar="MODEL")] = None
    """Of the items' `image`: PNG or JPEG bytes, or paths."""
    title: Annotated[str | None, tyro.conf.arg(name=TITLED, metavar="MODEL")] = None
    """Of the items' `title`, and of their `text` where that holds words."""
    query: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """Of the queries' `text`: their `features`."""
    out: str | None = None
    """The new folder; PATH-embedded unless given."""
    batch: int = 64
    """Rows that a model is given at once."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; a GPU where there is one."""


@dataclass(frozen=True)
class Planted:
    """Make a planted dataset, whose truth is in truth.json beside its tables."""

    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """A folder for the three tables."""
    preset: str = ""
    """`seed-case`, `no-visual`, `redundant`, `synergy`, `healthy`; without: a first dataset with all signals."""
    dial: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A dial to turn, as NAME=VALUE (repeated): `--dial queries=2000 --dial share_visual=0.3`."""


Command = (
    Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Convert, tyro.conf.subcommand("convert")]
    | Annotated[Embed, tyro.conf.subcommand("embed")]
    | Annotated[Planted, tyro.conf.subcommand("planted")]
)


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0; 1 where a dataset breaks its contract; 2 for a flag that there is none of; 130 for Ctrl-C."""
    console, errors = PlainConsole(), PlainConsole(stderr=True, highlight=False)  # before tyro, which prints help
    command: Check | Convert | Embed | Planted = tyro.cli(
        Command,
        prog="python -m fusion_models.data",
        description=__doc__,
        args=arguments,
    )
    if isinstance(command, Check) and command.json:
        console.quiet = True
    try:
        with shown_work(console):
            _run(command, console)
    except DataError as error:
        errors.print(f"error: {error}", style="red")
        return 1
    except KeyboardInterrupt:
        if isinstance(command, Embed):
            errors.print("stopped: what was finished is kept, and the same command goes on with it")
        return 130
    return 0


def _run(command: Check | Convert | Embed | Planted, console: Console) -> None:
    match command:
        case Check():
            _print_card(command, console)
        case Convert():
            written = convert_flat(command.flat, command.out, command.modalities)
            said = ", ".join(f"{rows:,} {table}" for table, rows in written.items())
            console.print(f"{command.out}: {said}. Look at it with `check {command.out}`.", highlight=False)
        case Embed():
            _embed(command, console)
        case Planted():
            spec = f"planted:{command.preset}" if command.preset else "planted"
            config = planted_config(spec + ("?" + "&".join(command.dial) if command.dial else ""))
            refuse_overwriting(command.out)
            with foreign_errors(f"{str(command.out)!r} cannot be written", ELSEWHERE, only=OSError):
                command.out.mkdir(parents=True, exist_ok=True)
                write_planted(config, command.out)
            console.print(f"{command.out}: three tables, and what is true of them in truth.json.", highlight=False)


def _embed(command: Embed, console: Console) -> None:
    if command.batch < 1:
        raise DataError(f"--batch {command.batch} is no number of rows.", "Give 1 or more.")
    name = command.path.rstrip("/").rsplit("/", 1)[-1] if "://" in command.path else command.path.rstrip("/")
    out = command.out or f"{name}-embedded"
    models = Models(command.image, command.title, command.query, command.device, command.batch)
    for line in embed_dataset(located(command.path), out, models):
        console.print(f"{line}.", highlight=False)
    console.print(f"{out}: a dataset. Look at it with `check {out}`.", highlight=False)


def _print_card(command: Check, console: Console) -> None:
    card = data_card(open_dataset(command.path, cache=command.cache))
    if command.json:
        sys.stdout.write(json.dumps({"facts": dict(card.facts), "doubts": card.doubts}, indent=1) + "\n")
        return
    print_facts(card.facts, console)
    console.print("\ndoubts:" if card.doubts else "\nno doubts", highlight=False)
    for doubt in card.doubts:
        console.print(f"- {doubt}", highlight=False, markup=False)


def print_facts(facts: Sequence[tuple[str, str]], console: Console) -> None:
    """Two columns: whole lines in a file, folded ones in a terminal."""
    if not console.is_terminal:
        width = max(len(what) for what, _ in facts)
        for what, value in facts:
            console.print(f"{what:<{width}}  {value}", highlight=False)
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for what, value in facts:
        table.add_row(what, Text(plain(value, console.encoding)))
    console.print(table, highlight=False, soft_wrap=False)


if __name__ == "__main__":
    sys.exit(main())
