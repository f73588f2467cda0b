"""The deployment as a client sees it: answers, refusals, faults of V2, a killed replica, the log, the monitor."""

import json
import math
import signal
import threading

import httpx
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import wait_for

from search.artifacts import load_ranker
from search.serving.journal import archive, read_decisions
from search.shadow import main

pytestmark = pytest.mark.timeout(500)


def logged(deployment, name):
    """The logged decisions under a request id."""
    return [row for row in read_decisions(deployment.log).to_pylist() if row["request_id"] == name]


def outcome(deployment, name):
    """The one logged decision under a request id, once V2's outcome is known."""

    def known():
        rows = logged(deployment, name)
        return rows if rows and rows[0]["v2_status"] != "lost" else None

    (row,) = wait_for(known, f"the outcome of {name}")
    return row


def test_v1_s_order_comes_back_and_v2_is_scored_behind_it(deployment, request_of, small_data, checkpoint):
    wait_for(lambda: deployment.scored(request_of(0)), "V2 to score")
    row = int(small_data.rows("test")[0])
    request = request_of(row, request_id="first", unit="user-1")
    answer = deployment.rank(request)
    assert answer.status_code == 200, answer.text
    scores = [c["v1_score"] for c in request["candidates"]]
    expected = [request["candidates"][i]["item"] for i in np.argsort(-np.array(scores), kind="stable")]
    assert answer.json() == {"request_id": "first", "ranker": "v1", "order": expected}
    found = outcome(deployment, "first")
    assert found["v2_status"] == "scored"
    assert (found["unit"], found["v1_scores"]) == ("user-1", scores)
    with torch.no_grad():
        truth = load_ranker(checkpoint, small_data)(small_data.gather([row])).scores[0]
    assert found["v2_scores"] == pytest.approx(truth.tolist(), abs=1e-5)


def test_a_new_item_with_its_features_scores_as_the_known_one(deployment, request_of, small_data):
    request = request_of(1, request_id="new-item")
    first = request["candidates"][0]
    item = int(np.flatnonzero(small_data.item_ids == first["item"])[0])
    features = {m: x[item].astype(float).tolist() for m, x in small_data.item_features.items()}
    request["candidates"].append({"item": "never seen", "v1_score": first["v1_score"], "features": features})
    if small_data.schema.pair:
        request["candidates"][-1]["pair"] = small_data.pair_features[small_data.offset[1]].astype(float).tolist()
    wait_for(lambda: deployment.scored(request_of(0)), "V2 to score")
    answer = deployment.rank(request)
    assert answer.status_code == 200, answer.text
    scores = outcome(deployment, "new-item")["v2_scores"]
    assert scores[-1] == pytest.approx(scores[0], abs=1e-5)


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        (lambda r: r["candidates"][2].update(item="nobody"), "candidates.2.item", "unknown item 'nobody'"),
        (lambda r: r["candidates"][1].update(v1_score="high"), "candidates.1.v1_score", "valid number"),
        (lambda r: r["candidates"][1].update(v1_score=True), "candidates.1.v1_score", "valid number"),
        (lambda r: r["candidates"][1].update(v1_score=1e300), "candidates.1.v1_score", "less than"),
        (lambda r: r["candidates"].append(r["candidates"][0]), "candidates.0.item", "stands 2 times"),
        (lambda r: r.update(candidates=[]), "candidates", "at least 1"),
        (lambda r: r.update(query={"id": "nobody"}), "query.id", "unknown query"),
        (lambda r: r.update(typo=1), "typo", "not permitted"),
        (
            lambda r: r["candidates"][0].update(features={"visual": [1.0], "text": [], "metadata": []}),
            "candidates.0.features.visual",
            "numbers, got 1",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(deployment, request_of, change, where, what):
    request = json.loads(json.dumps(request_of(2)))
    change(request)
    answer = deployment.rank(request)
    assert answer.status_code == 422
    problems = {p["where"]: p["what"] for p in answer.json()["problems"]}
    assert what in problems[where]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"candidates": NaN}', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_request_is_refused(deployment, body):
    assert deployment.client.post(f"{deployment.url}/rank", content=body).status_code == 422


