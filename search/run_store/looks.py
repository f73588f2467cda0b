"""Which split decides, which runs have looked at it, and what level the next look has.

A team that looks at one test split again and again finds a run that passes. So looks are counted, beside the run
folders and in the user's state folder, and look j at the same data has the level 0.05 * 6 / (pi^2 j^2): all looks
together keep 5 %.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion_models.data.sources import HALVED
from fusion_models.data.splits import DECIDING
from fusion_models.files import write_whole
from fusion_models.metrics.intervals.planning import look_level
from search.run_store.folder import RunFolder, RunFolderError, now

DECIDING_SPLIT = "test"
DECIDING_HALF = DECIDING
"""Of a halved dataset's validation split (see `RankingDataset.halved`)."""
SPLIT_NAMES = {DECIDING_SPLIT: "test split", DECIDING_HALF: "deciding half of validation"}
LOOKS = "test_looks.json"
"""When which run looked at the test split of which data."""
NUMBER = "number"
"""Which look it was when it was taken, noted with it: a verdict keeps its level where an earlier look turns up later.
Looks noted without one have their place by time."""
STATE_FOLDER = "FUSION_SEARCH_STATE"
"""Environment variable that names another folder for looks than the user's state folder."""
NO_FOLDER = Path(os.devnull)
"""The state folder of a user without a home: as one that cannot be written."""
REMEDY = "mend it, or put it away; every look is noted beside the results and in the user's state folder"
PRACTICE = ("clipart", "planted")
"""Data that everybody has: looks at them are counted and spend nothing."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look at a deciding split, counted before it is taken."""

    number: int
    """1 for the first of this data."""
    practice: bool = False
    """Bundled or planted data: every look has the full level."""
    split: str = DECIDING_SPLIT
    """The split that was opened."""
    by: str = ""
    """The phase that took it, where another one reads its measurements again; empty: this one."""

    @property
    def spent(self) -> int:
        """Looks that lower the level of the next one: `number`, or 0 where looks spend nothing."""
        return 0 if self.practice else self.number

    @property
    def alpha(self) -> float:
        """Two-sided error of every interval of this look."""
        return 0.05 if self.practice else look_level(self.number)

    @property
    def level(self) -> float:
        """Of its intervals."""
        return 1.0 - self.alpha

    def short(self) -> str:
        """Its number, and what is not as with a look at a team's own test split."""
        of_half = "half of validation" if self.split == DECIDING_HALF else ""
        more = ", ".join(
            filter(None, ("practice" if self.practice else "", of_half, f"of {self.by}" if self.by else ""))
        )
        return f"{self.number}{f' ({more})' if more else ''}"

    def which(self) -> str:
        """For people: which look it is, at which split, and whose."""
        number = f"look {self.number}{f' (of {self.by})' if self.by else ''}"
        if self.practice:
            return f"{number} at practice data, which spends nothing"
        return f"{number} at this {SPLIT_NAMES.get(self.split, self.split)}"

    def said(self) -> str:
        """For people: which look it is, and what follows for its intervals."""
        return f"{self.which()}: intervals of {100 * self.level:.4g} %"

    def as_json(self) -> dict[str, Any]:
        """For decision.json."""
        said = {"number": self.number, "practice": self.practice, "split": self.split, "level": self.level}
        return said | ({"by": self.by} if self.by else {})


def read_look(decision: Mapping[str, Any], field: str = "look", *, run: Mapping[str, Any] | None = None) -> Look | None:
    """The look that a decision.json rests on, or another one in it; None where it has none.

    `run`: what run.json says, which knows the split where a look of before names none.
    """
    said = decision.get(field)
    if not said:
        return None
    given = {name: said[name] for name in ("practice", "by") if name in said}
    decides_on = ((run or {}).get("roadmap") or {}).get("decides_on") or DECIDING_SPLIT
    return Look(number=said["number"], split=said.get("split", decides_on), **given)


def opened_before(folder: RunFolder, fingerprint: str) -> list[dict[str, str]]:
    """Every look at the test split of this data that was counted beside `folder`: `run`, `start`, `looked`."""
    return _read(_home(folder) / LOOKS).get(fingerprint, [])


def has_looked(folder: RunFolder, fingerprint: str, *, split: str = DECIDING_SPLIT, verdict: int = 1) -> bool:
    """Whether the look of this verdict of this run was counted already (`count_look`)."""
    key = fingerprint if split == DECIDING_SPLIT else f"{fingerprint} ({split})"
    mine = _mine(folder, verdict)
    known = [*opened_before(folder, key), *_read(_state_folder() / LOOKS).get(key, [])]
    return any(_same(look, mine) for look in known)


def look_of(folder: RunFolder) -> dict[str, str]:
    """What is noted of this run with a look, by which `of_run` tells it from those of others."""
    name, described = folder.path.relative_to(_home(folder)).as_posix(), folder.read() or {}
    known = {"id": str(described["id"])} if "id" in described else {}
    return {"run": name, "start": str(described.get("start"))} | known


def _mine(folder: RunFolder, verdict: int) -> dict[str, str]:
    """As `look_of`, with what tells the looks of one run from each other: its verdict, and what was fixed before it."""
    mine = look_of(folder) | {"verdict": str(verdict)}
    if verdict > 1:
        mine["begun"] = str(((folder.read() or {}).get("further") or {}).get("start"))
    with contextlib.suppress(FileNotFoundError):
        mine["finalist"] = hashlib.sha256((folder.path / "finalist.json").read_bytes()).hexdigest()[:16]
    return mine


