"""Where a model meets a split: every number against a naive loop over single queries, on ragged lists with offsets."""

import lightgbm
import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import ndcg_score

from fusion_models import lambdamart
from fusion_models.config import Recipe
from fusion_models.contribution import contribution
from fusion_models.data import open_dataset
from fusion_models.data.planted import draw, tables
from fusion_models.data.planted.presets import planted_config
from fusion_models.data.tables import write_tables
from fusion_models.evaluation import Blanking, blanked_scores, evaluate, score
from fusion_models.lambdamart import TreeInputs, TreesError, train_lambdamart, tree_scores
from fusion_models.latency import scoring_latency
from fusion_models.metrics import centred_correlation, chance_ndcg, ndcg, tune_weighted_sum
from fusion_models.modalities import MODALITIES
from fusion_models.models.variants.late_sum import LateSum
from fusion_models.training import start, train

SOURCE = "planted?queries=100&candidates=10&candidates_spread=0.6&visual_offset=2&v1_query_offset=3"
RECIPE = {"model.layers": 1, "model.width": 16, "train.epochs": 2, "train.modality_dropout": 0.3}
VARIANTS = ("cross_attention", "late_sum")


@pytest.fixture(scope="module")
def data(_own_cache, tmp_path_factory):
    """Ragged lists, a query offset in V1's scores, image features far from 0, and one query without a relevant item."""
    found = tables(draw(planted_config(SOURCE)))
    judged = found["judgements"].to_pydict()
    split = dict(zip(*(found["queries"].column(n).to_pylist() for n in ("query_id", "split")), strict=True))
    empty = next(q for q in judged["query_id"] if split[q] == "validation")
    judged["label"] = [0.0 if q == empty else v for q, v in zip(judged["query_id"], judged["label"], strict=True)]
    folder = tmp_path_factory.mktemp("evaluated")
    write_tables(folder, found | {"judgements": type(found["judgements"]).from_pydict(judged)})
    return open_dataset(folder)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Small batches: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=VARIANTS)
def model(request, data):
    state = start(Recipe().updated(RECIPE | {"model.variant": request.param}), data, seed=0)
    for _ in train(state, data):
        pass
    return state.model.eval()


@torch.no_grad()
def one_by_one(model, data, split, change=lambda batch: batch):
    """Each query of a split alone, in ascending rows: its batch and its scores."""
    for row in np.sort(data.rows(split)):
        batch = data.gather([row])
        yield batch, model(change(batch)).scores[0].double().numpy()


def naive_ndcg(labels, scores):
    gains = 2.0 ** labels.double().numpy()[0] - 1
    return ndcg_score(gains[None], scores[None], k=10) if gains.any() and len(gains) > 1 else np.nan


def adds_up(model):
    return isinstance(model.fusion, LateSum)


def without(modality, value=0.0):
    def change(batch):
        blanked = torch.zeros_like(batch.features[modality]) + value
        return batch._replace(features=batch.features | {modality: blanked})

    return change


def test_values_line_up_with_ascending_rows_and_equal_a_naive_loop(model, data):
    found = evaluate(model, data, "validation")
    alone = list(one_by_one(model, data, "validation"))
    assert found.rows.tolist() == sorted(data.rows("validation").tolist())
    np.testing.assert_allclose(found.ndcg, [naive_ndcg(b.labels, s) for b, s in alone], atol=1e-5)
    np.testing.assert_allclose(found.v1_ndcg, [naive_ndcg(b.labels, b.v1[0].double().numpy()) for b, _ in alone])
    assert np.isnan(found.ndcg).sum() == 1
    assert found.documents.tolist() == [len(s) for _, s in alone]
    centred = [(s - s.mean(), b.v1[0].double().numpy() - b.v1[0].double().numpy().mean()) for b, s in alone]
    x, y = (np.concatenate(side) for side in zip(*centred, strict=True))
    numbers = found.numbers(ranks=True)
    assert numbers["v1_correlation"] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-5)
    taus = [stats.kendalltau(s, b.v1[0]).statistic for b, s in alone]
    assert numbers["v1_kendall"] == pytest.approx(np.median(taus), abs=1e-6)
    kept = [np.argmax(s) == int(b.v1[0].argmax()) for b, s in alone]
    assert numbers["top1_stability"] == pytest.approx(np.mean(kept))
    np.testing.assert_allclose(found.shares.sum(axis=-1), 1.0, atol=1e-5)


