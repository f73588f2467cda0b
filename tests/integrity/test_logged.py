import numpy as np

from fusion_models.data import open_dataset
from fusion_models.integrity import logged_check

WORLD = "planted:healthy?queries=900&candidates=12&v1_noise=1"


def test_labels_that_lean_to_v1_beyond_the_features_are_warned_of_and_clean_ones_pass():
    data = open_dataset(f"{WORLD}&label_lean=0.7")  # training labels lean, test labels do not
    train, test = (logged_check(data, split, np.random.default_rng(0)) for split in ("train", "test"))
    assert (train.status, train.counts) == ("warning", False)
    assert train.ci_low > 0.2
    assert "a person must say which" in train.detail
    assert test.status == "pass"
    assert test.name == "labels of test logged under V1"


def test_a_v1_that_the_features_tell_says_nothing():
    found = logged_check(open_dataset("planted:seed-case?queries=500&candidates=12"), "test", np.random.default_rng(0))
    assert found.status == "warning"
    assert "the data cannot say" in found.detail
    assert not found.counts
