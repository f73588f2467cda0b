"""The command line: `python -m search.run phase3`."""

from __future__ import annotations

import gc
import sys


def main() -> int:
    """Run a phase; 0 when it ended, 2 for a mistake in what was asked, 130 after Ctrl-C."""
    gc.set_threshold(50_000, 20, 100)  # before the imports, whose half a million objects stay
    import tyro

    from search.api import start
    from search.options import RunOptions
    from search.reporting.terminal import make_console

    console = make_console()
    try:
        options = tyro.cli(
            RunOptions,
            prog="python -m search.run",
            config=(tyro.conf.PositionalRequiredArgs, tyro.conf.UseAppendAction, tyro.conf.FlagCreatePairsOff),
        )
        start(options, console)
    except ValueError as error:
        make_console(stderr=True).print(f"error: {error}", style="red", highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("interrupted: what had finished is written; --resume goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    status = main()
    gc.freeze()  # all is written: an interpreter that ends would look through every module's objects for a second
    sys.exit(status)
