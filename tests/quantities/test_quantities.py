"""Every number of a ranker, once: against naive loops, its influence against leaving queries out, its replicates."""

import dataclasses

import numpy as np
import pytest
from outputs import MODALITIES, random_lists, random_outputs
from scipy import stats
from sklearn.metrics import ndcg_score

from fusion_models.metrics.ranking_metric import NDCG_10, RankingMetric
from fusion_models.quantities import (
    Lists,
    Outputs,
    beside,
    ensemble,
    known_names,
    numbers,
    of_outputs,
    quantity,
    standardised,
)

LISTS = random_lists(queries=120)
OUTPUTS = random_outputs(LISTS, seed=1, images=True)
SMOOTH = sorted(set(of_outputs()) - {"v1_kendall", "v1_spearman"})
KNOWN = [name for name in SMOOTH if quantity(name).terms(OUTPUTS) is not None]


def naive_ndcg(lists, scores):
    out = []
    for labels, said, valid in zip(lists.labels, scores, lists.valid, strict=True):
        gains = 2.0 ** labels[valid] - 1
        out.append(ndcg_score(gains[None], said[valid][None], k=10) if gains.any() else np.nan)
    return np.array(out)


@pytest.mark.parametrize(("weight", "telling"), [(None, 59), (1.0, 59), ([0.0, 2.0], 30), ([0.5, 0.0], 29)])
def test_queries_that_tell_have_a_relevant_document_and_a_weight(weight, telling):
    """A gate on the number of queries must not count those of weight 0, which no mean counts."""
    lists = random_lists(queries=60, empty=(2,))
    every = None if weight is None else np.resize(weight, 60)
    assert dataclasses.replace(lists, weight=every).telling == telling


def test_every_number_equals_a_naive_loop():
    found = numbers(OUTPUTS)
    ndcg, v1 = naive_ndcg(LISTS, OUTPUTS.scores), naive_ndcg(LISTS, LISTS.v1)
    blind = naive_ndcg(LISTS, OUTPUTS.blanked["text", "zero"][0])
    assert found["ndcg"] == pytest.approx(np.nanmean(ndcg))
    assert found["ndcg_gain"] == pytest.approx(np.nanmean(ndcg - v1))
    assert found["text_masking_drop"] == pytest.approx(1 - np.nanmean(blind) / np.nanmean(ndcg))
    counts = LISTS.valid.sum(1)
    shares = np.average(OUTPUTS.shares.mean(1), axis=0, weights=counts)
    assert [found[f"attention_{m}"] for m in MODALITIES] == pytest.approx(shares.tolist())
    assert (found["attention_max_share"], found["attention_min_share"]) == pytest.approx((shares.max(), shares.min()))
    pairs = [(s[v], w[v]) for s, w, v in zip(OUTPUTS.scores, LISTS.v1, LISTS.valid, strict=True)]
    centred = [np.concatenate([side - side.mean() for side in sides]) for sides in zip(*pairs, strict=True)]
    assert found["v1_correlation"] == pytest.approx(np.corrcoef(*centred)[0, 1])
    pooled = [np.concatenate(sides) for sides in zip(*pairs, strict=True)]
    assert found["v1_correlation_pooled"] == pytest.approx(np.corrcoef(*pooled)[0, 1])
    rho = [stats.spearmanr(a, b).statistic for a, b in pairs]
    assert found["v1_spearman_mean"] == pytest.approx(np.mean(rho))
    assert found["v1_spearman"] == pytest.approx(np.median(rho))
    assert found["v1_kendall"] == pytest.approx(np.median([stats.kendalltau(a, b).statistic for a, b in pairs]))
    assert found["top1_stability"] == pytest.approx(np.mean([a.argmax() == b.argmax() for a, b in pairs]))
    assert found["reconstruction_ssim"] == pytest.approx(OUTPUTS.ssim.mean())


