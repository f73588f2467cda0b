"""Why processes of trials died: Ray tells its scheduler, and nobody else, before it tries a trial again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from search.execution.nodes import machines_gone
from search.run_store.job import Cause

NODE = "node"
"""In every result of a trial that has a process of its own: Ray's id of the machine."""
_LOW_MEMORY = "node running low on memory"
"""Ray's memory monitor, in the text of `ray.exceptions.OutOfMemoryError`."""
_MACHINE_GONE = "its node has died"
"""Ray's word for a machine that it no longer hears from, in the text of `ray.exceptions.ActorDiedError`."""
_DEVICE_LOST = re.compile(r"DeviceLostError: ([^\n]*)")
"""What a process said that ended since its device answered no more."""
_CAUSE = re.compile(r"The actor (?:died|is dead) because ([^\n.]*)")


class FailureWatch(FIFOScheduler):  # type: ignore[misc]
    """Runs trials in order, and remembers why a process died while it trained one."""

    def __init__(self) -> None:
        super().__init__()
        self._deaths: dict[str, list[Cause]] = {}
        self._preemptions: dict[str, int] = {}

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Tune calls this before each retry, and at the last death.

        A machine that goes (a spot machine taken away, a raylet killed) is no fault of the trial's: it does not count
        against its retries. Tune often hears of the process before Ray misses the machine.
        """
        cause = cause_of_failure(_last_error(trial))
        node = (trial.last_result or {}).get(NODE)
        if _MACHINE_GONE in cause.reason or (node is not None and machines_gone([node])):
            self._preemptions[trial.trial_id] = self._preemptions.get(trial.trial_id, 0) + 1
            trial.run_metadata.num_failures -= 1
        else:
            self._deaths.setdefault(trial.trial_id, []).append(cause)

    def preemptions(self, tune_id: str) -> int:
        """How often the machine went on which a trial that has ended was trained; `tune_id` as in `why_died`."""
        return self._preemptions.pop(tune_id, 0)

    def why_died(self, tune_id: str) -> Cause:
        """The cause of a trial that was tried for the last time; `tune_id` is Tune's own name of it."""
        deaths = self._deaths.pop(tune_id, [])
        last = deaths[-1] if deaths else Cause(reason="")
        times = f"{len(deaths)} times" if len(deaths) > 1 else "once"
        if last.failure is not None:
            return Cause(reason=f"{last.reason} ({times} its process died)", failure=last.failure)
        said = f"; the last time {last.reason}" if last.reason else ""
        died = "its process died (killed, or out of memory) as often as it was tried again"
        return Cause(reason=f"{died}: {times}{said}", failure="machine")


def cause_of_failure(error: str) -> Cause:
    """What an error of Ray's says, in a line; for want of memory where Ray's memory monitor killed.

    A kill by the kernel cannot be told from another `kill -9`: Ray sees a closed connection either way.
    """
    if _LOW_MEMORY in error:
        said = "out of memory: Ray's memory monitor killed its process, since the node ran low"
        return Cause(reason=said, failure="out_of_memory")
    lost = _DEVICE_LOST.search(error)
    if lost:
        return Cause(reason=f"because {lost[1].strip()}")
    found = _CAUSE.search(" ".join(error.split()))
    return Cause(reason=f"because {found[1].strip()}" if found else "")


def _last_error(trial: Trial) -> str:
    path = trial.error_file if trial.storage is not None else None
    if path is None or not Path(path).exists():
        return ""
    return Path(path).read_text(errors="replace").rpartition("Failure #")[2]
