"""What an audit is asked to do: `python -m search.run audit`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fusion_models.config.annotated import settle_kinds
from search.options import require_seed, seconds
from search.options.asked import FILE_WANTED, as_asked
from search.reporting.records import AUDIT as AUDIT
from search.run_store.facts import read_facts
from search.run_store.folder import require_name

REMEDIES = {
    "model": 'give the path of an .onnx or .pt2 file, or the import name of a function ("package.module:callable")',
    "inputs": "give a mapping, or the text or file that --inputs takes",
    "facts": FILE_WANTED,
}
PhaseName = Literal["phase1", "phase2", "phase3", "phase4"]


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """Audit a V2 that exists: gain, drops, agreement with V1, rivals, integrity, and a decision by a phase's gates.

    Nothing of yours is trained. Every audit is one counted look at the test split.
    """

    data: str = "clipart"
    """clipart (bundled), planted or planted:PRESET, or the folder (path or URI) of a dataset's three tables."""
    scores: str | None = None
    """Table (Parquet or CSV) of V2's scores: query_id, item_id, v2_score, and what else you have (docs/audit.md)."""
    model: str | None = None
    """V2 itself: an .onnx file, a .pt2 file (torch.export), or package.module:callable. With --scores, of which it is
    the first training, the table adds what a model cannot tell: refits, attention."""
    inputs: str | None = None
    """Which input of the model holds what: a TOML file, or image=visual,words=text+metadata (docs/audit.md)."""
    answer_limit: str = "2m"
    """A model that takes longer for one batch, such as 30s, hangs and is stopped; opening may take ten times that."""
    phase: PhaseName = "phase1"
    """Whose gates and archive rules the verdict reads; the others' are told beside it. phase1: a V2 as it stands;
    phase3: one that has been through the roadmap's fixes; phase4: one that is to be released."""
    suspect: str | None = None
    """The modality that V2 is suspected not to use, by its name in the data; visual unless given."""
    members: int = 1
    """Trainings that the released ranker averages: those that stand first in the table (column `training`)."""
    facts: str | None = None
    """TOML file of business facts (see docs/facts.example.toml)."""
    seed: int = 0
    """Of the trees that V2 is held against, and of shuffles."""
    results: str = "results"
    """Folder that holds the run folders."""
    name: str = AUDIT
    """Name of the run folder."""
    fresh: bool = False
    """Delete what is in the run folder and audit anew: one more look at the test split."""

    def __post_init__(self) -> None:
        as_asked(self)
        settle_kinds(self, REMEDIES)
        require_seed(self.seed)
        if self.members < 1:
            raise ValueError(f"--members must be at least 1, got {self.members}")
        if self.inputs is not None and self.model is None:
            raise ValueError("--inputs says what the inputs of a model hold: give --model too")
        if self.model is not None and self.members > 1:
            raise ValueError("--members counts trainings of a table whose scores are averaged: a --model is one ranker")
        require_name(self.name)
        self.answer_seconds  # noqa: B018  (read, so that a bad one fails now)
        read_facts(self.facts)

    @property
    def answer_seconds(self) -> float:
        """`answer_limit` in seconds."""
        found = seconds("--answer-limit", self.answer_limit)
        assert found is not None
        return found


@dataclass(frozen=True, kw_only=True)
class AuditCommandLine(AuditOptions):
    """Audit a V2 that exists: gain, drops, agreement with V1, rivals, integrity, and a decision by a phase's gates.

    Nothing of yours is trained. Every audit is one counted look at the test split.
    """

    quiet: bool = False
    """Print errors alone."""
    json: bool = False
    """Print what the audit came to as JSON when it ends, and nothing else."""
