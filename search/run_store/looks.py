"""Which split decides, and which runs have looked at it: test_looks.json beside the run folders."""

from __future__ import annotations

import json
from pathlib import Path

from fusion_models.data.splits import DECIDING
from fusion_models.files import write_whole
from search.run_store.folder import RunFolder, now

DECIDING_SPLIT = "test"
DECIDING_HALF = DECIDING
"""Of a halved dataset's validation split (see `RankingDataset.halved`)."""
SPLIT_NAMES = {DECIDING_SPLIT: "test split", DECIDING_HALF: "deciding half of validation"}
LOOKS = "test_looks.json"
"""Beside the run folders: when which run looked at the test split of which data."""


def opened_before(folder: RunFolder, fingerprint: str) -> list[dict[str, str]]:
    """Every look at the test split of this data that was counted beside `folder`: `run`, `start`, `looked`."""
    return _read(_home(folder) / LOOKS).get(fingerprint, [])


def look_of(folder: RunFolder) -> dict[str, str]:
    """How a look of this run is told from those of others."""
    name = folder.path.relative_to(_home(folder)).as_posix()
    return {"run": name, "start": str((folder.read() or {}).get("start"))}


def _home(folder: RunFolder) -> Path:
    """Where looks are counted: beside the run folders; for a phase of a roadmap, beside the roadmap's."""
    return folder.path.parent.parent if (folder.read() or {}).get("roadmap") else folder.path.parent


def count_look(folder: RunFolder, fingerprint: str, *, split: str = DECIDING_SPLIT) -> int:
    """Note that this run has looked at the deciding split of this data; returns how many runs have, this one included.

    The count is kept beside the run folders (for a phase of a roadmap: beside the roadmap's), so that starting afresh
    does not forget it.
    """
    path = _home(folder) / LOOKS
    looks: dict[str, list[dict[str, str]]] = _read(path)
    mine = look_of(folder)
    known = looks.setdefault(fingerprint if split == DECIDING_SPLIT else f"{fingerprint} ({split})", [])
    if not any({key: look[key] for key in mine} == mine for look in known):
        known.append(mine | {"looked": now()})
        write_whole(path, json.dumps(looks, indent=1) + "\n")
    return len(known)


def _read(path: Path) -> dict[str, list[dict[str, str]]]:
    if not path.exists():
        return {}
    found: dict[str, list[dict[str, str]]] = json.loads(path.read_text())
    return found
