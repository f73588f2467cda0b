"""One shadow deployment, started as a user starts it, for every test that talks to it."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx
import psutil
import pytest
import torch
from patience import PATIENCE, QUEUE, wait_for
from safetensors.torch import save_file

from fusion_models.config import Recipe
from fusion_models.models import build_ranker
from search.run_store.artifacts import RECIPE, WEIGHTS
from search.serving.journal import read_decisions


@dataclass
class Deployment:
    """What runs, and how to reach it."""

    process: subprocess.Popen
    url: str
    log: Path
    client: httpx.Client
    said: Path

    def status(self):
        """What the replica says of itself; None while there is none."""
        try:
            answer = self.client.get(f"{self.url}/status")
        except httpx.TransportError:
            return None
        return answer.json() if answer.status_code == 200 else None

    def rank(self, request):
        """The answer to one request."""
        return self.client.post(f"{self.url}/rank", json=request)

    def replica(self, name):
        """The process of a deployment's replica; None while there is none."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if f"ServeReplica:shadow:{name}" in " ".join(child.cmdline()):
                    return child
        return None

    def decisions(self):
        """Request id -> the logged decision; an id that stands there twice fails."""
        rows = read_decisions(self.log).to_pylist() if self.log.exists() else []
        found = {row["request_id"]: row for row in rows}
        assert len(found) == len(rows)
        return found

    def outcome(self, name, seconds=PATIENCE):
        """The logged decision under a request id, once V2's outcome is known."""

        def known():
            row = self.decisions().get(name)
            return row if row is not None and row["v2_status"] != "lost" else None

        return wait_for(known, f"the outcome of {name}", seconds)

    def v2_scores(self, request):
        """Wait until V2 scores: it starts after the answering process, and anew after a fault."""
        numbers = count()

        def scored():
            name = f"warm-{time.time_ns()}-{next(numbers)}"
            answer = self.rank(request | {"request_id": name})
            return answer.status_code == 200 and self.outcome(name)["v2_status"] == "scored"

        wait_for(scored, "V2 to score")

    def end(self):
        """Ctrl-C in its terminal, which every process of the group hears; returns the exit status."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(120)


@pytest.fixture(scope="session")
def checkpoint(small_data, tmp_path_factory):
    """Weights of a ranker as a run leaves them (untrained: what is tested here is the way of its scores)."""
    folder = tmp_path_factory.mktemp("checkpoint")
    recipe = Recipe.from_flat({"model.width": 16, "model.layers": 1, "model.heads": 2})
    torch.manual_seed(0)
    model = build_ranker(recipe, small_data.schema, small_data.statistics)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS)
    (folder / RECIPE).write_text(json.dumps({"recipe": recipe.flat(), "seed": 0, "numbers": {}}))
    return folder


@pytest.fixture(scope="session")
def request_of(small_data):
    """A valid request for a query row of the dataset."""

    def make(row, **more):
        span = slice(small_data.offset[row], small_data.offset[row + 1])
        candidates = [
            {"item": str(small_data.item_ids[item]), "v1_score": float(score)}
            for item, score in zip(small_data.judged_item[span], small_data.v1[span], strict=True)
        ]
        return {"query": {"id": str(small_data.query_ids[row])}, "candidates": candidates} | more

    return make


def free_port():
    """A port of loopback below those that the system hands out: another process may be given one of those meanwhile."""
    for port in random.sample(range(20_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return port
    raise OSError("no port of loopback is free")


@pytest.fixture(scope="module")
def deployment(small_data, checkpoint, tmp_path_factory):
    """`python -m search.shadow serve` on a free port of loopback, with a Ray of its own beside the tests'."""
    folder = tmp_path_factory.mktemp("shadow")
    port = free_port()
    command = [sys.executable, "-m", "search.shadow", "serve", "--data", small_data.source]
    command += ["--checkpoint", str(checkpoint), "--log", str(folder / "log"), "--port", str(port)]
    command += ["--seconds", "2", "--timeout", "4", "--queue", str(QUEUE)]
    said = folder / "said.txt"
    surroundings = os.environ | {"PYTHONUNBUFFERED": "1"}
    with said.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=surroundings, start_new_session=True
        )
    with httpx.Client(timeout=120.0) as client:
        found = Deployment(process, f"http://127.0.0.1:{port}", folder / "log", client, said)

        def up():
            assert process.poll() is None, said.read_text()
            return found.status()

        children = []
        try:
            wait_for(up, "the deployment to start", 300.0)
            yield found
        finally:
            with contextlib.suppress(psutil.Error):
                children = psutil.Process(process.pid).children(recursive=True)
            for child in children:  # whatever a failed test has stopped
                with contextlib.suppress(psutil.Error):
                    child.send_signal(signal.SIGCONT)
            try:
                found.end()
            except subprocess.TimeoutExpired:
                for child in [*children, process]:
                    with contextlib.suppress(psutil.Error):
                        child.kill()