def of_run(look: dict[str, str], mine: dict[str, str]) -> bool:
    """Whether a look was noted by the run of which `look_of` says `mine`, wherever that lies now.

    Where either names no id, as versions of before did, it is told by name and start.
    """
    keys = ("id",) if "id" in look and "id" in mine else ("run", "start")
    return all(look.get(key) == mine[key] for key in keys)


def count_look(
    folder: RunFolder, fingerprint: str, source: str, *, split: str = DECIDING_SPLIT, verdict: int = 1
) -> Look:
    """Note that this run looks at the deciding split of this data for its verdict number `verdict`.

    The same verdict of the same run, resumed, is the same look, with the same number, also where its folder was moved
    or lies on another machine now. Copies of a finished run that get a further verdict each look anew, and so do copies
    of an unfinished one that fix a finalist each. Looks are kept beside the run folders (for a phase of a roadmap:
    beside the roadmap's) and in the user's state folder, so that neither starting afresh nor another `--results`
    forgets them. Of runs that look at once each waits for the other.
    """
    key = fingerprint if split == DECIDING_SPLIT else f"{fingerprint} ({split})"
    mine = _mine(folder, verdict) | {"results": str(_home(folder))}
    beside, state = _home(folder) / LOOKS, _state_folder() / LOOKS
    with _locked(beside, state):
        known = _joined(_read(beside).get(key, []), _read(state).get(key, []))
        numbers = [int(look.get(NUMBER, place)) for place, look in enumerate(known, start=1)]
        number = next((n for n, look in zip(numbers, known, strict=True) if _same(look, mine)), None)
        if number is None:
            number = max([len(known), *numbers]) + 1
            known = [*known, mine | {"looked": now(), NUMBER: str(number)}]
        for path in dict.fromkeys((beside, state)):
            _note(path, key, known)
    return Look(number=number, practice=is_practice(source), split=split)


def is_practice(source: str) -> bool:
    """Whether a dataset is bundled or planted: looks at it spend nothing."""
    return source.removesuffix(HALVED).split(":")[0].split("?")[0] in PRACTICE


@contextlib.contextmanager
def _locked(*paths: Path) -> Iterator[None]:
    """Nobody else reads and writes these looks meanwhile; where no file can be locked, nobody is kept from it.

    Each file once, whatever it is called, since a lock keeps out its own process too; and in one order, so that two
    who want the same files do not wait for each other.
    """
    with contextlib.ExitStack() as held:
        for path in sorted({path.resolve() for path in paths}):
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                file = held.enter_context(path.with_name(f".{path.name}.lock").open("a"))
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _joined(one: list[dict[str, str]], other: list[dict[str, str]]) -> list[dict[str, str]]:
    found = list(one)
    found += [look for look in other if not any(_same(look, known) for known in one)]
    return sorted(found, key=lambda look: look.get("looked", ""))


def _same(look: dict[str, str], mine: dict[str, str]) -> bool:
    """One look: of one run, for one of its verdicts, begun at one time, at one finalist where both name it.

    Of runs without an id: of one run folder, run at one time.
    """
    if "id" in look and "id" in mine:
        keys = ["id", "verdict", "begun", *(["finalist"] if "finalist" in look and "finalist" in mine else [])]
        return all(look.get(key) == mine.get(key) for key in keys)
    keys = [key for key in mine if key not in ("id", "begun", "finalist")]
    return all(look.get(key, mine[key] if key != "verdict" else "1") == mine[key] for key in keys)


def _note(path: Path, key: str, known: list[dict[str, str]]) -> None:
    """A state folder that cannot be written costs the memory beyond `--results`, never the run."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(_read(path) | {key: known}, indent=1) + "\n")
    except OSError:
        if path.parent != _state_folder():
            raise


def _state_folder() -> Path:
    """The user's state folder, by the XDG base directory specification."""
    given, root = os.environ.get(STATE_FOLDER), os.environ.get("XDG_STATE_HOME")
    try:
        return Path(given).expanduser() if given else Path(root or "~/.local/state").expanduser() / "fusion-search"
    except RuntimeError as error:
        if given:
            raise RunFolderError(f"${STATE_FOLDER} is {given}, and that home is unknown: give a whole path") from error
        return NO_FOLDER


def _home(folder: RunFolder) -> Path:
    """Where looks are counted: beside the run folders; for a phase of a roadmap, beside the roadmap's."""
    return folder.path.parent.parent if (folder.read() or {}).get("roadmap") else folder.path.parent


def _read(path: Path) -> dict[str, list[dict[str, str]]]:
    """The looks in a file; none where it, or a folder that may be entered, is not there."""
    try:
        return parse_looks(path.read_bytes(), str(path))
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) or not os.access(path.parent, os.X_OK):
            return {}
        raise RunFolderError(f"{path} cannot be read ({error.strerror}): {REMEDY}") from error


def parse_looks(raw: bytes, where: str) -> dict[str, list[dict[str, str]]]:
    """What a file of looks says. Raises RunFolderError, naming it, where it is broken: none may be forgotten so."""
    try:
        found = json.loads(raw)
    except ValueError as error:
        raise RunFolderError(f"{where} is not JSON ({error}): {REMEDY}") from error
    lists = list(found.values()) if isinstance(found, dict) else [None]
    if not all(isinstance(looks, list) and all(isinstance(look, dict) for look in looks) for looks in lists):
        raise RunFolderError(f"{where} holds no looks: {REMEDY}")
    return dict(found)


def require_looks(folder: RunFolder) -> None:
    """Raises RunFolderError where looks that this run will be counted beside cannot be read.

    To be asked before anything is trained: the looks themselves are read when the deciding split is opened.
    """
    try:
        home = _home(folder)
    except RunFolderError:  # of another version, or broken: whoever goes on with it is told elsewhere
        home = folder.path.parent
    for place in (home, _state_folder()):
        _read(place / LOOKS)
