"""V1's latency with V2 healthy, slow, crashing and absent: `python benchmarks/shadow_load.py results/phase3`.

Starts four shadow deployments in one Serve on loopback, alike but for their V2: the run's finalist; one that takes
5 seconds; one whose process dies of every batch; none. Sends each the same requests in short blocks, the four by turns
in shuffled order, at Poisson arrivals timed from their schedule (open loop), and prints V1's quantiles, each P99 over
that without V2 (with a bootstrap interval over blocks), and the answers lost. Bounded: 4 x rounds x seconds x rate
requests; with what it takes to start, about 3 minutes on 2 processors.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import socket
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from ray import serve

from fusion_models.data import open_dataset
from fusion_models.metrics import poisson_arrivals
from search.run_store.folder import RunFolder
from search.serving.app import application
from search.serving.behind import Ranker
from search.serving.journal import read_decisions
from search.serving.session import serving
from search.shadow import finalist_checkpoint


class SlowRanker(Ranker):
    """Takes 5 seconds."""

    async def score(self, requests: list[str]) -> list[list[float] | None]:
        """As the ranker's, late."""
        await asyncio.sleep(5.0)
        return await super().score(requests)


class CrashingRanker(Ranker):
    """Dies of every batch."""

    async def score(self, requests: list[str]) -> list[list[float] | None]:
        """Never returns."""
        os._exit(1)


CONDITIONS: dict[str, type[Ranker] | None] = {
    "absent": None,
    "healthy": Ranker,
    "slow (5 s)": SlowRanker,
    "crashing": CrashingRanker,
}

SETTLE = {"absent": 0.5, "healthy": 0.5, "slow (5 s)": 1.0, "crashing": 5.0}
"""Seconds after a block: what a condition left behind (a V2 that starts again) must not burden the next one."""


def v1_order(body: Any) -> list[str]:
    """What must come back: V1's order, ties as they came."""
    return [c["item"] for c in sorted(body["candidates"], key=lambda c: -c["v1_score"])]


async def block(session: aiohttp.ClientSession, url: str, bodies: list[Any], arrivals: np.ndarray) -> list[float]:
    """Latencies in ms of one block, from each request's scheduled arrival; infinite for one without V1's order."""
    start = time.perf_counter() + 0.05

    async def ask(body: Any, at: float) -> float:
        await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
        try:
            async with session.post(url, json=body) as answer:
                right = answer.status == 200 and (await answer.json())["order"] == v1_order(body)
        except (aiohttp.ClientError, TimeoutError):
            return float("inf")
        return (time.perf_counter() - start - at) * 1000 if right else float("inf")

    return list(await asyncio.gather(*(ask(b, a) for b, a in zip(bodies, arrivals, strict=True))))


async def load(port: int, bodies: list[Any], asked: argparse.Namespace) -> dict[str, list[list[float]]]:
    """Condition -> its blocks' latencies."""
    generator = np.random.default_rng(0)
    found: dict[str, list[list[float]]] = {name: [] for name in CONDITIONS}
    paths = {name: f"http://127.0.0.1:{port}/c{i}/rank" for i, name in enumerate(CONDITIONS)}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        for name in CONDITIONS:
            await block(session, paths[name], bodies[:20], np.linspace(0, 2, 20))  # warm-up
        for _ in range(asked.rounds):
            for i in generator.permutation(len(CONDITIONS)):
                name = list(CONDITIONS)[i]
                arrivals = poisson_arrivals(asked.rate, int(asked.rate * asked.seconds), generator)
                chosen = [bodies[j] for j in generator.integers(0, len(bodies), len(arrivals))]
                found[name].append(await block(session, paths[name], chosen, arrivals))
                await asyncio.sleep(SETTLE[name])
    return found


def main() -> None:
    """Start, load, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run: its finalist is V2, its data the requests")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3.6)
    parser.add_argument("--rate", type=float, default=25.0)
    asked = parser.parse_args()
    checkpoint = finalist_checkpoint(asked.run)
    data = open_dataset(str((RunFolder(asked.run).read() or {})["data"]))
    bodies = []
    for row in data.rows("validation")[:100]:
        span = slice(data.offset[row], data.offset[row + 1])
        pairs = zip(data.item_ids[data.judged_item[span]], data.v1[span], strict=True)
        candidates = [{"item": str(item), "v1_score": float(score)} for item, score in pairs]
        bodies.append({"query": {"id": str(data.query_ids[row])}, "candidates": candidates})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, serving(port=port):
        logs = {name: Path(folder) / f"c{i}" for i, name in enumerate(CONDITIONS)}
        for i, (name, ranker) in enumerate(CONDITIONS.items()):
            app = application(
                source=data.source,
                log=logs[name],
                checkpoint=checkpoint if ranker else None,
                ranker=ranker or Ranker,
            )
            serve.run(app, name=f"c{i}", route_prefix=f"/c{i}")
        found = asyncio.run(load(port, bodies, asked))
        time.sleep(6)  # what waits for a slow V2 times out
        statuses = {name: Counter(read_decisions(log)["v2_status"].to_pylist()) for name, log in logs.items()}
    report(found, statuses, asked)


def report(found: dict[str, list[list[float]]], statuses: dict[str, Counter[str]], asked: argparse.Namespace) -> None:
    """The table."""
    load_now = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} processors, load {load_now:.1f}; {asked.rate:g} requests a second,")
    print(f"{asked.rounds} blocks of {asked.seconds:g} s a condition by turns; {asked.run}\n")
    print("| V2 | requests | lost | P50 ms | P95 ms | P99 ms | P99 / absent [95 %] | what became of V2 |")
    print("|---|---|---|---|---|---|---|---|")
    base, generator = found["absent"], np.random.default_rng(1)
    draws = generator.integers(0, asked.rounds, (2_000, asked.rounds))
    for name, blocks in found.items():
        values = np.concatenate(blocks)
        answered = values[np.isfinite(values)]
        p50, p95, p99 = np.quantile(answered, [0.5, 0.95, 0.99])
        ratios = [_p99([blocks[i] for i in drawn]) / _p99([base[i] for i in drawn]) for drawn in draws[:500]]
        low, high = np.quantile(ratios, [0.025, 0.975])
        shares = ", ".join(f"{status} {count}" for status, count in statuses[name].most_common())
        print(
            f"| {name} | {len(values)} | {len(values) - len(answered)} | {p50:.1f} | {p95:.1f} | {p99:.1f} | "
            f"{p99 / _p99(base):.2f} [{low:.2f}, {high:.2f}] | {shares} |"
        )


def _p99(blocks: list[list[float]]) -> float:
    values = np.concatenate(blocks)
    return float(np.quantile(values[np.isfinite(values)], 0.99))


if __name__ == "__main__":
    main()
