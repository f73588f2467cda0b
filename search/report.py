"""The report of a run, made anew from its tables: `python -m search.report results/phase3`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console

from search.reporting import read_run, write_report
from search.reporting.explain import explain
from search.reporting.roadmap_page import write_roadmap_report
from search.reporting.terminal import make_console
from search.run_store.folder import RunFolder
from search.run_store.mirror import located


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Build report.html and figures/ of a run from its tables, or look at one of its trials."""

    run: Annotated[str, tyro.conf.Positional]
    """Folder of the run (path or URI), such as results/phase3."""
    explain: str | None = None
    """TRIAL: say in the terminal what it was, what it measured and why it stands where it does; builds nothing."""
    ablate: str | None = None
    """TRIAL: train it again without each of its components (fresh seeds, validation split), then build the report."""


def main() -> int:
    """Build, explain or ablate; 0 when done, 2 for a mistake in what was asked."""
    console = make_console()
    try:
        options = tyro.cli(ReportOptions, prog="python -m search.report")
        report(options, console)
    except ValueError as error:
        make_console(stderr=True).print(f"error: {error}", style="red", highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def report(options: ReportOptions, console: Console) -> None:
    """Do what was asked. Raises ValueError, naming what is there, for an unknown run or trial."""
    path, mirror = located(options.run)
    folder = RunFolder(path)
    if (folder.read() or {}).get("phase") == "roadmap":
        if options.explain is not None or options.ablate is not None:
            raise ValueError(f"{folder.path} is a roadmap: name one of its phases, such as {folder.path / 'phase3'}")
        console.print(f"{write_roadmap_report(folder)}", highlight=False, markup=False, soft_wrap=True)
        if mirror is not None:
            mirror.sync()
        return
    run = read_run(folder.path)
    if options.explain is not None:
        explain(run, options.explain, console)
        return
    if options.ablate is not None:
        from search.pipeline.continuation.reopen import ablate_trial

        ablate_trial(run, options.ablate, console)
    write_report(folder)
    if mirror is not None:
        mirror.sync()
    console.print(f"{folder.path / 'report.html'}", highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
