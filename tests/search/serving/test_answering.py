"""Requests and replies, anything at all as a body, V2's scores, monitor and replay."""

import asyncio
import json
import math
import re
import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from fusion_models.config import Recipe
from fusion_models.evaluation import score
from fusion_models.models import build_ranker
from fusion_models.tuned_v1 import equip
from search.run_store.artifacts import RECIPE, WEIGHTS, load_ranker, write_ensemble
from search.serving.answering import Answering
from search.serving.dispatcher import Dispatcher
from search.serving.journal import Journal, archive, read_decisions
from search.serving.reference import training_reference, write_reference
from search.serving.request import Catalogue
from search.serving.scoring import score_requests
from search.shadow import main


@pytest.fixture(scope="module")
def catalogue(small_data):
    return Catalogue(small_data)


@pytest.fixture
def answering(catalogue, tmp_path):
    """A replica's inside, without V2."""
    journal = Journal(tmp_path / "log")
    return Answering(catalogue, journal, Dispatcher(None, journal))


def body(request):
    return json.dumps(request).encode()


def test_v1_s_order_comes_back(answering, request_of):
    request = request_of(3, request_id="first", unit="user-1")
    reply = answering.answer(body(request))
    scores = [c["v1_score"] for c in request["candidates"]]
    expected = [request["candidates"][i]["item"] for i in np.argsort(-np.array(scores), kind="stable")]
    assert reply == (200, {"request_id": "first", "ranker": "v1", "order": expected})
    (row,) = read_decisions(answering.journal.folder).to_pylist()
    assert (row["request_id"], row["unit"], row["v1_scores"], row["v2_status"]) == ("first", "user-1", scores, "absent")
    assert [row["items"][i] for i in row["v1_order"]] == expected


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        (lambda r: r["candidates"][2].update(item="nobody"), "candidates.2.item", "unknown item 'nobody'"),
        (lambda r: r["candidates"][1].update(v1_score="high"), "candidates.1.v1_score", "valid number"),
        (lambda r: r["candidates"][1].update(v1_score=True), "candidates.1.v1_score", "valid number"),
        (lambda r: r["candidates"][1].update(v1_score=1e300), "candidates.1.v1_score", "less than"),
        (lambda r: r["candidates"][1].update(v1_score=math.nan), "candidates.1.v1_score", "finite"),
        (lambda r: r["candidates"].append(r["candidates"][0]), "candidates.0.item", "stands 2 times"),
        (lambda r: r.update(candidates=[]), "candidates", "at least 1"),
        (lambda r: r.update(candidates=r["candidates"] * 100), "candidates", "at most 500"),
        (lambda r: r["candidates"][1].update(v1_score=2**60 + 1), "candidates.1.v1_score", "more digits than float64"),
        (lambda r: r.update(query={"features": [1.0]}), "query.features", "has none"),
        (lambda r: r.update(typo=1), "typo", "not permitted"),
        (
            lambda r: r["candidates"][0].update(features={"visual": [1.0], "text": [], "metadata": []}),
            "candidates.0.features.visual",
            "numbers, got 1",
        ),
        (lambda r: r["candidates"][0].update(pair=[1.0]), "candidates.0.pair", "has none"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(answering, request_of, change, where, what):
    request = request_of(2)
    change(request)
    reply = answering.answer(body(request))
    assert reply.code == 422
    assert what in {p["where"]: p["what"] for p in reply.content["problems"]}[where]


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'{"candidates": NaN}', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_request_is_refused(answering, raw):
    assert answering.answer(raw).code == 422


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KNOWN = ("request_id", "unit", "query", "candidates", "id", "features", "item", "v1_score", "pair")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_request_breaks_it(answering, request_of, data):
    """Anything in any place of a valid request: an order or a refusal that JSON can say, never an exception."""
    request = request_of(data.draw(st.integers(0, 20)))
    for _ in range(data.draw(st.integers(0, 3))):
        holders = [request, request.get("query")]
        if isinstance(request.get("candidates"), list):
            holders += request["candidates"]
        holder = data.draw(st.sampled_from(holders))
        if isinstance(holder, dict):
            holder[data.draw(st.sampled_from(KNOWN) | st.text(max_size=5))] = data.draw(JSON)
    raw = body(request)
    if data.draw(st.integers(0, 9)) == 0:
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    reply = answering.answer(raw)
    assert reply.code in (200, 422)
    assert reply.code == 200 or reply.content["problems"]
    json.dumps(reply.content, allow_nan=False).encode()


def test_v2_scores_requests_as_the_dataset_s_own_batches(catalogue, small_data, checkpoint, request_of):
    model = load_ranker(checkpoint, small_data)
    rows = [5, 0, 17]
    found = score_requests(model, catalogue, [catalogue.parse(body(request_of(row))) for row in rows])
    for row, scores in zip(rows, found, strict=True):
        with torch.no_grad():
            truth = model(small_data.gather([row])).scores[0].tolist()
        assert scores == pytest.approx(truth, abs=1e-5)


def test_an_ensemble_with_a_tuned_v1_scores_requests_as_its_measurements(
    catalogue, small_data, checkpoint, request_of, tmp_path
):
    """Its trees score new lists, each list is standardised by itself, and requests of other lengths change nothing."""
    recipe = Recipe.from_flat(json.loads((checkpoint / RECIPE).read_text())["recipe"] | {"model.context": "tuned_v1"})
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = build_ranker(recipe, small_data.schema, small_data.statistics)
        equip(model, small_data)
        (tmp_path / f"s{seed}").mkdir()
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / f"s{seed}" / WEIGHTS)
        (tmp_path / f"s{seed}" / RECIPE).write_text(json.dumps({"recipe": recipe.flat(), "seed": seed}))
    write_ensemble(tmp_path / "both", [tmp_path / "s0", tmp_path / "s1"])
    model = load_ranker(tmp_path / "both", small_data)
    rows = small_data.rows("test")[:3]
    asked = [request_of(row) for row in rows]
    asked[1]["candidates"] = asked[1]["candidates"][:3]
    found = score_requests(model, catalogue, [catalogue.parse(body(request)) for request in asked])
    measured = score(model, small_data, "test")
    for index in (0, 2):
        truth = measured.scores[np.searchsorted(measured.rows, rows[index])].tolist()
        assert found[index] == pytest.approx(truth[: len(found[index])], abs=1e-5)
    assert len(found[1]) == 3
    assert np.mean(found[1]) == pytest.approx(0.0, abs=1e-5)
    reference = training_reference(small_data, model)
    assert np.isfinite(reference["v2_score"]).all()