@pytest.mark.parametrize("name", KNOWN)
def test_the_influence_of_a_query_is_what_leaving_it_out_changes(name):
    one = quantity(name)
    whole, influence = one.estimate(OUTPUTS), one.influence(OUTPUTS)
    counted = np.isfinite(influence)
    assert np.mean(influence[counted]) == pytest.approx(whole, abs=1e-9)
    places = np.flatnonzero(counted)
    left_out = np.array([one.estimate(OUTPUTS.subset(np.arange(120) != place)) for place in places])
    by_jackknife = whole + (len(places) - 1) * (whole - left_out)
    assert np.corrcoef(by_jackknife, influence[counted])[0, 1] > 0.99 or np.ptp(influence[counted]) < 1e-9
    assert np.std(by_jackknife) == pytest.approx(np.std(influence[counted]), rel=0.1, abs=1e-9)


@pytest.mark.parametrize("name", [*KNOWN, "v1_kendall", "v1_spearman"])
def test_a_replicate_is_the_number_of_the_repeated_queries(name):
    drawn = np.random.default_rng(5).integers(0, 120, 200)
    again = quantity(name).estimate(OUTPUTS.subset(drawn))
    counts = np.bincount(drawn, minlength=120)[None].astype(float)
    assert quantity(name).replicates(OUTPUTS, counts)[0] == pytest.approx(again, abs=1e-9)


@pytest.mark.parametrize("name", ["v1_kendall", "v1_spearman"])
def test_the_spread_of_a_median_is_that_of_its_bootstrap(name):
    lists = random_lists(queries=400, documents=30, seed=3)
    outputs = random_outputs(lists, seed=4)
    drawn = np.random.default_rng(0).multinomial(400, np.full(400, 1 / 400), size=600).astype(float)
    bootstrap = quantity(name).replicates(outputs, drawn).std()
    influence = quantity(name).influence(outputs)
    known = influence[np.isfinite(influence)]
    assert known.std() / np.sqrt(len(known)) == pytest.approx(bootstrap, rel=0.25)


def test_a_query_that_weighs_twice_counts_twice():
    twice = np.concatenate([np.arange(120), np.arange(40)])
    weight = 1.0 + (np.arange(120) < 40)
    weighted = Lists(rows=LISTS.rows, labels=LISTS.labels, v1=LISTS.v1, valid=LISTS.valid, weight=weight)
    mine = Outputs(
        lists=weighted,
        scores=OUTPUTS.scores,
        modalities=MODALITIES,
        blanked=OUTPUTS.blanked,
        shares=OUTPUTS.shares,
        ssim=OUTPUTS.ssim,
    )
    expected = numbers(OUTPUTS.subset(twice))
    found = numbers(mine)
    assert {n: found[n] for n in KNOWN} == pytest.approx({n: expected[n] for n in KNOWN})


def test_an_ensemble_is_the_mean_of_what_its_members_say_within_a_query():
    members = [random_outputs(LISTS, seed=s) for s in (1, 2, 3)]
    found = ensemble(members)
    each = np.stack([standardised(m.scores, LISTS) for m in members])
    np.testing.assert_allclose(found.scores, each.mean(0))
    np.testing.assert_allclose(each.std(2, where=LISTS.valid)[:, 0], 1.0)
    blind = np.mean([standardised(m.blanked["visual", "zero"][0], LISTS) for m in members], axis=0)
    np.testing.assert_allclose(found.blanked["visual", "zero"][0], blind)
    np.testing.assert_allclose(found.shares, np.mean([m.shares for m in members], axis=0))
    assert ensemble(members[:1]) is members[0]
    scaled = Outputs(lists=LISTS, scores=members[0].scores * 1e3 + 7.0)
    mixed = ensemble([scaled, members[1]]).scores
    np.testing.assert_allclose(mixed, ensemble([Outputs(lists=LISTS, scores=members[0].scores), members[1]]).scores)
    with pytest.raises(ValueError, match="different queries"):
        ensemble([members[0], random_outputs(LISTS.subset(np.arange(50)), seed=1)])
    with pytest.raises(ValueError, match="at least one member"):
        ensemble([])


