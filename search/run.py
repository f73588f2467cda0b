"""The command line: `python -m search.run phase3`, and `python -m search.run audit` for a V2 that exists."""

from __future__ import annotations

import dataclasses
import gc
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def main() -> int:
    """Run a phase; 0 when it ended whatever its verdict, 2 for a mistake in what was asked, 130 after Ctrl-C.

    A disk that is full is 2, too.
    """
    gc.set_threshold(50_000, 20, 100)  # before the imports, whose half a million objects stay
    from search.reporting.terminal import make_console
    from search.run_store.folder import is_full, no_room
    from search.run_store.job import NoRoomError

    console = make_console()
    audited = sys.argv[1:2] == ["audit"]
    command = _audit if audited else _run
    try:
        command(console)
    except (ValueError, NoRoomError, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, ValueError):
            if not is_full(error):
                raise
            error = no_room(error)
        make_console(stderr=True).print(f"error: {error}", style="red", highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        make_console(stderr=True).print(f"interrupted: {_way_on(sys.argv[1:])}", highlight=False)
        return 130
    return 0


def _way_on(arguments: list[str]) -> str:
    """What an interrupted command is followed by: an audit and a further verdict know no --resume."""
    if arguments[:1] == ["audit"]:
        return "give the same command again"
    if {"--settle", "--extend"} & set(arguments):
        return "what had finished is written; the same command goes on from here"
    return "what had finished is written; --resume goes on from here"


def _run(console: Console) -> None:
    import tyro

    from search.api import start
    from search.options import CommandLine, RunOptions
    from search.reporting.terminal import print_json

    asked = tyro.cli(
        CommandLine,
        prog="python -m search.run",
        config=(tyro.conf.PositionalRequiredArgs, tyro.conf.UseAppendAction, tyro.conf.FlagCreatePairsOff),
    )
    console.quiet = asked.quiet or asked.json
    options = RunOptions(**{f.name: getattr(asked, f.name) for f in dataclasses.fields(RunOptions)})
    result = start(options, console)
    if asked.json:
        print_json(result.as_json())


def _audit(console: Console) -> None:
    import tyro

    from fusion_models.work.bar import shown_work
    from search.api import read
    from search.audit.audit import run_audit
    from search.audit.options import AuditCommandLine
    from search.reporting.terminal import print_json

    asked = tyro.cli(
        AuditCommandLine,
        prog="python -m search.run audit",
        args=sys.argv[2:],
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    console.quiet = asked.quiet or asked.json
    with shown_work(console):
        folder = run_audit(asked, console)
    if asked.json:
        print_json(read(folder.path).as_json())


if __name__ == "__main__":
    status = main()
    gc.freeze()  # all is written: an interpreter that ends would look through every module's objects for a second
    sys.exit(status)
