"""The run folder: where every file lies, and whether a run may write there."""

from __future__ import annotations

import contextlib
import datetime
import errno
import glob
import importlib.metadata
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion_models.files import write_whole
from search.run_store.job import NoRoomError
from spaces import Phase, phase_from_plain

PACKAGES = ("ray", "torch", "optuna", "numpy", "pandas", "pyarrow", "scipy", "moocore", "lightgbm")


FORMAT = 4
"""Of a run folder, in its run.json. 1: until the phase stood there in full (folders that name no format). 2: until its
metric and its suspect did. 3: until gates in decision.json said their group."""


REPORT_DUE = "report_due"
"""In run.json of a run that has ended, until its report is written."""
OF_A_RUN = frozenset({"run.json", "study.journal", "checkpoints", "finalist.json", "decision.json"})
"""What tells a run folder, even one whose run ended as it began, from any other."""
LEFTOVERS = ("finalist.json", "decision.json")
"""What a run would take for its own, where it starts beside what is left of another one."""


class RunFolderError(ValueError):
    """A run folder that cannot be used as asked."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run; see results/README.md for what each file holds."""

    path: Path

    @property
    def journal(self) -> Path:
        return self.path / "study.journal"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def tune(self) -> Path:
        return self.path / "tune"

    @property
    def verdicts(self) -> Path:
        """Earlier verdicts, a folder each: 1/ holds the files of the first one."""
        return self.path / "verdicts"

    @property
    def description(self) -> Path:
        return self.path / "run.json"

    def read(self) -> dict[str, Any] | None:
        """What run.json says; None where there is none.

        Raises RunFolderError for a folder of another format, with the version that wrote it.
        """
        with usable(self.path):
            there = self.description.exists()
        if not there:
            return None
        found = read_json(self.description, remedy="--fresh starts over")
        written = found.get("format", 1)
        if written != FORMAT:
            by = f"commit {found['commit']}" if found.get("commit") else "another version"
            raise RunFolderError(
                f"{self.path} was written in format {written} by fusion-search of {by}, and this version reads format "
                f"{FORMAT}: read it with that version, or give --fresh to start over (which deletes it)"
            )
        return found

    def write(self, description: dict[str, Any]) -> None:
        """Replace run.json, whole or not at all."""
        with usable(self.path):
            write_whole(self.description, json.dumps({"format": FORMAT} | description, indent=2, default=str) + "\n")

    def finished(self) -> bool:
        """Whether a run has ended here."""
        found = self.read()
        return found is not None and found.get("end") is not None

    def report_due(self) -> bool:
        """Whether the run ended, and its report was not written yet."""
        return bool((self.read() or {}).get(REPORT_DUE))

    def note_report(self) -> None:
        """The report of what the folder holds is written."""
        found = self.read() or {}
        if found.pop(REPORT_DUE, None):
            self.write(found)

    def require_ready(self, *, resume: bool, fresh: bool) -> None:
        """Raises RunFolderError where an unfinished run would be overwritten, or what is no run deleted.

        And where the folder cannot be made.
        """
        if fresh:
            self._require_deletable()
        elif self.journal.exists() and not resume:
            raise RunFolderError(
                f"{self.path} holds an unfinished run: add --resume to go on with it, or --fresh to start over "
                "(which deletes it)"
            )
        elif resume and not self.journal.exists():
            raise RunFolderError(f"nothing to resume in {self.path}: leave --resume out to start a run there")
        elif not self.journal.exists() and not self.description.exists():
            self._require_no_leftovers()
        with usable(self.path):
            there = next(path for path in (self.path, *self.path.parents) if path.exists())
            if not there.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
            if not os.access(there, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))

    def prepare(self, *, resume: bool, fresh: bool) -> list[str]:
        """Make the folder ready for a run; returns what is to be said of files that could not be deleted.

        Raises RunFolderError where `require_ready` does, or the folder cannot be made or emptied.
        """
        self.require_ready(resume=resume, fresh=fresh)
        place = self.path.resolve()  # of a link, the folder that it names
        said = delete_folder(place) if fresh else []
        with usable(self.path):
            place.mkdir(parents=True, exist_ok=True)
        return said

    def _require_no_leftovers(self) -> None:
        with usable(self.path):
            left = [name for name in LEFTOVERS if (self.path / name).exists()]
        if left:
            raise RunFolderError(
                f"{self.path} holds what is left of another run ({', '.join(left)}): give --fresh to delete it, or "
                "another --name"
            )

    def _require_deletable(self) -> None:
        with usable(self.path):
            there = {path.name for path in self.path.iterdir()} if self.path.is_dir() else set()
        if there and not there & OF_A_RUN:
            raise RunFolderError(
                f"{self.path} holds no run (there is {', '.join(sorted(there)[:3])}), so --fresh does not delete it: "
                "give another --name"
            )