def test_not_a_number_in_a_body_is_refused(deployment, request_of):
    request = request_of(2)
    request["candidates"][0]["v1_score"] = math.nan
    answer = deployment.client.post(f"{deployment.url}/rank", content=json.dumps(request).encode())
    assert answer.status_code == 422


def test_a_body_beyond_the_limit_is_refused(deployment):
    answer = deployment.client.post(f"{deployment.url}/rank", content=b" " * (5 * 1024 * 1024))
    assert answer.status_code == 413
    assert "larger than" in answer.json()["error"]


def test_it_listens_on_loopback_alone(deployment):
    port = int(deployment.url.rsplit(":", 1)[1])
    addresses = {
        c.laddr.ip
        for child in psutil.Process(deployment.process.pid).children(recursive=True)
        for c in child.net_connections(kind="tcp")
        if c.status == psutil.CONN_LISTEN and c.laddr.port == port
    }
    assert addresses == {"127.0.0.1"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_request_breaks_it(deployment, request_of, data):
    """Anything in any place of a valid request: an answer or a 4xx, never a 5xx, never a hang."""
    request = json.loads(json.dumps(request_of(data.draw(st.integers(0, 20)))))
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.sampled_from(["root", "query", "candidate"]))
        holder = {"root": request, "query": request.get("query")}.get(place)
        if place == "candidate" and isinstance(request.get("candidates"), list) and request["candidates"]:
            holder = data.draw(st.sampled_from(request["candidates"]))
        if isinstance(holder, dict):
            known = ["request_id", "unit", "query", "candidates", "id", "features", "item", "v1_score", "pair"]
            holder[data.draw(st.sampled_from(known) | st.text(max_size=5))] = data.draw(JSON)
    body = json.dumps(request).encode()
    if data.draw(st.integers(0, 9)) == 0:
        body = body[: data.draw(st.integers(0, len(body)))]
    answer = deployment.client.post(f"{deployment.url}/rank", content=body, timeout=60.0)
    assert answer.status_code in (200, 422), answer.text
    if answer.status_code == 422:
        assert answer.json()["problems"]


def test_it_publishes_what_it_takes(deployment):
    said = deployment.client.get(f"{deployment.url}/openapi.json").json()
    described = said["paths"]["/rank"]["post"]
    assert "candidates" in json.dumps(described["requestBody"])
    assert {"200", "413", "422", "503"} <= set(described["responses"])


def test_v2_that_hangs_and_v2_that_dies_change_no_answer(deployment, request_of):
    wait_for(lambda: deployment.scored(request_of(0)), "V2 to score")
    expected = deployment.rank(request_of(3)).json()["order"]
    v2 = wait_for(lambda: deployment.replica("v2"), "V2's process")
    v2.send_signal(signal.SIGSTOP)
    try:
        for i in range(8):
            answer = deployment.rank(request_of(3, request_id=f"hung-{i}"))
            assert (answer.status_code, answer.json()["order"]) == (200, expected)
        assert outcome(deployment, "hung-0")["v2_status"] in ("timeout", "unavailable")
    finally:
        v2.send_signal(signal.SIGKILL)
    for i in range(8):
        answer = deployment.rank(request_of(3, request_id=f"dead-{i}"))
        assert (answer.status_code, answer.json()["order"]) == (200, expected)
    assert outcome(deployment, "dead-0")["v2_status"] != "scored"
    wait_for(lambda: deployment.scored(request_of(0)), "V2 to come back")