def test_a_monotone_map_a_query_lowers_pearson_and_not_spearman():
    """A correlation can be lowered without moving one rank; so the gates read both."""
    lists = random_lists(queries=300, seed=8)
    stretched = Outputs(lists=lists, scores=np.exp(2.0 * lists.v1))
    assert quantity("v1_correlation").estimate(stretched) < 0.6
    assert quantity("v1_spearman_mean").estimate(stretched) == pytest.approx(1.0)


def test_what_is_not_told_is_missing_and_an_unknown_name_lists_what_is_known():
    bare = Outputs(lists=LISTS, scores=OUTPUTS.scores)
    found = numbers(bare)
    assert "reconstruction_ssim" not in found
    assert "visual_masking_drop" not in found
    assert "attention_max_share" not in found
    assert np.isnan(quantity("visual_masking_drop").estimate(bare))
    assert quantity("visual_masking_drop").influence(bare) is None
    flat = Outputs(lists=LISTS, scores=np.zeros_like(LISTS.v1))
    assert quantity("v1_correlation").influence(flat) is None
    with pytest.raises(ValueError, match="ndcg_gain"):
        quantity("ndcg_gian")


def test_names_follow_the_modalities():
    assert {"clicks_masking_drop", "attention_clicks"} <= set(of_outputs(("text", "clicks")))
    assert "clicks_refit_gain" in beside(("text", "clicks"))
    assert not any("visual" in name for name in known_names(("text", "clicks")))


TIMES = np.random.default_rng(11).integers(1, 4, 120)
EVERY = sorted(name for name in of_outputs() if quantity(name).terms(OUTPUTS) is not None)


def weighted(outputs, weight, metric=NDCG_10):
    lists = dataclasses.replace(outputs.lists, weight=weight, metric=metric)
    return dataclasses.replace(outputs, lists=lists)


@pytest.mark.parametrize("name", EVERY)
def test_a_query_of_weight_two_is_one_that_came_twice(name):
    mine, again = weighted(OUTPUTS, TIMES.astype(float)), OUTPUTS.subset(np.repeat(np.arange(120), TIMES))
    found = quantity(name).estimate(mine)
    assert found == pytest.approx(quantity(name).estimate(again), abs=1e-9)
    influence = quantity(name).influence(mine)
    repeated = quantity(name).influence(again)
    assert np.nanmean(influence) == pytest.approx(found, abs=1e-9)
    known = np.isfinite(influence)
    summed = np.bincount(np.repeat(np.arange(120), TIMES), weights=np.nan_to_num(repeated) - found)
    ratio = known.sum() / TIMES[known].sum()
    assert (influence - found)[known] == pytest.approx(ratio * summed[known], abs=0.02)


@pytest.mark.parametrize("name", EVERY)
def test_equal_weights_change_no_digit(name):
    plain, ones = quantity(name), weighted(OUTPUTS, np.ones(120))
    assert plain.estimate(OUTPUTS) == plain.estimate(ones)
    np.testing.assert_array_equal(plain.influence(OUTPUTS), plain.influence(ones))


def test_quantities_of_ndcg_are_those_of_the_lists_metric():
    other = weighted(OUTPUTS, None, RankingMetric("mrr", 5))
    first = np.where(LISTS.valid, OUTPUTS.scores, -np.inf).argsort(axis=1)[:, ::-1]
    ranked = np.take_along_axis(LISTS.labels, first, axis=1)[:, :5] > 0
    naive = np.where(ranked.any(1), 1.0 / (ranked.argmax(1) + 1), 0.0)[LISTS.relevant].mean()
    assert quantity("ndcg").estimate(other) == pytest.approx(naive)
    assert other.lists.subset(np.arange(9)).metric == other.lists.metric
    assert ensemble([other, other]).lists.metric == other.lists.metric
    assert quantity("ndcg").estimate(other) != quantity("ndcg").estimate(OUTPUTS)
