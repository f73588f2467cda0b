"""The deployment as a client sees it: answers, refusals, faults of V2, a flood, a killed replica, the log, its end.

One deployment, started as a user starts it, for all tests here; the last one ends it.
"""

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import PATIENCE, QUEUE, wait_for

from search.run_store.artifacts import load_ranker
from search.serving.behind import behind_everybody
from search.serving.dispatcher import CALLS_AT_ONCE, MOST_AT_ONCE
from search.shadow import main

pytestmark = pytest.mark.timeout(1200)


def v1_order(request):
    """What must come back: best first, ties as they came."""
    scores = np.array([c["v1_score"] for c in request["candidates"]])
    return [request["candidates"][i]["item"] for i in np.argsort(-scores, kind="stable")]


def answered(deployment, request):
    """Ask, and hold the answer to V1's order."""
    answer = deployment.rank(request)
    assert answer.status_code == 200, answer.text
    assert answer.json()["order"] == v1_order(request)
    assert answer.json()["ranker"] == "v1"


def connections(process):
    """Of a process, which may have ended since it was found."""
    with contextlib.suppress(psutil.Error):
        return process.net_connections(kind="tcp")
    return []


def lives(process):
    """Whether a process is there and no zombie."""
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != "zombie"
    return False


def test_v1_s_order_comes_back_and_v2_is_scored_behind_it(deployment, request_of, small_data, checkpoint):
    deployment.v2_scores(request_of(0))
    row = int(small_data.rows("test")[0])
    request = request_of(row, request_id="first", unit="user-1")
    answered(deployment, request)
    found = deployment.outcome("first")
    assert (found["v2_status"], found["unit"]) == ("scored", "user-1")
    assert found["v1_scores"] == [c["v1_score"] for c in request["candidates"]]
    with torch.no_grad():
        truth = load_ranker(checkpoint, small_data)(small_data.gather([row])).scores[0]
    assert found["v2_scores"] == pytest.approx(truth.tolist(), abs=1e-5)


def test_it_listens_on_loopback_alone(deployment):
    port = int(deployment.url.rsplit(":", 1)[1])
    addresses = {
        c.laddr.ip
        for child in psutil.Process(deployment.process.pid).children(recursive=True)
        for c in connections(child)
        if c.status == psutil.CONN_LISTEN and c.laddr.port == port
    }
    assert addresses == {"127.0.0.1"}


def test_v2_and_the_archive_stand_behind_v1_for_the_processor(deployment):
    granted = behind_everybody()["py_executable"]
    mine = os.nice(0)  # what it was started with
    last = (os.SCHED_IDLE, mine) if granted.startswith("chrt") else (os.SCHED_OTHER, 19)
    replicas = {n: wait_for(lambda n=n: deployment.replica(n), f"{n}'s process") for n in ("v1", "v2", "archive")}
    found = {name: (os.sched_getscheduler(process.pid), process.nice()) for name, process in replicas.items()}
    assert found == {"v1": (os.SCHED_OTHER, mine), "v2": last, "archive": last}


def test_it_publishes_what_it_takes(deployment):
    said = deployment.client.get(f"{deployment.url}/openapi.json").json()
    described = said["paths"]["/rank"]["post"]
    assert "candidates" in json.dumps(described["requestBody"])
    assert {"200", "413", "422", "503"} <= set(described["responses"])