@pytest.mark.parametrize("modality", ["visual", "text"])
def test_the_zero_blank_is_of_raw_features(model, data, modality):
    """Not the training mean, which is 0 after standardising, and not the null token of a dropped modality."""
    found = evaluate(model, data, "validation", Blanking((modality,), ("zero", "mean")))
    for kind, value in (("zero", 0.0), ("mean", model.feature_mean(modality))):
        blanked = one_by_one(model, data, "validation", without(modality, value))
        expected = np.array([naive_ndcg(b.labels, s) for b, s in blanked])
        np.testing.assert_allclose(found.masked[modality, kind], expected, atol=1e-5)
        drop = 1 - np.nanmean(expected) / np.nanmean(found.ndcg)
        assert found.masking_drop(modality, kind) == pytest.approx(drop, abs=1e-5)
    if modality == "visual" and not adds_up(model):  # a constant added to every candidate moves none
        assert not np.allclose(found.masked["visual", "zero"], found.masked["visual", "mean"], equal_nan=True)
    batch = data.gather(data.rows("validation")[:4])
    keep = torch.tensor([[m != modality for m in MODALITIES]] * 4)
    with torch.no_grad():
        assert not torch.allclose(model(without(modality)(batch)).scores, model(batch, keep=keep).scores)


def test_a_shuffle_is_a_mean_of_draws_from_its_seed(model, data, monkeypatch):
    monkeypatch.setattr("fusion_models.evaluation.SHUFFLE_DRAWS", 4)

    def drawn(seed):
        kinds = ("shuffle_within", "shuffle_across")
        return blanked_scores(model, data, "validation", Blanking(("text",), kinds, seed))

    one, again, other = drawn(0), drawn(0), drawn(1)
    for key, values in one.items():
        np.testing.assert_array_equal(values, again[key])
        assert not np.array_equal(values, other[key], equal_nan=True)
        assert np.mean(values) == pytest.approx(np.mean(other[key]), abs=0.1)


def test_contribution_adds_up_and_late_sum_does_not_interact(model, data):
    found = contribution(model, data, "validation")
    evaluation = evaluate(model, data, "validation", Blanking(("visual",)))
    assert found.masked_values["visual+text+metadata"] == pytest.approx(evaluation.mean_ndcg, abs=1e-6)
    blind = np.nanmean(evaluation.masked["visual", "zero"])
    assert found.masked_values["text+metadata"] == pytest.approx(blind, abs=1e-6)
    whole = found.masked_values["visual+text+metadata"] - found.masked_values[""]
    assert sum(found.masked_shapley.values()) == pytest.approx(whole, abs=1e-9)
    assert found.interaction_gain.shape == evaluation.ndcg.shape
    assert np.array_equal(np.isnan(found.interaction_gain), np.isnan(evaluation.ndcg))
    if adds_up(model):
        assert np.nanmean(np.abs(found.interaction_gain)) < 1e-6
    assert set(found.cka) == {"visual~text", "visual~metadata", "text~metadata"}
    assert all(0 < rank <= 16 for rank in found.effective_rank.values())
    assert found.ssim == {}


def trees(data, split, inputs=None):
    return tree_scores(train_lambdamart(data, data.rows("train"), inputs, seed=3), data, split)


def v1_correlation(scored):
    return centred_correlation(scored.scores, scored.v1, scored.valid)


