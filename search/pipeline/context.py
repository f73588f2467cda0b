"""One run of one phase: what its steps are given. Nothing of it is altered after it is built."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rich.console import Console

from fusion_models.data import RankingDataset
from search.options import RunOptions
from search.pipeline.store import RunStore
from search.pipeline.trainer import Trainer
from search.run_store.folder import RunFolder
from search.run_store.looks import DECIDING_SPLIT
from search.study.stages import Earlier
from spaces import Phase


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the steps of a run share; each takes of it what it needs."""

    options: RunOptions
    phase: Phase
    data: RankingDataset
    store: RunStore
    trainer: Trainer
    console: Console
    deciding: str = DECIDING_SPLIT
    """The split that the verdict reads, opened after the finalist is fixed."""
    earlier: Earlier | None = None
    """Trainings of earlier phases, which the search takes over and does not do again."""
    began: float = field(default_factory=time.monotonic)
    verdict: int = 1
    """Which verdict of this run: a further one is a look of its own."""
    chooses_anew: bool = False
    """Whether this verdict has a finalist of its own, or judges the one that stands."""

    @property
    def folder(self) -> RunFolder:
        """Of its files."""
        return self.store.folder

    @property
    def deadline(self) -> float | None:
        """`time.monotonic()` after which the time budget is spent."""
        budget = self.options.budget_seconds
        return None if budget is None else self.began + budget
