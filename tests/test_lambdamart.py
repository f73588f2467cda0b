"""LambdaMART that is kept: the same trees, trained once, for their own data alone."""

import numpy as np
import pytest

from fusion_models import lambdamart
from fusion_models.data import open_dataset
from fusion_models.data.views.cold import without_cold
from fusion_models.lambdamart import TreeInputs, TreesError, kept_lambdamart, train_lambdamart, tree_scores

INPUTS = TreeInputs(modalities=("text", "metadata"), with_v1=True)


@pytest.fixture(scope="module")
def recurring(_own_cache):
    """Items recur from list to list, so that some may be held out."""
    return open_dataset("planted?queries=160&candidates=8&item_reuse=4")


def test_kept_trees_score_as_those_that_were_just_trained(recurring, monkeypatch):
    fresh = train_lambdamart(recurring, recurring.rows("train"), INPUTS, seed=3)
    expected = tree_scores(fresh, recurring, "test").scores.numpy()
    first = kept_lambdamart(recurring, INPUTS, seed=3)
    monkeypatch.setattr(lambdamart, "train_lambdamart", lambda *given, **more: pytest.fail("trained again"))
    again = kept_lambdamart(recurring, INPUTS, seed=3)
    for trees in (first, again):
        np.testing.assert_array_equal(tree_scores(trees, recurring, "test").scores.numpy(), expected)
        assert (trees.queries, trees.too_long) == (fresh.queries, fresh.too_long)
        assert trees.booster.best_iteration == fresh.booster.best_iteration


def test_trees_of_other_data_seeds_or_inputs_are_others(recurring):
    whole = kept_lambdamart(recurring, INPUTS, seed=0)
    others = [
        kept_lambdamart(recurring, INPUTS, seed=1),
        kept_lambdamart(recurring, TreeInputs(modalities=("text", "metadata")), seed=0),
        kept_lambdamart(without_cold(recurring), INPUTS, seed=0),
    ]
    texts = {trees.booster.model_to_string() for trees in (whole, *others)}
    assert len(texts) == 4


def test_what_cannot_be_trained_says_so_each_time_and_leaves_nothing(recurring, monkeypatch):
    monkeypatch.setattr(lambdamart, "MAX_CANDIDATES", 3)
    for _ in range(2):
        with pytest.raises(TreesError, match="at least two training queries"):
            kept_lambdamart(recurring, INPUTS, seed=9)
    with pytest.raises(ValueError, match="derived"):
        kept_lambdamart(recurring, TreeInputs(modalities=("text",), derived=lambda batch: batch.v1), seed=0)
