"""One shadow deployment, started as a user starts it, for every test that talks to it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
import torch
from patience import wait_for
from safetensors.torch import save_file

from fusion_models.config import Recipe
from fusion_models.models import build_ranker
from search.artifacts import RECIPE, WEIGHTS


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
            try:
                if f"ServeReplica:shadow:{name}" in " ".join(child.cmdline()):
                    return child
            except psutil.Error:
                continue
        return None

    def scored(self, request):
        """Whether V2 has scored one more since it was asked with `request`."""
        before = self.status()["v2"].get("scored", 0)
        answer = self.rank(request)
        assert answer.status_code == 200, answer.text
        time.sleep(0.3)
        now = self.status()
        return now is not None and now["v2"].get("scored", 0) > before


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


@pytest.fixture(scope="session")
def deployment(small_data, checkpoint, tmp_path_factory):
    """`python -m search.shadow serve` on a free port of loopback; ended with SIGINT."""
    folder = tmp_path_factory.mktemp("shadow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "search.shadow", "serve", "--data", small_data.source]
    command += ["--checkpoint", str(checkpoint), "--log", str(folder / "log"), "--port", str(port), "--seconds", "3"]
    command += ["--timeout", "10"]
    said = folder / "said.txt"
    with said.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )
    with httpx.Client(timeout=60.0) as client:
        found = Deployment(process, f"http://127.0.0.1:{port}", folder / "log", client, said)

        def up():
            assert process.poll() is None, said.read_text()
            return found.status()

        try:
            wait_for(up, "the deployment to start", 300.0)
            yield found
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()