def test_lambdamart_learns_on_training_queries_alone_and_lines_up(data):
    found, again = (trees(data, "validation") for _ in range(2))
    np.testing.assert_array_equal(found.ndcg(), again.ndcg())
    labels = [data.gather([row]) for row in np.sort(data.rows("validation"))]
    chance = np.array([float(chance_ndcg(b.labels, b.valid)) for b in labels])
    np.testing.assert_array_equal(np.isnan(found.ndcg()), np.isnan(chance))
    assert np.nanmean(found.ndcg()) > np.nanmean(chance) + 0.1
    blind = trees(data, "validation", TreeInputs(modalities=("metadata",)))
    assert np.nanmean(blind.ndcg()) < np.nanmean(found.ndcg())
    told = trees(data, "validation", TreeInputs(modalities=("text", "metadata"), with_v1=True))
    # the more of V1 it reads
    assert -1 <= v1_correlation(blind) < v1_correlation(found) < v1_correlation(told) < 1


def weighted_sum(columns, tuned_on, read_on):
    """Scores of the weights tuned on one split, on another."""
    first = tuned_on[next(iter(columns))]
    tuned = tune_weighted_sum({c: tuned_on[c].scores for c in columns}, first.labels, first.valid)
    return tuned({c: read_on[c].scores for c in columns}, read_on[next(iter(columns))].valid)


def test_the_weighted_sum_is_tuned_on_one_split_and_read_on_another(model, data):
    scored = {split: score(model, data, split) for split in ("validation", "test")}
    columns = {s: {"model": scored[s], "V1": scored[s].as_v1()} for s in scored}
    test, validation = scored["test"], scored["validation"]
    found = weighted_sum(("model", "V1"), columns["validation"], columns["test"])
    assert ndcg(found, test.labels, test.valid).shape == test.rows.shape
    alone = weighted_sum(("V1",), columns["validation"], columns["test"])
    np.testing.assert_allclose(ndcg(alone, test.labels, test.valid).numpy(), test.v1_ndcg())
    assert 0.95 < centred_correlation(alone, test.v1, test.valid) <= 1  # every list is taken to one scale first
    tuned = weighted_sum(("model", "V1"), columns["validation"], columns["validation"])
    best = max(np.nanmean(validation.ndcg()), np.nanmean(validation.v1_ndcg()))
    # both corners of the simplex are tried
    assert np.nanmean(ndcg(tuned, validation.labels, validation.valid).numpy()) >= best - 1e-9


def test_latency_is_timed_and_touches_nothing(model, data):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = scoring_latency(model, data, queries=20, warm_up=3)
    assert 0 < found.p50 <= found.p95 <= found.p99
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_lambdamart_leaves_out_the_lists_that_lightgbm_does_not_take(data, monkeypatch):
    longest = int(data.candidates[data.rows("train")].max())
    monkeypatch.setattr(lambdamart, "MAX_CANDIDATES", longest - 1)
    found = train_lambdamart(data, data.rows("train"), seed=3)
    left = int((data.candidates[data.rows("train")] == longest).sum())
    assert (found.too_long, found.queries) == (left, len(data.rows("train")) - left)
    monkeypatch.setattr(lambdamart, "MAX_CANDIDATES", 0)
    with pytest.raises(TreesError, match="more than 0 candidates"):
        train_lambdamart(data, data.rows("train"), seed=3)
    monkeypatch.undo()

    def refuse(*_, **__):
        raise lightgbm.basic.LightGBMError("Number of rows 10001 exceeds upper limit of 10000 for a query")

    monkeypatch.setattr(lightgbm, "train", refuse)
    with pytest.raises(TreesError, match="LightGBM refused the data"):
        train_lambdamart(data, data.rows("train"))


@pytest.mark.parametrize("scale", [0.01, 1.0, 443.0])
def test_lambdamart_learns_from_labels_of_any_size(data, scale):
    levels = np.array([0.0, 1.0, 2.0, 3.0]) * scale
    gains = lambdamart.label_gain(levels)
    assert np.isfinite(gains).all()
    assert (np.diff(gains) >= 0).all()
    assert gains[-1] > gains[-2]
    if scale == 1.0:
        assert gains == [0.0, 1.0, 3.0, 7.0]
