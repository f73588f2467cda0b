"""The report of a run, made anew from its tables: `python -m search.report results/phase3`; two runs side by side."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from fusion_models.data.tables import local_path
from fusion_models.files import write_whole
from fusion_models.work.foreign import first_line
from search.reporting import read_run, write_report
from search.reporting.comparison import compare
from search.reporting.comparison_page import comparison_page, print_comparison, short_names
from search.reporting.explain import explain
from search.reporting.roadmap_page import write_roadmap_report
from search.reporting.run_list import as_json, list_runs, print_list, run_places
from search.reporting.terminal import make_console, print_json
from search.run_store.driver_lock import driving
from search.run_store.folder import RunFolder
from search.run_store.job import NoRoomError
from search.run_store.mirror import is_uri, located


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Build report.html and figures/ of a run, look at one of its trials, lay two runs side by side, or list runs."""

    run: Annotated[str, tyro.conf.Positional]
    """Folder of the run (path or URI), such as results/phase3; or a folder of runs, which are listed."""
    other: Annotated[str | None, tyro.conf.Positional] = None
    """A second run: both are compared in one HTML file, what differs first."""
    explain: str | None = None
    """TRIAL: say in the terminal what it was, what it measured and why it stands where it does; builds nothing."""
    ablate: str | None = None
    """TRIAL: train it again without each of its components, with fresh seeds, then build the report. The finalist is
    measured on the split that decided, any other trial on validation."""
    data: str | None = None
    """Where the data of the run lie now, if they have moved since: for --ablate, which trains."""
    out: str | None = None
    """File of a comparison; A-and-B.html beside the first run unless given."""
    json: bool = False
    """Print a list or a comparison as JSON, and nothing else."""

    def __post_init__(self) -> None:
        if self.other is not None and (self.explain is not None or self.ablate is not None):
            raise ValueError("--explain and --ablate are for one run: leave the second one out")
        if self.data is not None and self.ablate is None:
            raise ValueError("--data says where --ablate finds the run's data: give --ablate, or leave it out")
        if self.out is not None and self.other is None:
            raise ValueError("--out names the file of a comparison: give two runs")


def main() -> int:
    """Build, explain, ablate, compare or list; 0 when done, 2 for a mistake in what was asked, 130 after Ctrl-C."""
    console, _ = make_console(), make_console(stderr=True)  # before tyro, which prints help in any encoding
    try:
        options = tyro.cli(ReportOptions, prog="python -m search.report")
        with readable():
            report(options, console)
    except (ValueError, NoRoomError) as error:
        make_console(stderr=True).print(f"error: {error}", style="red", highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        make_console(stderr=True).print("interrupted: what had finished is written; give the same command again")
        return 130
    return 0


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """What the system says against a file, such as one in a run of somebody else, as a ValueError that names it.

    Where it names no file, such as of a connection or a time that is up, as it says it.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise ValueError(first_line(error)) from error
        raise ValueError(
            f"cannot use {error.filename} ({error.strerror}): copy the run to a folder of yours"
        ) from error


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """What the system says against the output, such as a pipe or a full disk, as a ValueError."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise ValueError(f"the output cannot be written ({error.strerror}): send it elsewhere") from error


def report(options: ReportOptions, console: Console) -> None:
    """Do what was asked. Raises ValueError, naming what is there, for an unknown run or trial."""
    if options.other is not None:
        _compare(options, console)
        return
    if _is_folder_of_runs(options.run):
        _list(options, console)
        return
    path, mirror = located(options.run)
    folder = RunFolder(path)
    if options.json:
        raise ValueError(
            f"--json prints a list or a comparison; {options.run} is one run, whose numbers are its tables"
        )
    if (folder.read() or {}).get("phase") == "roadmap":
        if options.explain is not None or options.ablate is not None:
            raise ValueError(f"{folder.path} is a roadmap: name one of its phases, such as {folder.path / 'phase3'}")
        _print_path(console, write_roadmap_report(folder))
        if mirror is not None:
            mirror.sync()
        return
    with driving(folder.path) if options.ablate is not None else contextlib.nullcontext():
        run = read_run(folder.path)
        if options.explain is not None:
            with printing():
                explain(run, options.explain, console)
            return
        if options.ablate is not None:
            from search.pipeline.continuation.reopen import ablate_trial

            ablate_trial(run, options.ablate, console, options.data)
        write_report(folder)
        if mirror is not None:
            mirror.sync()
    _print_path(console, folder.path / "report.html")


def _compare(options: ReportOptions, console: Console) -> None:
    places = [located(location)[0] for location in (options.run, str(options.other))]
    for place in places:
        if (RunFolder(place).read() or {}).get("phase") == "roadmap":
            raise ValueError(f"{place} is a roadmap: name one of its phases, such as {place / 'phase3'}")
    runs = read_run(places[0]), read_run(places[1])
    found = compare(runs)
    if options.json:
        with printing():
            print_json(found.as_json())
        return
    name = "-and-".join(short.replace("/", "-") for short in short_names(found.names))
    out = Path(options.out) if options.out is not None else places[0].parent / f"{name}.html"
    page = comparison_page(runs, found)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, page)
    except OSError as error:
        raise ValueError(f"cannot write {out} ({error.strerror}): give another file as --out") from error
    with printing():
        print_comparison(console, found)
    _print_path(console, out)


def _print_path(console: Console, path: Path) -> None:
    with printing():
        console.print(f"{path}", highlight=False, markup=False, soft_wrap=True)


def _is_folder_of_runs(location: str) -> bool:
    """A folder of this machine that is no run and has runs in it."""
    path = local_path(location.removeprefix("file://"))
    return not is_uri(location) and not (path / "run.json").exists() and bool(run_places(path))


def _list(options: ReportOptions, console: Console) -> None:
    if options.explain is not None or options.ablate is not None:
        raise ValueError(f"{options.run} is a folder of runs: name one of them for --explain and --ablate")
    root = local_path(options.run.removeprefix("file://")).resolve()
    entries = list_runs(root)
    with printing():
        if options.json:
            print_json(as_json(entries))
        else:
            print_list(console, root, entries)


if __name__ == "__main__":
    sys.exit(main())
