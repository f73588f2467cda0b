"""The command line: `python -m search.run phase3`."""

from __future__ import annotations

import gc
import sys

import tyro
from rich.console import Console

from search.execution.interrupts import remembered_interrupts
from search.options import RunOptions
from search.pipeline.phase import run_phase
from search.pipeline.release.production import run_production
from search.pipeline.roadmap import ROADMAP, run_roadmap
from spaces import PHASE4


def main() -> int:
    """Run a phase; 0 when it ended, 2 for a mistake in what was asked, 130 after Ctrl-C."""
    console = Console(soft_wrap=not sys.stdout.isatty())
    try:
        options = tyro.cli(
            RunOptions,
            prog="python -m search.run",
            config=(tyro.conf.PositionalRequiredArgs, tyro.conf.UseAppendAction, tyro.conf.FlagCreatePairsOff),
        )
        runners = {ROADMAP: run_roadmap, PHASE4.name: run_production}
        with remembered_interrupts():
            runners.get(options.phase, run_phase)(options, console)
    except ValueError as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("interrupted: what had finished is written; --resume goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    status = main()
    gc.freeze()  # all is written: an interpreter that ends would look through every module's objects for a second
    sys.exit(status)