def test_weights_of_another_dataset_or_version_are_an_error_that_says_so(checkpoint, small_data, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "other")
    weights = load_file(checkpoint / WEIGHTS)
    name = next(name for name, tensor in weights.items() if tensor.dim() == 2)
    save_file(weights | {name: weights[name][:, :-1].contiguous()}, tmp_path / "other" / WEIGHTS)
    with pytest.raises(ValueError, match=rf"does not fit {re.escape(small_data.source)}.*{name}.*train it again"):
        load_ranker(tmp_path / "other", small_data)


def test_a_new_item_with_its_features_scores_as_the_known_one(catalogue, small_data, checkpoint, request_of):
    request = request_of(1)
    first = request["candidates"][0]
    item = int(np.flatnonzero(small_data.item_ids == first["item"])[0])
    features = {m: x[item].astype(float).tolist() for m, x in small_data.item_features.items()}
    request["candidates"].append({"item": "never seen", "v1_score": first["v1_score"], "features": features})
    (scores,) = score_requests(load_ranker(checkpoint, small_data), catalogue, [catalogue.parse(body(request))])
    assert scores[-1] == pytest.approx(scores[0], abs=1e-5)


def test_a_log_is_monitored_and_replayed(catalogue, small_data, checkpoint, request_of, tmp_path, capsys):
    log, model = tmp_path / "log", load_ranker(checkpoint, small_data)
    write_reference(log, small_data, checkpoint, training_reference(small_data, model))
    journal = Journal(log)

    async def score(requests):
        return score_requests(model, catalogue, [catalogue.parse(r) for r in requests])

    async def serve():
        shadow = Dispatcher(score, journal, timeout=120.0)
        runner = asyncio.create_task(shadow.run())
        replica = Answering(catalogue, journal, shadow)
        for i in range(40):
            assert replica.answer(body(request_of(i, request_id=f"r{i}", unit=f"user-{i % 7}"))).code == 200
        while shadow.counts.total() < 40:
            await asyncio.sleep(0.02)
        runner.cancel()

    asyncio.run(serve())
    journal.close()
    assert archive(log) == 1
    assert main(["monitor", str(log)]) == 0
    report = json.loads((log / "monitor.json").read_text())
    assert report["v2"] == {"scored": 40}
    assert report["experiment"]["units"] == 7
    assert report["experiment"]["baseline_sd"] > 0
    assert report["judged"]["queries"] == 40
    assert -1 <= report["agreement"]["kendall_median"] <= 1
    assert report["latency"]["answer_ms"]["p99"] >= report["latency"]["answer_ms"]["p50"] > 0
    assert {row["name"] for row in report["drift"]["scores"]} == {"v1_score", "v2_score"}
    out = tmp_path / "again"
    assert main(["replay", str(log), "--out", str(out)]) == 0
    live, again = (
        {r["request_id"]: r["v2_scores"] for r in read_decisions(folder).to_pylist()} for folder in (log, out)
    )
    for name, scores in live.items():
        assert again[name] == pytest.approx(scores, abs=1e-4)
    capsys.readouterr()
    assert main(["replay", str(log), "--out", str(out)]) == 2
    assert "holds a log already" in capsys.readouterr().err


def test_mistakes_on_the_command_line_are_explained(tmp_path, capsys):
    assert main(["monitor", str(tmp_path / "none")]) == 2
    assert "is no log" in capsys.readouterr().err
    assert main(["serve", str(tmp_path)]) == 2
    assert "no finalist" in capsys.readouterr().err
