"""A dataset whose queries have weights, measured by another metric than nDCG@10: both reach whatever is measured."""

import pickle

import numpy as np
import pytest
import torch

from fusion_models.config import Recipe
from fusion_models.contribution import contribution
from fusion_models.data import open_dataset
from fusion_models.data.planted import draw, tables
from fusion_models.data.planted.presets import planted_config
from fusion_models.data.views.cold import without_cold
from fusion_models.data.views.relabelled import relabelled
from fusion_models.data.views.sign_planted import sign_planted
from fusion_models.evaluation import evaluate, score_with, split_lists
from fusion_models.metrics import tune_weighted_sum
from fusion_models.metrics.ranking_metric import NDCG_10, RankingMetric
from fusion_models.probes.power import joined
from fusion_models.probes.scores import ProbePair, stacked
from fusion_models.quantities import quantity
from fusion_models.training import start, train
from fusion_models.training.stack import train_stack
from search.execution.file_transfer import DataTicket
from search.pipeline.release.variant_quality import variant_outputs

MRR = RankingMetric("mrr", 3)
RECIPE = Recipe().updated(
    {"model.layers": 1, "model.width": 8, "model.heads": 2, "model.dropout": 0.0, "train.epochs": 2}
)


@pytest.fixture(scope="module")
def data(_own_cache):
    """180 queries with weights of 0 to 5; text and V1 are not equally good everywhere."""
    found = tables(draw(planted_config("planted?queries=180&candidates=8")))
    weights = np.random.default_rng(0).integers(0, 6, found["queries"].num_rows).astype(float)
    return open_dataset(**found | {"queries": found["queries"].append_column("weight", [weights])})


def by_hand(values, data, rows):
    weights = np.asarray(data.weight)[rows]
    known = np.isfinite(values)
    return np.average(values[known], weights=weights[known])


def test_evaluation_contribution_and_timing_weigh_queries_and_read_the_metric(data):
    measured = data.measured_by(MRR)
    torch.set_num_threads(1)
    state = start(RECIPE, measured, seed=0)
    *_, last = train(state, measured)
    found = evaluate(state.model, measured, "validation")
    lists = split_lists(measured, "validation")
    mrr = MRR(*(torch.from_numpy(x) for x in (found.outputs.scores, lists.labels, lists.valid))).numpy()
    np.testing.assert_array_equal(found.ndcg, mrr)
    rows = found.rows
    assert found.mean_ndcg == pytest.approx(by_hand(mrr, data, rows))
    assert found.mean_ndcg != pytest.approx(np.nanmean(mrr))
    assert last.evaluation.mean_ndcg == pytest.approx(found.mean_ndcg)
    gain = found.numbers(ranks=True)["ndcg_gain"]
    assert gain == pytest.approx(by_hand(mrr - lists.v1_ndcg, data, rows))
    blank = found.masked["visual", "zero"]
    assert found.masking_drop("visual") == pytest.approx(1 - by_hand(blank, data, rows) / by_hand(mrr, data, rows))
    layers = np.average(found.shares, axis=0, weights=found.documents * np.asarray(data.weight)[rows])
    np.testing.assert_allclose(found.layer_shares(), layers)
    values = contribution(state.model, measured, "validation").masked_values
    assert values["visual+text+metadata"] == pytest.approx(found.mean_ndcg)
    as_timed = variant_outputs(lambda batch: state.model(batch).scores.detach(), measured, "validation")
    assert quantity("ndcg").estimate(as_timed) == pytest.approx(found.mean_ndcg)


def test_a_stack_measures_as_one_training_does(data):
    measured = data.measured_by(MRR)
    torch.set_num_threads(1)
    alone = start(RECIPE, measured, seed=0)
    numbers = [epoch.evaluation.mean_ndcg for epoch in train(alone, measured)]
    together = [start(RECIPE, measured, seed=seed) for seed in (0, 1)]
    found = [r.evaluation.mean_ndcg for step in train_stack(together, measured) for s, r in step if s is together[0]]
    assert found == pytest.approx(numbers, abs=1e-6)
    told = ("ndcg", "ndcg_gain", "visual_masking_drop", "v1_correlation", "attention_visual")
    assert [together[0].best_numbers[n] for n in told] == pytest.approx([alone.best_numbers[n] for n in told], abs=1e-4)


def test_a_sum_is_tuned_by_the_metric_and_the_weights(data):
    lists = split_lists(data, "validation")
    labels, valid, weights = (torch.from_numpy(x) for x in (lists.labels, lists.valid, lists.weight))
    columns = {
        "V1": torch.from_numpy(lists.v1),
        "noise": torch.randn(lists.v1.shape, generator=torch.Generator().manual_seed(1)).double(),
    }
    twice = torch.repeat_interleave(torch.arange(len(labels)), weights.long())
    mine = tune_weighted_sum(columns, labels, valid, metric=MRR, query_weights=weights)
    again = {name: scores[twice] for name, scores in columns.items()}
    theirs = tune_weighted_sum(again, labels[twice], valid[twice], metric=MRR)
    assert mine.weights == theirs.weights
    assert mine.tuned_ndcg == pytest.approx(theirs.tuned_ndcg)
    assert mine.tuned_ndcg != tune_weighted_sum(columns, labels, valid, metric=MRR).tuned_ndcg


def test_a_probes_gain_weighs_queries(data):
    measured = data.measured_by(MRR)
    arms = []
    for scale in (0.3, 3.0):
        random = torch.Generator().manual_seed(4)

        def noisy(batch, scale=scale, random=random):
            return batch.labels + scale * torch.randn(batch.labels.shape, generator=random)

        arms.append(stacked([score_with(noisy, measured, "test") for _ in range(3)]))
    pair = ProbePair(name="probe", suspect="visual", with_it=arms[0], without=arms[1])
    each = arms[0].ndcg() - arms[1].ndcg()
    assert pair.gain().mean == pytest.approx(np.mean([by_hand(row, data, arms[0].rows) for row in each]))
    assert pair.gain().mean != pytest.approx(np.nanmean(each))
    halves = np.array_split(measured.rows("test"), 2)
    parts = [score_with(lambda batch: batch.v1, measured, rows) for rows in halves]
    whole = split_lists(measured, "test")
    assert joined(parts).mean_ndcg() == pytest.approx(by_hand(whole.v1_ndcg, data, whole.rows))


def test_every_view_and_every_copy_keeps_the_metric(data):
    assert data.metric == NDCG_10
    assert data.weighted
    assert not open_dataset("planted?queries=20&candidates=4").weighted
    measured = data.measured_by(MRR)
    views = [measured.halved(), relabelled(measured, "permuted", 0), sign_planted(measured, "visual", 1.0, 0)]
    views += [without_cold(measured), without_cold(measured).halved(), measured.with_tuned_v1("k", data.v1 * 1.0)]
    assert [view.metric for view in views] == [MRR] * 6
    assert [pickle.loads(pickle.dumps(view)).metric for view in [measured, *views[:5]]] == [MRR] * 6
    assert DataTicket(source=data.source, metric=MRR).open().metric == MRR
    assert DataTicket(source=data.source).open().metric == NDCG_10
    assert split_lists(measured, "test").metric == MRR
