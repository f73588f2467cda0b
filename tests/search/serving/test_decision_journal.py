"""The journal and the dispatcher by themselves: rotation, crashes, a full disk, V2's failures."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from search.serving.dispatcher import Dispatcher
from search.serving.journal import Journal, archive, read_decisions
from search.serving.monitor import drift, psi

REQUEST = json.dumps({"query": {"id": "q"}, "unit": "u", "candidates": [{"item": "a", "v1_score": 1.0}]})


def write(journal, count, status="scored"):
    for i in range(count):
        journal.shadow(journal.answer(1e9 + i, f"r{i}", [0], 0.5, REQUEST), status, [0.25], 3.0)


def test_volumes_rotate_by_rows_and_become_parquet(tmp_path):
    journal = Journal(tmp_path, rows=10)
    write(journal, 25)
    assert archive(tmp_path) == 2
    assert len(list(tmp_path.glob("*.parquet"))) == 2
    assert len(list(tmp_path.glob("*.jsonl"))) == 1
    table = read_decisions(tmp_path)
    assert table["request_id"].to_pylist() == [f"r{i}" for i in range(25)]
    assert set(table["v2_status"].to_pylist()) == {"scored"}
    journal.close()
    assert archive(tmp_path) == 1
    assert read_decisions(tmp_path).equals(table)


def test_volumes_rotate_by_age_once_v2_is_through(tmp_path):
    journal = Journal(tmp_path, seconds=0.0)
    ticket = journal.answer(1e9, "r", [0], 0.5, REQUEST)
    journal.retire_old()
    assert archive(tmp_path) == 0
    journal.shadow(ticket, "timeout")
    assert archive(tmp_path) == 1
    assert read_decisions(tmp_path)["v2_status"].to_pylist() == ["timeout"]


def test_a_killed_writer_loses_nothing_that_it_wrote(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from search.serving.journal import Journal\n"
        f"j = Journal(Path({str(tmp_path)!r}))\n"
        f"ts = [j.answer(1e9 + i, f'r{{i}}', [0], 0.5, {REQUEST!r}) for i in range(50)]\n"
        "[j.shadow(t, 'scored', [1.0], 1.0) for t in ts[:30]]\n"
        'os.write(ts[0].volume.handle, b\'{"n": 99, "at": 1\'); os.kill(os.getpid(), 9)\n'
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert archive(tmp_path) == 1
    table = read_decisions(tmp_path)
    assert len(table) == 50
    assert Counter(table["v2_status"].to_pylist()) == {"scored": 30, "lost": 20}


def test_a_full_disk_is_counted_and_fails_no_answer(tmp_path):
    journal = Journal(tmp_path)
    write(journal, 1)
    os.dup2(os.open("/dev/full", os.O_WRONLY), journal._volume.handle)
    assert journal.answer(1e9, "r", [0], 0.5, REQUEST) is None
    journal.shadow(None, "scored")
    assert journal.errors == 1


def test_no_log_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no decision yet"):
        read_decisions(tmp_path)


def dispatched(tmp_path, score, *, count=40, limit=1_000, timeout=0.2, seconds=5.0):
    """What became of `count` requests; and how long each `offer` took."""
    journal = Journal(tmp_path)

    async def go():
        shadow = Dispatcher(score, journal, limit=limit, timeout=timeout)
        runner = asyncio.create_task(shadow.run())
        loop, took = asyncio.get_running_loop(), []
        for i in range(count):
            ticket = journal.answer(1e9 + i, f"r{i}", [0], 0.5, REQUEST)
            began = loop.time()
            shadow.offer(ticket, REQUEST)
            took.append(loop.time() - began)
        end = loop.time() + seconds
        while shadow.counts.total() < count and loop.time() < end:
            await asyncio.sleep(0.02)
        runner.cancel()
        return dict(shadow.counts), took

    counts, took = asyncio.run(go())
    assert len(read_decisions(tmp_path)) == count
    assert sorted(took)[count // 2] < 0.05  # not the longest: this process may have had to wait for a processor
    return counts


def test_the_dispatcher_scores_in_batches(tmp_path):
    sizes = []

    async def score(requests):
        sizes.append(len(requests))
        return [[1.0] for _ in requests]

    assert dispatched(tmp_path, score) == {"scored": 40}
    assert max(sizes) > 1


def test_v2_slow_failing_absent_or_not_finite_each_has_its_status(tmp_path):
    async def slow(requests):
        await asyncio.sleep(30)
        return []

    async def failing(requests):
        raise RuntimeError("no")

    async def not_finite(requests):
        return [None for _ in requests]

    assert set(dispatched(tmp_path / "slow", slow)) == {"timeout", "unavailable"}
    assert set(dispatched(tmp_path / "failing", failing)) == {"failed", "unavailable"}
    assert dispatched(tmp_path / "absent", None) == {"absent": 40}
    assert dispatched(tmp_path / "nan", not_finite) == {"failed": 40}


def test_a_full_queue_sheds(tmp_path):
    async def score(requests):
        return [[1.0] for _ in requests]

    counts = dispatched(tmp_path, score, limit=10)
    assert counts == {"shed": 30, "scored": 10}


def test_psi_is_small_without_drift_and_large_with_it():
    generator = np.random.default_rng(0)
    reference, same, moved = generator.normal(size=3_000), generator.normal(size=3_000), generator.normal(1, 1, 3_000)
    assert psi(reference, same) < 0.02
    assert psi(reference, moved) > 0.5
    assert psi(np.zeros(50), np.zeros(50)) == pytest.approx(0.0)
    found = drift({"a": reference, "b": reference}, {"a": same, "b": moved, "c": same})
    assert found["name"].tolist() == ["b", "a"]
    assert found["ks"][0] > 0.3
