"""The command line: `python -m search.run phase3`."""

from __future__ import annotations

import sys

import tyro
from rich.console import Console

from search.options import RunOptions
from search.phase import run_phase
from search.roadmap import ROADMAP, run_roadmap


def main() -> int:
    """Run a phase; 0 when it ended, 2 for a mistake in what was asked, 130 after Ctrl-C."""
    console = Console(soft_wrap=not sys.stdout.isatty())
    try:
        options = tyro.cli(
            RunOptions,
            prog="python -m search.run",
            config=(tyro.conf.PositionalRequiredArgs, tyro.conf.UseAppendAction, tyro.conf.FlagCreatePairsOff),
        )
        (run_roadmap if options.phase == ROADMAP else run_phase)(options, console)
    except ValueError as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("interrupted: what had finished is written; --resume goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
