"""nDCG and the reciprocal rank at any cut-off: naive loops, ties, padding."""

import itertools

import numpy as np
import pytest
import torch
from ir_measures import RR, Qrel, ScoredDoc

from fusion_models.metrics import chance_ndcg, ndcg
from fusion_models.metrics.ranking_metric import NDCG_10, RankingMetric, reciprocal_rank


def drawn(queries=40, documents=9, seed=0, levels=None):
    random = np.random.default_rng(seed)
    valid = np.arange(documents) < random.integers(1, documents + 1, queries)[:, None]
    labels = np.where(valid, random.integers(0, 3, valid.shape) * (random.random(valid.shape) < 0.4), 0)
    scores = (
        random.integers(0, levels, valid.shape)
        if levels
        else random.permuted(np.broadcast_to(np.arange(documents), valid.shape), axis=1)
    )
    return torch.from_numpy(scores).double(), torch.from_numpy(labels).double(), torch.from_numpy(valid)


def naive(scores, labels, valid, k):
    """The mean over every order that is sorted by score."""
    out = []
    for s, y, real in zip(scores.numpy(), labels.numpy(), valid.numpy(), strict=True):
        s, y = s[real], y[real]
        if not (y > 0).any():
            out.append(np.nan)
            continue
        found = []
        for order in itertools.permutations(range(len(s))):
            if all(s[a] >= s[b] for a, b in itertools.pairwise(order)):
                rank = next(i for i, d in enumerate(order) if y[d] > 0) + 1
                found.append(1.0 / rank if rank <= k else 0.0)
        out.append(np.mean(found))
    return np.array(out)


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_reciprocal_rank_is_the_mean_over_every_order_of_tied_documents(k, levels):
    scores, labels, valid = drawn(queries=25, documents=6, levels=levels, seed=k)
    found = reciprocal_rank(scores, labels, valid, k).numpy()
    np.testing.assert_allclose(found, naive(scores, labels, valid, k), atol=1e-12)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_reciprocal_rank_is_that_of_ir_measures(k):
    scores, labels, valid = drawn(queries=60, documents=12, seed=4)
    qrels = [Qrel(str(q), str(d), int(labels[q, d])) for q, d in valid.nonzero().tolist()]
    run = [ScoredDoc(str(q), str(d), float(scores[q, d])) for q, d in valid.nonzero().tolist()]
    theirs = {m.query_id: m.value for m in (RR @ k).iter_calc(qrels, run)}
    found = reciprocal_rank(scores, labels, valid, k)
    known = [q for q in range(60) if not found[q].isnan()]
    assert known
    assert [float(found[q]) for q in known] == pytest.approx([theirs[str(q)] for q in known])


def test_padding_and_scores_in_it_are_not_read():
    scores, labels, valid = drawn(seed=2)
    before = RankingMetric("mrr", 5)(scores, labels, valid)
    scores[~valid] = torch.nan
    labels[~valid] = 3.0
    torch.testing.assert_close(RankingMetric("mrr", 5)(scores, labels, valid), before, equal_nan=True)


def test_a_metric_has_a_name_a_cutoff_and_what_chance_earns():
    scores, labels, valid = drawn(seed=3)
    assert (NDCG_10.name, RankingMetric("ndcg", 5).name, RankingMetric("mrr", 20).name) == (
        "nDCG@10",
        "nDCG@5",
        "MRR@20",
    )
    torch.testing.assert_close(NDCG_10(scores, labels, valid), ndcg(scores, labels, valid, 10), equal_nan=True)
    torch.testing.assert_close(
        RankingMetric("ndcg", 5)(scores, labels, valid), ndcg(scores, labels, valid, 5), equal_nan=True
    )
    torch.testing.assert_close(NDCG_10.chance(labels, valid), chance_ndcg(labels, valid), equal_nan=True)


@pytest.mark.parametrize(("kind", "cutoff"), [("map", 10), ("ndcg", 0), ("mrr", 2.5), ("ndcg", True)])
def test_another_metric_or_cutoff_is_refused(kind, cutoff):
    with pytest.raises(ValueError, match=r"metric must be one of ndcg, mrr|cutoff must be a whole number"):
        RankingMetric(kind, cutoff)