def test_a_body_beyond_the_limit_is_refused(deployment):
    answer = deployment.client.post(f"{deployment.url}/rank", content=b" " * (5 * 1024 * 1024))
    assert answer.status_code == 413
    assert "larger than" in answer.json()["error"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KNOWN = ("request_id", "unit", "query", "candidates", "id", "features", "item", "v1_score", "pair")
ODD_NUMBERS = st.sampled_from(["NaN", "-Infinity", "1e999", "-0", "1" * 400, "0x1", "1_0", '"\\ud800"'])
HEADERS = st.dictionaries(
    st.sampled_from(["Content-Type", "Accept", "Content-Encoding", "X-Request-Id", "Expect", "Origin", "Range"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20),
    max_size=3,
)


@st.composite
def bodies(draw, request_of):
    """A valid request with anything in any place, or torn, or no JSON at all."""
    request = json.loads(json.dumps(request_of(draw(st.integers(0, 20)))))
    for _ in range(draw(st.integers(0, 3))):
        holders = [request, request.get("query")]
        if isinstance(request.get("candidates"), list):
            holders += request["candidates"]
        holder = draw(st.sampled_from(holders))
        if isinstance(holder, dict):
            holder[draw(st.sampled_from(KNOWN) | st.text(max_size=5))] = draw(JSON)
    raw = json.dumps(request)
    kind = draw(st.integers(0, 9))
    if kind == 0:
        raw = raw[: draw(st.integers(0, len(raw)))]
    if kind == 1:
        raw = raw.replace('"v1_score": ', f'"v1_score": {draw(ODD_NUMBERS)}, "more": ', 1)
    return draw(st.binary(max_size=200)) if kind == 2 else raw.encode()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_body_breaks_it(deployment, request_of, data):
    """An order or a refusal that names what is wrong; never a 5xx, never a hang."""
    chunks, body = data.draw(st.booleans()), data.draw(bodies(request_of))
    answer = deployment.client.post(
        f"{deployment.url}/rank", content=iter([body[:7], body[7:]]) if chunks else body, headers=data.draw(HEADERS)
    )
    assert answer.status_code in (200, 422), answer.text
    if answer.status_code == 422:
        assert answer.json()["error"] == "the request cannot be ranked"
        assert all(p["where"] and p["what"] for p in answer.json()["problems"])


PATHS = st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), max_size=8), max_size=3).map("/".join)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(["rank", "status", "rank/", "/rank", "-/routes", "openapi.json"]) | PATHS,
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "BREW"]),
    query=st.text(max_size=8),
    headers=HEADERS,
)
def test_no_path_or_method_breaks_it(deployment, path, method, query, headers):
    url = f"{deployment.url}/{quote(path)}?{quote(query)}"
    answer = deployment.client.request(method, url, headers=headers)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400 and method != "HEAD":
        assert answer.text  # the proxy says in plain text what is no HTTP
        if answer.headers["content-type"] == "application/json":
            assert answer.json()["error"]
            assert answer.json()["problems"]


def test_v2_that_is_slow_delays_and_changes_no_answer_and_overload_sheds_it_first(deployment, request_of):
    """V2 stands still for 5 s and longer, until V1 has answered all: no answer can have waited for it."""
    deployment.v2_scores(request_of(0))
    v2 = wait_for(lambda: deployment.replica("v2"), "V2's process")
    before, names = deployment.status()["v2"].get("shed", 0), []

    def flooded():
        """More at once than V2 has under way and waiting; V1 answers them all."""
        names.extend(f"slow-{len(names) + i}" for i in range(2 * (CALLS_AT_ONCE * MOST_AT_ONCE + QUEUE)))
        requests = [request_of(i % 20, request_id=name) for i, name in enumerate(names)][-80:]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda request: answered(deployment, request), requests))
        return deployment.status()["v2"].get("shed", 0) > before

    began = time.monotonic()
    v2.send_signal(signal.SIGSTOP)
    try:
        wait_for(flooded, "V2 to be shed")
        time.sleep(max(0.0, began + 5.0 - time.monotonic()))
    finally:
        v2.send_signal(signal.SIGCONT)
    wait_for(lambda: deployment.status()["v2_waiting"] == 0, "V2's queue to be empty")
    statuses = Counter(deployment.outcome(name)["v2_status"] for name in names)
    assert statuses["timeout"] > 0
    assert statuses["shed"] > 0
    assert set(statuses) <= {"timeout", "unavailable", "shed", "scored"}


ASKED = {"failed", "timeout"}
"""What becomes of a request for which V2 was asked while it was dead."""


def test_v2_that_dies_again_and_again_changes_no_answer_while_it_is_absent(deployment, request_of):
    """Whatever process Serve starts for V2 is killed at once, until V1 has answered all."""
    wait_for(lambda: deployment.replica("v2"), "V2's process")
    killed, over = set(), threading.Event()

    def keep_killing():
        while not over.is_set():
            v2 = deployment.replica("v2")
            if v2 is not None:
                with contextlib.suppress(psutil.Error):
                    v2.kill()
                    killed.add(v2.pid)
            time.sleep(0.02)

    killer = threading.Thread(target=keep_killing)
    killer.start()
    try:
        wait_for(lambda: killed, "V2 to be killed")
        names, statuses, end = [], set(), time.monotonic() + PATIENCE
        while time.monotonic() < end and (len(killed) < 2 or len(names) < 40 or not statuses & ASKED):
            for _ in range(10):
                names.append(f"dead-{len(names)}")
                answered(deployment, request_of(len(names) % 20, request_id=names[-1]))
            statuses |= {deployment.outcome(name)["v2_status"] for name in names[-10:]}
    finally:
        over.set()
        killer.join()
    assert statuses <= {"failed", "unavailable", "timeout", "shed"}  # shed: while V1 needs the processor
    assert statuses & ASKED
    assert len(killed) >= 2


