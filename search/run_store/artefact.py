"""The ranker that would be released: its members' weights in one folder, beside their recipe."""

from __future__ import annotations

import json
from collections.abc import Sequence

from search.run_store.artifacts import RECIPE, WEIGHTS, member_weights
from search.run_store.folder import RunFolder, write_whole

ARTEFACT = "artefact"
"""Its folder among the checkpoints."""


def write_artefact(folder: RunFolder, members: Sequence[str]) -> None:
    """Put the members' weights (trial ids, in order) together, so that `load_ranker` opens them as one ranker."""
    place = folder.checkpoints / ARTEFACT
    place.mkdir(parents=True, exist_ok=True)
    said = [json.loads((folder.checkpoints / trial_id / RECIPE).read_text()) for trial_id in members]
    for index, trial_id in enumerate(members):
        (place / member_weights(index)).write_bytes((folder.checkpoints / trial_id / WEIGHTS).read_bytes())
    described = {"recipe": said[0]["recipe"], "seeds": [one["seed"] for one in said], "members": list(members)}
    write_whole(place / RECIPE, json.dumps(described, indent=1) + "\n")
