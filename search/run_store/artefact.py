"""The ranker that would be released: its members' weights in one folder, beside their recipe."""

from __future__ import annotations

from collections.abc import Sequence

from fusion_models.data.schema import DataDescription
from search.run_store.artifacts import write_ensemble
from search.run_store.folder import RunFolder

ARTEFACT = "artefact"
"""Its folder among the checkpoints."""


def write_artefact(folder: RunFolder, members: Sequence[str], data: DataDescription) -> None:
    """Put the members' weights (trial ids, in order) together, so that `load_ranker` opens them as one ranker.

    Beside them what they were trained on, so that they score without the dataset.
    """
    write_ensemble(folder.checkpoints / ARTEFACT, [folder.checkpoints / trial_id for trial_id in members], data)
