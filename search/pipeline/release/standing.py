"""Which verdict of phase 3 a phase 4 is about: noted when it begins, and compared when it goes on or is shown again."""

from __future__ import annotations

import hashlib
from typing import Any

from search.pipeline.continuation.kept import UNDER_WAY, standing_verdict
from search.run_store.folder import RunFolder, RunFolderError

STANDING = "phase3"
"""In run.json of a phase 4: the verdict that is validated."""


def standing(source: RunFolder) -> dict[str, Any]:
    """What stands in phase 3's folder: the number of its verdict, and a hash of its finalist."""
    place = source.path / "finalist.json"
    finalist = hashlib.sha256(place.read_bytes()).hexdigest() if place.exists() else None
    return {"verdict": standing_verdict(source), "finalist": finalist}


def require_standing(folder: RunFolder, source: RunFolder) -> None:
    """Raises RunFolderError where phase 3 has another verdict, or was run anew, since `folder` took over what it chose.

    Its finalist, evidence and artefact of then would stand beside measurements of now.
    """
    known = (folder.read() or {}).get(STANDING)
    if known is None or not source.finished():
        return
    now = standing(source)
    if now != known:
        more = f"has verdict {now['verdict']}" if now["verdict"] != known["verdict"] else "has another finalist"
        raise RunFolderError(
            f"{folder.path} validates verdict {known['verdict']} of {source.path}, which {more} by now: give "
            "--fresh to validate that one, or another --name"
        )


def require_ended(source: RunFolder) -> None:
    """Raises RunFolderError where a further verdict of phase 3 is under way, whose files are of two verdicts."""
    found = (source.read() or {}).get(UNDER_WAY)
    if found is not None:
        raise RunFolderError(
            f"{source.path} has begun verdict {found['number']} by {found['by']}: end that one first, and then phase 4"
        )
