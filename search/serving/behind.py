"""The processes behind the answering one: V2's ranker, and the archive of the log.

Both have a processor only when nobody else wants it, from their very first instruction on: a V2 that crashes and starts
again, over and over, spends seconds of a processor on imports alone, and V1 must not wait for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path


def behind_everybody() -> dict[str, str]:
    """Ray's runtime environment of a process that runs when nobody else wants the processor.

    Linux's SCHED_IDLE, else nice 19; empty where this machine grants neither.
    """
    for command in (["chrt", "--idle", "0"], ["nice", "-n", "19"]):
        with contextlib.suppress(OSError):
            if subprocess.run([*command, sys.executable, "-c", ""], capture_output=True).returncode == 0:
                return {"py_executable": shlex.join([*command, sys.executable])}
    return {}


class Ranker:
    """V2 in a process of its own."""

    def __init__(self, checkpoint: str, source: str) -> None:
        import torch

        from fusion_models.data import open_dataset
        from search.run_store.artifacts import load_ranker, require_same_source
        from search.serving.request import Catalogue

        torch.set_num_threads(1)
        require_same_source(Path(checkpoint))
        data = open_dataset(source)
        self._catalogue = Catalogue(data)
        self._model = load_ranker(Path(checkpoint), data)

    async def score(self, requests: list[str]) -> list[list[float] | None]:
        """Scores of requests that were checked when they came."""
        return await asyncio.to_thread(self._score, requests)

    def _score(self, requests: list[str]) -> list[list[float] | None]:
        from search.serving.request import RankRequest
        from search.serving.scoring import score_requests

        return score_requests(self._model, self._catalogue, [RankRequest.model_validate_json(r) for r in requests])


class Archive:
    """Turns the journals of the log into Parquet files, away from the answering process."""

    def __init__(self, log: str, every: float = 1.0) -> None:
        self._log, self._every = Path(log), every
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        from search.serving.journal import archive

        while True:
            try:
                archive(self._log)
            except OSError as error:  # a full disk: the journals stay, and are tried again
                print(f"archive: {error}", flush=True)
            time.sleep(self._every)

    def log(self) -> str:
        """Which log it keeps."""
        return str(self._log)
