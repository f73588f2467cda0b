"""Weights & Biases: a parent run, and a run a training in its group. Its own environment says where (`WANDB_MODE`)."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search.monitoring.tracking.observer import Curve
from search.run_store.job import TrialRecord

PROJECT = "fusion-search"
"""Unless `WANDB_PROJECT` names another."""
FILES = "run-files"
"""Type of the artifact that holds report and tables."""


class WandbTracker:
    """See `Tracker`. W&B knows no nested runs: children stand in the parent's group, with the job type `trial`."""

    def __init__(self, folder: Path) -> None:
        """Its own files lie in the run folder, unless `WANDB_DIR` names another."""
        import wandb

        self._wandb = wandb
        self._place = os.environ.get("WANDB_DIR", str(folder))
        self._parent: Any = None

    def begin(self, name: str, description: dict[str, Any], known: str | None) -> str:
        """Open the parent run, or the one that is known already."""
        config = {k: description.get(k) for k in ("phase", "data", "fingerprint", "commit", "options", "counts")}
        group = known or uuid.uuid4().hex[:8]
        self._parent = self._open(name, group, config=config, kind="search", known=group)
        return group

    def trial(self, record: TrialRecord, curve: Curve) -> None:
        """A run in the group with recipe, curves, final numbers, and how it ended."""
        config = record.recipe | {"seed": record.seed, "stage": record.stage, "name": record.name}
        run = self._open(f"{record.trial_id} {record.name}", self._parent.id, config=config, kind="trial")
        for epoch, numbers in curve:
            run.log({"epoch": epoch} | _finite(numbers))
        run.summary.update(_finite(record.numbers) | {"state": record.state, "state_reason": record.state_reason})
        run.finish(exit_code=0 if record.state != "failed" else 1)

    def end(self, decision: dict[str, Any], files: Sequence[Path]) -> None:
        """Verdict and gates in the summary, the files as one artifact."""
        summary: dict[str, Any] = {"verdict": decision.get("verdict"), "finalist": decision.get("finalist")}
        for gate in decision.get("gates", []):
            summary[f"gate/{gate['key']}"] = gate["value"]
            summary[f"gate/{gate['key']}/status"] = gate["status"]
        self._parent.summary.update(summary)
        artifact = self._wandb.Artifact(f"run-{self._parent.id}", type=FILES)
        for path in files:
            artifact.add_file(str(path))
        self._parent.log_artifact(artifact)
        self._parent.finish()

    def stop(self) -> None:
        """Failed, until a resumed run goes on in it."""
        self._parent.finish(exit_code=1)

    def _open(self, name: str, group: str, *, config: dict[str, Any], kind: str, known: str | None = None) -> Any:
        return self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=name,
            group=group,
            id=known,
            resume="allow" if known is not None else None,
            job_type=kind,
            config=config,
            dir=self._place,
            reinit="create_new",
            settings=self._wandb.Settings(console="off", silent=True, init_timeout=30.0),  # an init keeps its id in it
        )


def _finite(numbers: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if math.isfinite(value)}
