"""Intervals of a recipe from the values per query of its trainings: what is paired, grouped and read as the worst."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_models.baselines import Baseline
from fusion_models.metrics import Interval, seed_interval
from search.analysis.measure import difference, largest, paired, quantities, smallest
from search.analysis.replicates import _objectives, p_on_front
from search.pipeline.baselines import strongest_tuned_v1
from search.pipeline.confirmation.short_list import Candidate
from search.pipeline.confirmation.verdict import gather_evidence
from search.pipeline.context import Run
from search.run_store.artifacts import QUERIES
from search.run_store.folder import RunFolder
from search.run_store.job import TrialRecord
from spaces import PHASES

limits = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.3), st.floats(0, 0.3)), min_size=1, max_size=4)


@given(limits, st.floats(0, 1))
def test_the_largest_lies_where_all_lie_and_is_above_where_one_is(drawn, threshold):
    each = [Interval(mean, mean - below, mean + above) for mean, below, above in drawn]
    high, low = largest(each), smallest(each)
    assert (high.high <= threshold) == all(i.high <= threshold for i in each)
    assert (high.low > threshold) == any(i.low > threshold for i in each)
    assert (low.low >= threshold) == all(i.low >= threshold for i in each)
    assert (low.high < threshold) == any(i.high < threshold for i in each)
    assert high.low <= high.mean <= high.high
    assert low.low <= low.mean <= low.high


def training(seed, queries=40):
    random = np.random.default_rng(seed)
    ndcg = random.uniform(0.2, 1.0, queries)
    ndcg[3] = np.nan  # no relevant item
    scores, v1 = random.normal(size=(2, queries, 8))
    scores += v1
    x, y = scores - scores.mean(1, keepdims=True), v1 - v1.mean(1, keepdims=True)
    return {
        "rows": np.arange(queries),
        "documents": np.full(queries, 8.0),
        "ndcg": ndcg,
        "v1_ndcg": ndcg - random.normal(0.05, 0.1, queries),
        "masked.visual.zero": ndcg - random.normal(0.1, 0.1, queries),
        "shares": random.dirichlet([3, 2, 2], (queries, 2)),
        "moments": np.stack([(x * y).sum(1), (x * x).sum(1), (y * y).sum(1)], axis=1),
    }


def test_trainings_are_paired_by_their_seed_whichever_failed():
    runs, others = {1: training(1), 2: training(2), 0: training(0)}, {2: training(12), 1: training(11), 5: training(15)}
    left, right = paired(runs, others)
    assert [id(r) for r in left] == [id(runs[1]), id(runs[2])]
    assert [id(r) for r in right] == [id(others[1]), id(others[2])]
    known = np.isfinite(runs[1]["ndcg"])
    expected = seed_interval(np.stack([runs[s]["ndcg"][known] - others[s]["ndcg"][known] for s in (1, 2)]))
    found = difference(left, right)
    assert (found.mean, found.low, found.high) == pytest.approx((expected.mean, expected.low, expected.high))
    with pytest.raises(ValueError, match="3 trainings cannot be paired with 2"):
        difference(list(runs.values()), right)


def test_every_interval_is_over_groups_of_queries():
    runs, groups = [training(0), training(1)], np.repeat(np.arange(10), 4)
    plain = quantities(runs, ("visual", "text", "metadata"))
    grouped = quantities(runs, ("visual", "text", "metadata"), clusters=groups)
    assert plain.keys() == grouped.keys()
    for name, interval in grouped.items():
        assert interval.mean == plain[name].mean
        assert interval.variance.query_df == pytest.approx(9, abs=0.2), name


def test_a_ranker_that_orders_nothing_has_no_correlation_and_no_gate_passed():
    runs = [training(s) | {"moments": training(s)["moments"] * [0, 0, 1]} for s in (0, 1)]
    assert "v1_correlation" not in quantities(runs, ("visual", "text", "metadata"))


def test_the_tuned_v1_is_chosen_on_validation_and_not_where_it_is_read():
    names = ["V1", "tuned V1 (weighted sum with text and metadata alone)", "tuned V1 (LambdaMART on V1's own features)"]
    read = [Baseline(name=n, ndcg=np.array([v])) for n, v in zip(names, (0.9, 0.5, 0.7), strict=True)]
    validation = pd.DataFrame({"name": names, "ndcg": [0.9, 0.6, 0.55]})
    assert strongest_tuned_v1(read, validation).name == names[1]
    assert strongest_tuned_v1(read[2:], validation).name == names[2]


def record(trial_id, numbers):
    return TrialRecord(
        trial_id=trial_id,
        stage="search",
        name="",
        state="finished",
        state_reason="",
        epochs=1,
        seed=0,
        recipe={},
        numbers=numbers,
    )


def test_the_objectives_of_a_replicate_are_those_of_the_repeated_queries():
    run, drawn = training(0), np.random.default_rng(1).integers(0, 40, 60)
    drawn = drawn[np.isfinite(run["ndcg"][drawn])]
    found = _objectives(run, np.bincount(drawn, minlength=40)[None].astype(float))
    again = {name: values[drawn] for name, values in run.items()}
    shares = again["shares"].mean(axis=(0, 1))  # every query has as many documents
    ab, aa, bb = again["moments"].sum(0)
    assert found["ndcg_gain"][0] == pytest.approx((again["ndcg"] - again["v1_ndcg"]).mean())
    assert found["visual_masking_drop"][0] == pytest.approx(
        1 - again["masked.visual.zero"].mean() / again["ndcg"].mean()
    )
    assert found["attention_max_share"][0] == pytest.approx(shares.max())
    assert found["v1_correlation"][0] == pytest.approx(ab / np.sqrt(aa * bb))


def test_a_place_on_the_front_is_surer_where_queries_are_many_and_alone(tmp_path):
    folder, better, worse = RunFolder(tmp_path), training(0), training(0)
    worse = worse | {"ndcg": worse["ndcg"] - 0.02 + np.random.default_rng(5).normal(0, 0.1, 40)}
    worse["masked.visual.zero"] = worse["ndcg"] * (better["masked.visual.zero"] / better["ndcg"]) + 1e-3
    for name, run in (("t0", better), ("t1", worse), ("t2", better)):
        (folder.checkpoints / name).mkdir(parents=True)
        np.savez(folder.checkpoints / name / QUERIES, **run)
    records = [record(t, {"ndcg_gain": 0.0}) for t in ("t0", "t1", "t2")]
    alone = p_on_front(folder, PHASES["phase3"], records, seed=0)
    assert alone["t0"] == alone["t2"] > 0.5
    assert 0.0 < alone["t1"] < 0.5
    grouped = p_on_front(folder, PHASES["phase3"], records, groups=np.repeat([0, 1], 20), seed=0)
    assert grouped != alone
    assert p_on_front(folder, PHASES["phase3"], records, groups=np.arange(40), seed=0) == alone


def test_evidence_pairs_each_modality_with_the_refit_that_leaves_it_out():
    """Known worths: without the image 0.05 less, without text 0.10, without metadata 0.02; of the base's image 0.01."""
    phase = PHASES["phase3"]
    trained = {seed: training(seed) for seed in (10_000, 10_001, 10_002)}

    def less(worth, seeds=tuple(trained)):
        return {s: trained[s] | {"ndcg": trained[s]["ndcg"] - worth} for s in seeds}

    refits = {
        "refit text+metadata": less(0.05),
        "refit visual+metadata": less(0.10),
        "refit visual+text": less(0.02, (10_000, 10_002)),
        "refit visual": less(0.3),
        "base": less(0.2),
        "base text+metadata": less(0.21),
    }
    ids = tuple(f"s{seed}" for seed in trained)
    finalist = Candidate(trial_id="t1", recipe=phase.base.flat(), trainings=ids, seeds=tuple(trained), failed=1)
    data = SimpleNamespace(schema=SimpleNamespace(thumbnail=None))
    run = Run(None, None, phase, data, None, None)
    tuned = Baseline(name="tuned V1", ndcg=np.mean([r["ndcg"] for r in trained.values()], axis=0) - 0.03)
    found = gather_evidence(run, finalist, trained, refits, tuned, None)
    worths = {m: round(gain.mean, 9) for m, gain in found.refit_gain.items()}
    assert worths == {"visual": 0.05, "text": 0.10, "metadata": 0.02}
    assert found.base_refit_gain.mean == pytest.approx(0.01)
    assert found.over_tuned_v1.mean == pytest.approx(0.03)
    assert found.queries == 39
    assert found.trainings == (17, 19)  # a refit of metadata is missing, and one seed of the finalist itself
    alone = gather_evidence(run, finalist, trained, refits | {"refit visual+text": less(0.02, (10_000,))}, tuned, None)
    assert set(alone.refit_gain) == {"visual", "text"}