def test_a_flood_gets_v1_s_order_or_503_and_nothing_hangs(deployment, request_of):
    """The answering process stands still while 300 requests come: what it cannot take hears 503 at once."""
    replica, request = psutil.Process(deployment.status()["pid"]), request_of(5)
    refused, codes = threading.Event(), []

    async def ask(client):
        answer = await client.post(f"{deployment.url}/rank", json=request)
        codes.append(answer.status_code)
        assert answer.status_code != 200 or answer.json()["order"] == v1_order(request)
        if codes.count(503) > 50:
            refused.set()

    async def flood():
        async with httpx.AsyncClient(timeout=120.0, limits=httpx.Limits(max_connections=300)) as client:
            await asyncio.gather(*(ask(client) for _ in range(300)))

    with ThreadPoolExecutor(1) as pool:
        replica.send_signal(signal.SIGSTOP)
        try:
            flooding = pool.submit(asyncio.run, flood())
            assert refused.wait(PATIENCE)
        finally:
            replica.send_signal(signal.SIGCONT)
        flooding.result(PATIENCE)
    assert set(codes) == {200, 503}
    assert codes.count(200) >= 64  # what a replica works on at once


def test_a_killed_replica_comes_back_and_no_answered_decision_is_lost(deployment, request_of):
    known, stop = [], threading.Event()

    def ask():
        with httpx.Client(timeout=120.0) as client:
            number = 0
            while not stop.is_set():
                number += 1
                name = f"kill-{number}"
                try:
                    answer = client.post(f"{deployment.url}/rank", json=request_of(number % 20, request_id=name))
                except httpx.TransportError:
                    continue
                if answer.status_code == 200:
                    known.append(name)

    client = threading.Thread(target=ask)
    client.start()
    try:
        wait_for(lambda: len(known) > 30, "answers before the kill")
        before = deployment.status()["pid"]
        psutil.Process(before).kill()
        count = len(known)
        wait_for(lambda: len(known) > count + 30, "answers after the kill")
    finally:
        stop.set()
        client.join()
    assert wait_for(deployment.status, "the new replica")["pid"] != before
    assert set(known) <= set(deployment.decisions())


def test_the_log_becomes_parquet_and_is_monitored_and_replayed(deployment, request_of, tmp_path, capsys):
    deployment.v2_scores(request_of(0))
    names = {f"log-{i}" for i in range(20)}
    for i, name in enumerate(sorted(names)):
        answered(deployment, request_of(i, request_id=name, unit=f"user-{i % 7}"))

    def in_parquet():
        tables = [pq.read_table(path) for path in deployment.log.glob("[0-9]*.parquet")]
        return names <= {name for table in tables for name in table["request_id"].to_pylist()}

    wait_for(in_parquet, "the archive to write Parquet")
    assert main(["monitor", str(deployment.log)]) == 0
    report = json.loads((deployment.log / "monitor.json").read_text())
    assert report["decisions"] == len(deployment.decisions())
    assert report["v2"]["scored"] > 0
    assert main(["replay", str(deployment.log), "--out", str(tmp_path / "again")]) == 0
    capsys.readouterr()
    again = pq.read_table(tmp_path / "again" / "0-replay.parquet").to_pylist()
    live = deployment.decisions()
    scored = [row for row in again if live[row["request_id"]]["v2_status"] == "scored"]
    assert len(scored) >= 20
    for row in scored:
        assert row["v2_scores"] == pytest.approx(live[row["request_id"]]["v2_scores"], abs=1e-4)


def test_ctrl_c_ends_it_and_leaves_the_log_whole(deployment, request_of):
    answered(deployment, request_of(3, request_id="last"))
    children = psutil.Process(deployment.process.pid).children(recursive=True)
    assert deployment.end() == 0
    assert "the log is whole" in deployment.said.read_text()
    assert not list(deployment.log.glob("*.jsonl"))
    assert deployment.decisions()["last"]["v1_order"]
    wait_for(lambda: not any(lives(child) for child in children), "all to end")
