"""The runs below a folder as a list: data, phase, verdict and date of every verdict that they have come to."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from search.reporting.terminal import Column, Row, print_table, say
from search.reporting.words import source_name
from search.run_store.folder import RunFolder, RunFolderError, read_json
from search.run_store.looks import DECIDING_SPLIT, Look, read_look

COLUMNS = (
    Column(name="run"),
    Column(name="phase", short=None),
    Column(name="data"),
    Column(name="verdict"),
    Column(name="of", right=True),
    Column(name="look", right=True),
    Column(name="finalist", short=None),
    Column(name="date"),
)
LEGEND = (
    "of: 2/3 is the second of a run's three verdicts; look: at the split that decided; *: fragile, not fused",
    "look in brackets: of another phase, whose measurements the verdict reads again",
)
STYLES = {"GO": "green", "PAUSE_AND_FIX": "yellow", "ARCHIVE": "red"}
SHORT_DATA = 22
PLACES = ("*/run.json", "*/*/run.json")
"""Where runs lie below the folder that is listed."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One verdict of one run, or a run that has none."""

    run: str
    """From the folder that is listed."""
    phase: str = ""
    data: str = ""
    verdict: str = ""
    """Or why there is none."""
    fragile: bool = False
    number: int = 1
    verdicts: int = 1
    """That the run has come to in all."""
    look: int | None = None
    split: str | None = None
    """That the look opened."""
    practice: bool = False
    by: str = ""
    """The phase that took the look, where another one reads its measurements again; empty: this one."""
    finalist: str | None = None
    date: str = ""
    """UTC, when the verdict was there; of a run without one, when it was begun."""


def list_runs(root: Path) -> list[Entry]:
    """Every verdict of every run below `root` (a roadmap's phases too), by run, then by number."""
    return [entry for place in run_places(root) for entry in _entries(place, place.relative_to(root).as_posix())]


def run_places(root: Path) -> list[Path]:
    """The run folders below `root`; hidden ones are none, such as what `--fresh` could not delete."""
    found = [path.parent for pattern in PLACES for path in root.glob(pattern)]
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts))


def _entries(place: Path, name: str) -> list[Entry]:
    """One run's; a run of which something cannot be read is one entry that says so, and hides no other."""
    try:
        return _verdicts(place, name)
    except RunFolderError as error:
        return [Entry(run=name, verdict=f"cannot be read: {error}")]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        said = f"{type(error).__name__}: {error}"
        return [Entry(run=name, verdict=f"cannot be read: its run.json or decision.json says something else ({said})")]


def _verdicts(place: Path, name: str) -> list[Entry]:
    run = RunFolder(place).read() or {}
    data = source_name(str(run.get("data") or (run.get("options") or {}).get("data") or ""))
    begun = Entry(run=name, phase=str(run.get("phase", "")), data=data)
    further = run.get("verdicts", [])
    dates = [entry["before"] for entry in further] + [run.get("end")]
    places = [place / "verdicts" / str(number) for number in range(1, len(further) + 1)] + [place]
    out = []
    for number, (where, date) in enumerate(zip(places, dates, strict=True), start=1):
        decision = read_json(where / "decision.json") if (where / "decision.json").exists() else None
        if decision is None or date is None:
            out.append(replace(begun, verdict="not finished", date=_day(run.get("start"))))
            continue
        look = read_look(decision, run=run)
        out.append(
            replace(
                begun,
                verdict=decision["verdict"],
                fragile=bool(decision.get("fragile")),
                number=number,
                verdicts=len(places),
                look=look.number if look is not None else None,
                split=look.split if look is not None else None,
                practice=look is not None and look.practice,
                by=look.by if look is not None else "",
                finalist=decision.get("finalist"),
                date=_day(date),
            )
        )
    return out


def _day(time: Any) -> str:
    return str(time or "")[:16].replace("T", " ")


def _look(entry: Entry) -> str:
    if entry.look is None:
        return ""
    split = entry.split or DECIDING_SPLIT
    return Look(number=entry.look, practice=entry.practice, split=split, by=entry.by).short()


def _short_look(entry: Entry) -> str:
    if entry.look is None:
        return ""
    return f"({entry.look})" if entry.by else f"{entry.look}"


def as_json(entries: list[Entry]) -> list[dict[str, Any]]:
    """For scripts."""
    return [asdict(entry) for entry in entries]


def print_list(console: Console, root: Path, entries: list[Entry]) -> None:
    """A line a verdict."""
    if not entries:
        say(console, f"{root} holds no run")
        return
    rows = [
        Row(
            cells=(
                entry.run,
                entry.phase,
                entry.data,
                f"{entry.verdict}{' (fragile)' if entry.fragile else ''}",
                f"{entry.number}/{entry.verdicts}" if entry.verdicts > 1 else "",
                _look(entry),
                entry.finalist or "",
                entry.date,
            ),
            short={
                "verdict": f"{entry.verdict}{' *' if entry.fragile else ''}",
                "data": entry.data if len(entry.data) <= SHORT_DATA else f"…{entry.data[1 - SHORT_DATA :]}",
                "look": _short_look(entry),
                "date": entry.date[:10],
            },
            style=STYLES.get(entry.verdict, ""),
        )
        for entry in entries
    ]
    print_table(console, f"runs in {root}", COLUMNS, rows, LEGEND)
