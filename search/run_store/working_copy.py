"""The working copy of a run on a URI: which of its files are mirrored, and what it knows of the store."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from fusion_models.files import write_whole

STATE = ".mirror.json"
"""In the local folder: what was last sent or fetched; see `Known`."""
LAST = ("study.journal", "run.json")
"""Sent after everything else, in this order."""
LEFT_OUT = ("tune", "wandb")
"""Files of Ray, of no use to anybody after the run, and of W&B, which sends them itself."""


@dataclass
class Known:
    """What the working copy knows of the store."""

    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Path of what was last sent or fetched -> (bytes, time of change here in ns)."""
    described: dict[str, str] = field(default_factory=dict)
    """Path of every run.json there -> hash of its bytes as they were last sent or fetched."""


class WorkingCopy:
    """The local folder of a run, or of a whole roadmap."""

    def __init__(self, local: Path) -> None:
        """It may not be there yet."""
        self._local = local

    def last(self) -> dict[str, tuple[tuple[int, int], bytes]]:
        """Path below the run folder -> ((bytes, time of change), content) of every file that is sent last.

        A training may be told while others are being sent. A journal read then would call it finished, and another
        machine would miss what it left.
        """
        out = {}
        for path in [path for name in LAST for path in self._local.rglob(name)]:
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                content = path.read_bytes()
                if path.name == LAST[0]:  # it grows while it is read: whole lines alone
                    content = content[: content.rfind(b"\n") + 1]
                out[path.relative_to(self._local).as_posix()] = ((status.st_size, status.st_mtime_ns), content)
        return out

    def files(self, *, whole: bool) -> dict[str, tuple[int, int]]:
        """Path below the run folder -> (bytes, time of change) of every file that is to be mirrored before those."""
        out = {}
        for path in self._local.rglob("*"):
            parts = path.relative_to(self._local).parts
            if (
                any(part in LEFT_OUT for part in parts[:-1])
                or any(part.startswith(".") for part in parts)
                or parts[-1].endswith(".lock")
                or parts[-1] in LAST
            ):
                continue
            if "training" in parts[:-1] and not whole:
                continue
            with contextlib.suppress(FileNotFoundError):  # swept since it was listed
                status = path.stat()
                if path.is_file():
                    out["/".join(parts)] = (status.st_size, status.st_mtime_ns)
        return out

    def known(self) -> Known:
        path = self._local / STATE
        if not path.exists():
            return Known()
        said = json.loads(path.read_text())
        files = said["files"] if set(said) == {"files", "described"} else said  # earlier versions noted files alone
        described = said["described"] if files is not said else {}
        return Known(files={name: tuple(status) for name, status in files.items()}, described=described)

    def note(self, known: Known) -> None:
        self._local.mkdir(parents=True, exist_ok=True)
        write_whole(self._local / STATE, json.dumps(dataclasses.asdict(known)))


def content_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
