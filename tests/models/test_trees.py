"""Trees as tensors score as LightGBM does."""

import lightgbm
import numpy as np
import pytest
import random_batches
import torch

from fusion_models.models.trees import DEPTH, LEAVES, TREES, TreeEnsemble, arrays_of, document_matrix

READS = ("v1", "text", "metadata")
PARAMETERS = {
    "objective": "regression",
    "num_leaves": LEAVES,
    "max_depth": DEPTH,
    "min_data_in_leaf": 2,
    "verbosity": -1,
    "num_threads": 1,
}


def fitted(batch, labels, rounds=TREES, **changes):
    matrix = document_matrix(batch, READS, 4)[batch.valid].numpy()
    return lightgbm.train(PARAMETERS | changes, lightgbm.Dataset(matrix, label=labels), num_boost_round=rounds)


def ensemble(booster):
    trees = TreeEnsemble(READS, 4)
    trees.load_state_dict(arrays_of(booster.dump_model()["tree_info"]), strict=False)
    return trees


@pytest.fixture(scope="module")
def batch():
    return random_batches.batch(queries=40, candidates=12, seed=3)


@pytest.fixture(scope="module")
def booster(batch):
    text, v1 = batch.features["text"][..., 0], batch.v1
    return fitted(batch, (text.sign() * v1 + torch.sin(3 * text))[batch.valid].numpy())


def test_scores_are_lightgbms(batch, booster):
    matrix = document_matrix(batch, READS, 4)
    expected = booster.predict(matrix[batch.valid].numpy())
    np.testing.assert_allclose(ensemble(booster).raw(batch)[batch.valid].numpy(), expected, atol=1e-5)
    assert expected.std() > 0.5


def test_a_feature_that_equals_a_threshold_goes_where_lightgbm_sends_it(batch, booster):
    """Thresholds are doubles there and float32 here."""
    trees = ensemble(booster)
    split = trees.threshold[:, : LEAVES - 1].flatten()
    column = trees.feature[:, : LEAVES - 1].flatten()
    cosine = matrix_width(batch) - 2  # a cosine is computed, and cannot be set to a threshold
    # LightGBM takes what lies within 1e-35 for 0
    places = [(int(c), float(t)) for c, t in zip(column, split, strict=True) if c != cosine and abs(t) > 1e-30][:200]
    width = matrix_width(batch)
    x = torch.randn(len(places), width, generator=torch.Generator().manual_seed(0))
    for row, (c, t) in enumerate(places):
        x[row, c] = t
    near = torch.cat([x, torch.nextafter(x, torch.full_like(x, torch.inf))])
    lists = batch_of(near)
    matrix = document_matrix(lists, READS, 4)[:, 0].numpy()
    np.testing.assert_allclose(trees.raw(lists)[:, 0].numpy(), booster.predict(matrix), atol=1e-5)


def matrix_width(batch):
    return document_matrix(batch, READS, 4).shape[-1]


def batch_of(x):
    """One document a list with the columns of `x`: text, metadata, context, (metadata's cosine,) V1's score."""
    one = random_batches.batch(queries=len(x), candidates=1, full=True)
    text, metadata, context = x[:, None, :5], x[:, None, 5:8], x[:, None, 8:12]
    return one._replace(features=one.features | {"text": text, "metadata": metadata}, context=context, v1=x[:, -1:])


def test_fewer_trees_and_trees_of_one_leaf(batch):
    labels = np.full(int(batch.valid.sum()), 2.0)
    trees = ensemble(fitted(batch, labels, rounds=3))
    torch.testing.assert_close(trees.raw(batch)[batch.valid], torch.full((len(labels),), 2.0))


def test_what_does_not_fit_is_refused(batch, booster):
    many = booster.dump_model()["tree_info"] * 2
    with pytest.raises(ValueError, match="do not fit into 70"):
        arrays_of(many)
    labels = batch.v1[batch.valid].numpy()
    with pytest.raises(ValueError, match="more than 15 leaves"):
        arrays_of(fitted(batch, labels, num_leaves=31).dump_model()["tree_info"])


def test_the_digest_tells_trees_apart(booster):
    one, other = ensemble(booster), ensemble(booster)
    assert one.digest == other.digest
    other.std.fill_(2.0)
    assert one.digest != other.digest
    assert TreeEnsemble(READS, 4).digest != TreeEnsemble(("text", "metadata"), 4).digest


def test_the_matrix_holds_what_is_read_and_no_more():
    b = random_batches.batch(context=5)
    whole = document_matrix(b, ("v1", "text"), 5)
    cosine = torch.cosine_similarity(b.features["text"], b.context, dim=-1)
    torch.testing.assert_close(
        whole, torch.cat([b.features["text"], b.context, cosine[..., None], b.v1[..., None]], -1)
    )
    behind = b._replace(context=torch.cat([b.context, torch.ones(*b.v1.shape, 1)], dim=-1))
    assert torch.equal(document_matrix(behind, ("v1", "text"), 5), whole)