def delete_folder(place: Path) -> list[str]:
    """Delete a run folder, which nobody ever finds half deleted; returns what is to be said of files that stay.

    It is renamed first, and what an earlier deletion left under such names goes too. Where it cannot be renamed (a
    volume that is mounted there), what tells a run is deleted last.

    Raises RunFolderError where a file of a folder that could not be renamed cannot be deleted.
    """
    if place.exists():
        try:
            place.rename(place.with_name(f"{_deleting(place)}{uuid.uuid4().hex[:8]}"))
        except OSError:
            _empty(place)
    said = []
    for left in place.parent.glob(f"{glob.escape(_deleting(place))}*"):
        try:
            shutil.rmtree(left)
        except OSError as error:
            said.append(f"{error.filename or left} cannot be deleted ({error.strerror}): delete {left} by hand")
    return said


def _deleting(place: Path) -> str:
    return f".{place.name}.deleting-"


def _empty(place: Path) -> None:
    with usable(place):
        for path in sorted(place.iterdir(), key=lambda path: (path.name in OF_A_RUN, path.name)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def read_json(path: Path, *, remedy: str = "put back a whole copy of the run") -> dict[str, Any]:
    """What a file of a run says. Raises RunFolderError, naming it, where it is gone, cut, or no JSON object."""
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read ({error.strerror or type(error).__name__}): {remedy}") from error
    except ValueError as error:  # bytes that are no text, too
        raise RunFolderError(f"{path} is not JSON ({error}): {remedy}") from error
    if not isinstance(found, dict):
        raise RunFolderError(f"{path} is no JSON object: {remedy}")
    return found


@contextlib.contextmanager
def usable(path: Path) -> Iterator[None]:
    """What the system says against a file in the run folder `path`, as a RunFolderError that names the file.

    Raises NoRoomError for a disk that is full, which is no mistake in what was asked.
    """
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise no_room(error, path) from error
        said = error.strerror or type(error).__name__
        raise RunFolderError(
            f"cannot use {error.filename or path} ({said}): give --results and --name of a folder that you may write"
        ) from error


def is_full(error: OSError) -> bool:
    """Whether a disk, or somebody's share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def no_room(error: OSError, path: Path | None = None) -> NoRoomError:
    """In one line, what could not be written and what to do."""
    return NoRoomError(
        f"cannot write {error.filename or path or 'the run'} ({error.strerror}): free some room, then go on with "
        "--resume, or with the same --settle or --extend"
    )


def require_name(name: str | None) -> None:
    """Raises ValueError for a --name whose folder would not lie below --results; `team/phase3` lies there."""
    if name is not None and (Path(name).is_absolute() or not Path(name).parts or ".." in Path(name).parts):
        raise ValueError(f"--name {name!r} names no folder below --results: give a name such as phase3-wide")


def phase_of(description: dict[str, Any]) -> Phase:
    """The phase that a run carries in its run.json. Raises RunFolderError where it says none."""
    if "definition" not in description:
        raise RunFolderError(f"run.json of a run of {description.get('phase')!r} defines no phase")
    try:
        return phase_from_plain(description["definition"])
    except ValueError as error:
        raise RunFolderError(f"run.json of a run of {description.get('phase')!r}: {error}") from error


def json_text(value: Any) -> str:
    """JSON that every reader takes: numbers that are not finite become null."""

    def finite(inner: Any) -> Any:
        if isinstance(inner, dict):
            return {str(key): finite(item) for key, item in inner.items()}
        if isinstance(inner, list | tuple):
            return [finite(item) for item in inner]
        return None if isinstance(inner, float) and not math.isfinite(inner) else inner

    return json.dumps(finite(value), indent=1, allow_nan=False) + "\n"


def environment() -> dict[str, Any]:
    """Versions, commit, machine and command line of this process, and an id for the run that it begins."""
    return {
        "versions": {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES},
        "commit": _commit(),
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        },
        "command": sys.argv,
        "id": uuid.uuid4().hex,
        "start": now(),
        "end": None,
    }


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _commit() -> str | None:
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
