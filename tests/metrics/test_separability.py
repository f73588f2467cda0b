from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fusion_models.metrics import auc, split_auc
from fusion_models.metrics.separability import _fit_logistic


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("seed", range(4))
def test_auc_equals_scikit_learn_with_ties(seed: int) -> None:
    generator = rng(seed)
    negative, positive = generator.integers(0, 6, 40).astype(float), generator.integers(1, 8, 25).astype(float)
    expected = roc_auc_score(np.repeat([0, 1], [40, 25]), np.concatenate([negative, positive]))
    assert auc(negative, positive) == pytest.approx(expected)
    assert auc(positive, negative) == pytest.approx(1 - expected)
    assert np.isnan(auc(negative, positive[:0]))


def test_logistic_regression_equals_scikit_learn() -> None:
    features = rng(1).normal(size=(200, 6))
    target = (rng(2).random(200) < 1 / (1 + np.exp(-features[:, 0] * 2 + 0.5))).astype(float)
    ours = _fit_logistic(features, target, ridge=2.0)
    theirs = LogisticRegression(C=0.5, tol=1e-10, max_iter=1000).fit(features, target)
    assert ours[1:] == pytest.approx(theirs.coef_[0], abs=1e-3)
    assert ours[0] == pytest.approx(theirs.intercept_[0], abs=1e-3)


def test_a_shift_is_seen() -> None:
    train, held_out = rng(3).normal(size=(400, 8)), rng(4).normal(size=(200, 8))
    held_out[:, 2] += 1.0
    found = split_auc(train, held_out, generator=rng(5))
    # Two normals one deviation apart: Phi(1 / sqrt 2).
    assert found.low < stats.norm.cdf(0.5**0.5) < found.high
    assert found.low > 0.6


def test_equal_splits_cannot_be_told_apart_and_the_interval_covers() -> None:
    generator = rng(6)
    found = [
        split_auc(generator.normal(size=(80, 3)), generator.normal(size=(50, 3)), generator=generator)
        for _ in range(150)
    ]
    assert np.mean([f.mean for f in found]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([f.low <= 0.5 <= f.high for f in found]) >= 0.92


def test_groups_stay_together() -> None:
    # Every group has a fingerprint that would tell its other rows' split if groups were cut in two.
    generator = rng(7)

    def side(offset: int) -> tuple[np.ndarray, np.ndarray]:
        groups = np.repeat(np.arange(40), 8) + offset
        prints = generator.normal(size=(40, 60))[groups - offset]
        return prints + 0.01 * generator.normal(size=prints.shape), groups

    (train, train_groups), (held_out, held_out_groups) = side(0), side(40)
    honest = split_auc(
        train, held_out, generator=rng(0), train_groups=train_groups, held_out_groups=held_out_groups, ridge=0.1
    )
    leaking = split_auc(train, held_out, generator=rng(0), ridge=0.1)
    assert honest.low <= 0.5 <= honest.high
    assert leaking.mean > 0.8
    # Groups widen the interval: 80 observations, not 640.
    assert honest.high - honest.low > 1.5 * (leaking.high - leaking.low)


def test_items_shared_by_both_sides_stay_in_one_fold() -> None:
    items = rng(8).normal(size=(50, 4))
    chosen, others = rng(9).integers(0, 50, 200), rng(10).integers(0, 50, 150)
    found = split_auc(items[chosen], items[others], generator=rng(0), train_groups=chosen, held_out_groups=others)
    assert found.mean == pytest.approx(0.5, abs=0.12)


def test_errors() -> None:
    with pytest.raises(ValueError, match="at least 5"):
        split_auc(np.ones((3, 2)), np.ones((50, 2)), generator=rng())
    with pytest.raises(ValueError, match="finite"):
        split_auc(np.full((9, 2), np.nan), np.ones((9, 2)), generator=rng())
    with pytest.raises(ValueError, match="group for each"):
        split_auc(np.ones((9, 2)), np.ones((9, 2)), generator=rng(), train_groups=[1, 2])
