"""Where a run is kept."""

from __future__ import annotations

from dataclasses import dataclass

from optuna.storages import BaseStorage

from search.run_store.folder import RunFolder
from search.run_store.mirror import Mirror


@dataclass(frozen=True, kw_only=True)
class RunStore:
    """The folder of one run, its journal, and where the folder is kept as well when --results is a URI."""

    folder: RunFolder
    journal: BaseStorage
    mirror: Mirror | None = None
