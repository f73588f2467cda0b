"""The command line: `python -m search.run phase3`."""

from __future__ import annotations

import dataclasses
import gc
import sys


def main() -> int:
    """Run a phase; 0 when it ended whatever its verdict, 2 for a mistake in what was asked, 130 after Ctrl-C."""
    gc.set_threshold(50_000, 20, 100)  # before the imports, whose half a million objects stay
    import tyro

    from search.api import start
    from search.options import CommandLine, RunOptions
    from search.reporting.terminal import make_console, print_json

    console = make_console()
    try:
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
    except ValueError as error:
        make_console(stderr=True).print(f"error: {error}", style="red", highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        make_console(stderr=True).print("interrupted: what had finished is written; --resume goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    status = main()
    gc.freeze()  # all is written: an interpreter that ends would look through every module's objects for a second
    sys.exit(status)
