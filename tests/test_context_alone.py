"""What stands for a ranker without any modality."""

import numpy as np
import pytest
import torch

from fusion_models.config import Recipe
from fusion_models.context_alone import context_alone
from fusion_models.data import RankingDataset
from fusion_models.evaluation import score_with
from fusion_models.tuned_v1 import tuned_v1


def recipe(context):
    return Recipe().updated({"model.context": context})


def test_v1_goes_with_what_it_reads_and_nothing_is_left(small_data):
    for context in ("none", "v1", "tuned_v1"):
        assert (context_alone(small_data, recipe(context), "validation").scores == 0.0).all()


def test_a_v1_that_reads_none_of_the_modalities_stays(small_data):
    found = context_alone(small_data, recipe("v1"), "validation", ())
    assert torch.equal(found.scores, found.v1)
    np.testing.assert_array_equal(found.ndcg(), found.v1_ndcg())
    tuned = context_alone(small_data, recipe("tuned_v1"), "validation", ())
    trees = tuned_v1(small_data, ("v1",)).trees
    expected = score_with(trees, small_data, "validation")
    torch.testing.assert_close(tuned.scores[tuned.valid], expected.scores[tuned.valid])
    assert (context_alone(small_data, recipe("none"), "validation", ()).scores == 0.0).all()


@pytest.fixture
def with_pair_features(small_data, tmp_path):
    """The same data whose judgements carry their label's noisy copy as a feature."""
    import json
    import shutil

    folder = tmp_path / "arrays" / "pairs"
    shutil.copytree(small_data.folder, folder)
    noise = np.random.default_rng(0).normal(size=len(small_data.labels))
    np.save(folder / "pair_features.npy", (small_data.labels + 0.3 * noise).astype(np.float32)[:, None])
    meta = json.loads((folder / "meta.json").read_text())
    meta["pair_width"] = 1
    (folder / "meta.json").write_text(json.dumps(meta))
    return RankingDataset(folder, source="pairs", location="", fingerprint="pairs")


def test_a_v1_of_large_scores_keeps_its_order(small_data):
    """Scores of 1e9 that differ by 1: float32 knows no difference between them."""
    large = score_with(lambda batch: batch.v1.argsort(dim=1).argsort(dim=1).double() + 1e9, small_data, "validation")
    assert large.scores.dtype == torch.float64
    np.testing.assert_array_equal(large.ndcg(), large.v1_ndcg())


def test_features_of_the_pairs_are_left(with_pair_features):
    found = context_alone(with_pair_features, recipe("v1"), "validation")
    chance = score_with(lambda batch: torch.zeros_like(batch.v1), with_pair_features, "validation")
    assert np.nanmean(found.ndcg()) > np.nanmean(chance.ndcg()) + 0.2
