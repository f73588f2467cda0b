"""MLflow: a parent run, nested runs for trainings. Where to, its own environment says (`MLFLOW_TRACKING_URI`)."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.monitoring.tracking.observer import Curve
from search.run_store.job import TrialRecord

EXPERIMENT = "fusion-search"
"""Unless `MLFLOW_EXPERIMENT_NAME` names another."""
PARENT, RUN_NAME, NOTE = "mlflow.parentRunId", "mlflow.runName", "mlflow.note.content"
AT_ONCE = 90
"""Params or metrics of one request: MLflow takes at most 100 params."""
LONGEST = 500
"""Characters of a param or a tag."""
STATES = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class MlflowTracker:
    """See `Tracker`; through the client, whose state no other run of this process shares."""

    def __init__(self) -> None:
        """A server that does not answer is given up after seconds, unless MLflow's environment says otherwise."""
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow import MlflowClient

        self._client = MlflowClient()
        self._experiment, self._parent = "", ""

    def begin(self, name: str, description: dict[str, Any], known: str | None) -> str:
        """Open the parent run, or the one that is known already."""
        wanted = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self._client.get_experiment_by_name(wanted)
        self._experiment = found.experiment_id if found is not None else self._client.create_experiment(wanted)
        if known is not None:
            self._parent = known
            self._client.update_run(known, status="RUNNING")
            return known
        tags = {RUN_NAME: name, "phase": str(description.get("phase")), "data": str(description.get("data"))}
        tags |= {"fingerprint": str(description.get("fingerprint")), "commit": str(description.get("commit"))}
        run = self._client.create_run(self._experiment, tags={k: v[:LONGEST] for k, v in tags.items()})
        self._parent = run.info.run_id
        self._params(self._parent, description.get("options") or {})
        return self._parent

    def trial(self, record: TrialRecord, curve: Curve) -> None:
        """A nested run with recipe, curves, final numbers, and how it ended."""
        tags = {PARENT: self._parent, RUN_NAME: record.trial_id, "stage": record.stage, "name": record.name}
        tags |= {"state": record.state, NOTE: record.state_reason}
        run = self._client.create_run(self._experiment, tags={k: v[:LONGEST] for k, v in tags.items() if v})
        child = run.info.run_id
        self._params(child, record.recipe | {"seed": record.seed})
        for epoch, numbers in curve:
            self._metrics(child, numbers, epoch)
        self._metrics(child, record.numbers | {"epochs": float(record.epochs)}, record.epochs)
        self._client.set_terminated(child, STATES[record.state])

    def end(self, decision: dict[str, Any], files: Sequence[Path]) -> None:
        """Gates as metrics, the verdict as a tag, the files as artifacts."""
        gates = {f"gate/{_plain(g['key'])}": g["value"] for g in decision.get("gates", []) if g["value"] is not None}
        self._metrics(self._parent, gates, 0)
        said = {f"gate.{_plain(g['key'])}": str(g["status"]) for g in decision.get("gates", [])}
        said |= {"verdict": str(decision.get("verdict")), "finalist": str(decision.get("finalist"))}
        for key, value in said.items():
            self._client.set_tag(self._parent, key, value)
        for path in files:
            self._client.log_artifact(self._parent, str(path))
        self._client.set_terminated(self._parent)

    def stop(self) -> None:
        """Killed, until a resumed run goes on in it."""
        self._client.set_terminated(self._parent, "KILLED")

    def _params(self, run: str, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        given = [Param(_plain(k), str(v)[:LONGEST]) for k, v in values.items()]
        for first in range(0, len(given), AT_ONCE):
            self._client.log_batch(run, params=given[first : first + AT_ONCE])

    def _metrics(self, run: str, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        known = [Metric(_plain(k), float(v), now, step) for k, v in values.items() if math.isfinite(v)]
        for first in range(0, len(known), AT_ONCE):
            self._client.log_batch(run, metrics=known[first : first + AT_ONCE])


def _plain(key: str) -> str:
    """Names in MLflow hold letters, digits, `_-./` and spaces."""
    return "".join(c if (c.isalnum() and c.isascii()) or c in "_-./ " else "-" for c in key)