def test_a_killed_replica_comes_back_and_no_answered_decision_is_lost(deployment, request_of):
    wait_for(lambda: deployment.scored(request_of(0)), "V2 to score")
    answered, stop = [], threading.Event()

    def ask():
        with httpx.Client(timeout=60.0) as client:
            number = 0
            while not stop.is_set():
                number += 1
                name = f"kill-{number}"
                try:
                    answer = client.post(f"{deployment.url}/rank", json=request_of(number % 20, request_id=name))
                except httpx.TransportError:
                    continue
                if answer.status_code == 200:
                    answered.append(name)

    client = threading.Thread(target=ask)
    client.start()
    try:
        wait_for(lambda: len(answered) > 30, "answers before the kill")
        before = deployment.status()["pid"]
        psutil.Process(before).kill()
        count = len(answered)
        wait_for(lambda: len(answered) > count + 30, "answers after the kill")
    finally:
        stop.set()
        client.join()
    assert wait_for(deployment.status, "the new replica")["pid"] != before
    rows = read_decisions(deployment.log).to_pylist()
    known = [row["request_id"] for row in rows if row["request_id"].startswith("kill-")]
    assert set(answered) <= set(known)
    assert len(known) == len(set(known))


def test_the_log_becomes_parquet_and_is_monitored_and_replayed(deployment, request_of, tmp_path, capsys):
    for i in range(40):
        unit = f"user-{i % 7}"
        assert deployment.rank(request_of(i, request_id=f"log-{i}", unit=unit)).status_code == 200
    wait_for(lambda: outcome(deployment, "log-39"), "the last outcome")

    def in_parquet():
        tables = [pq.read_table(path) for path in deployment.log.glob("*.parquet") if path.name[0].isdigit()]
        return {name for table in tables for name in table["request_id"].to_pylist()} >= {f"log-{i}" for i in range(40)}

    wait_for(in_parquet, "the archive to write Parquet")
    assert main(["monitor", str(deployment.log)]) == 0
    report = json.loads((deployment.log / "monitor.json").read_text())
    assert report["decisions"] == len(read_decisions(deployment.log))
    assert -1 <= report["agreement"]["kendall_median"] <= 1
    assert report["latency"]["answer_ms"]["p99"] >= report["latency"]["answer_ms"]["p50"] > 0
    assert {row["name"] for row in report["drift"]["scores"]} == {"v1_score", "v2_score"}
    assert report["experiment"]["baseline_sd"] > 0
    out = tmp_path / "again"
    assert main(["replay", str(deployment.log), "--out", str(out)]) == 0
    capsys.readouterr()
    live = {r["request_id"]: r for r in read_decisions(deployment.log).to_pylist() if r["v2_status"] == "scored"}
    again = {r["request_id"]: r for r in read_decisions(out).to_pylist()}
    for name, row in live.items():
        assert again[name]["v2_scores"] == pytest.approx(row["v2_scores"], abs=1e-4)
    assert main(["replay", str(deployment.log), "--out", str(out)]) == 2
    assert "holds a log already" in capsys.readouterr().err


def test_flooded_it_sheds_v2_and_still_answers_or_says_503(deployment, request_of):
    before = deployment.status()["v2"]
    body = json.dumps(request_of(5)).encode()
    codes = []

    def ask():
        with httpx.Client(timeout=60.0) as client:
            codes.extend(client.post(f"{deployment.url}/rank", content=body).status_code for _ in range(25))

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(codes) == 1_000
    assert set(codes) <= {200, 503}
    after = wait_for(deployment.status, "the replica")
    shed = after["v2"].get("shed", 0) - before.get("shed", 0)
    # whatever V1 had to refuse, V2 was shed before
    assert codes.count(503) == 0 or shed > 0


def test_mistakes_on_the_command_line_are_explained(tmp_path, capsys):
    assert main(["monitor", str(tmp_path / "none")]) == 2
    assert "is no log" in capsys.readouterr().err
    assert main(["serve", str(tmp_path)]) == 2
    assert "no finalist" in capsys.readouterr().err
    assert archive(tmp_path) == 0
