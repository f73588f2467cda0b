"""One trial of several workers: a Tune Trainable that has a worker group step the job, and needs nothing itself."""

from __future__ import annotations

import time
import uuid
from typing import Any

import ray
from ray import tune

from search.execution.failures import cause_of_failure
from search.run_store.job import Failure

ANSWER_SECONDS = 30.0


class GroupedTrial(tune.Trainable):  # type: ignore[misc]
    """The client of a worker group; see `worker_groups`. Reused for the next job, as `FusionTrial` is.

    Workers that die or hang are replaced, and the job goes on from its checkpoint; a job that loses its workers too
    often, or fails by itself, ends as failed and says why.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._config = {name: config[name] for name in ("job", "data", "checkpoints", "gpus")}
        self._board = ray.get_actor(config["board"])
        self._limit: float = config["epoch_limit"]
        self._key = uuid.uuid4().hex
        self._group: int | None = None
        self._last: dict[str, Any] = {"numbers": {}, "epochs": 0, "seconds": 0.0}
        self._began = time.monotonic()

    def step(self) -> dict[str, Any]:
        while self._group is None:
            self._group = ray.get(self._board.lease.remote(self._config["job"]["trial_id"]))
        command = {"key": self._key, "config": self._config}
        number = ray.get(self._board.give.remote(self._group, command))
        while True:
            found = ray.get(self._board.outcome.remote(self._group, number))
            known = {"preemptions": found["preemptions"]} if found["preemptions"] else {}
            if "lost" in found:
                return self._failed(_lost(found["lost"]), "machine") | known
            if "results" in found:
                if not self._somebody_died(found):
                    return self._result(found) | known
            elif found["seconds"] is None:
                other = ray.get(self._board.move.remote(self._group))
                if other is not None:
                    self._group = other
                    number = ray.get(self._board.give.remote(other, command))
            elif found["seconds"] > self._limit:
                self._kill(found, f"an epoch took longer than {self._limit:.0f} s, and the workers were killed")

    def _result(self, found: dict[str, Any]) -> dict[str, Any]:
        results: dict[int, dict[str, Any]] = found["results"]
        poisoned: bool = found["poisoned"]
        if poisoned:
            self._kill(found, "")
        failed = {rank: result for rank, result in sorted(results.items()) if result.get("outcome") == "failed"}
        if failed:
            rank, first = next(iter(failed.items()))
            self._last |= {k: first[k] for k in ("numbers", "epochs") if k in first}
            everybody = len({result["reason"] for result in failed.values()}) == 1 and not poisoned
            reason = first["reason"] if everybody else f"rank {rank}: {first['reason']}"
            return self._failed(reason, first.get("failure"))
        self._last = results[0]
        return results[0]

    def _somebody_died(self, found: dict[str, Any]) -> bool:
        """Whether a rank that says nothing is gone: then what the others say, who lost it in a sum, is no reason."""
        assert self._group is not None
        workers = ray.get(self._board.workers.remote(self._group, found["incarnation"]))
        if workers is None:  # Ray Train was told sooner
            return True
        for rank, worker in workers.items():
            why = _why_gone(worker) if rank not in found["results"] else ""
            if why:
                self._kill(found, why)
                return True
        return False

    def _failed(self, reason: str, failure: Failure | None = None) -> dict[str, Any]:
        known = {name: self._last[name] for name in ("numbers", "epochs")}
        seconds = time.monotonic() - self._began
        said = {"outcome": "failed", "reason": reason, "failure": failure, "done": True}
        return known | {"seconds": seconds} | said

    def _kill(self, found: dict[str, Any], why: str) -> None:
        """End the group's workers of an outcome, stopped ones too; Ray Train starts new ones."""
        assert self._group is not None
        for worker in ray.get(self._board.condemned.remote(self._group, found["incarnation"], why)):
            ray.kill(worker)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing for Ray to keep: see `FusionTrial`."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See `save_checkpoint`."""


def _lost(deaths: list[str]) -> str:
    return f"its workers were lost {len(deaths)} times, the last time since {deaths[-1]}"


def _why_gone(worker: Any) -> str:
    """Why a worker is no more; empty where it answers."""
    try:
        ray.get(worker.__ray_ready__.remote(), timeout=ANSWER_SECONDS)
        return ""
    except ray.exceptions.ActorDiedError as error:
        return f"a worker's process died {cause_of_failure(str(error)).reason}".strip()
    except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
        return "a worker does not answer"
