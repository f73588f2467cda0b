from __future__ import annotations

import numpy as np
import pytest
import torch
from padded_lists import Lists

from fusion_models.metrics import ndcg, near_duplicates, overlap, permute_labels, suspicious_features
from fusion_models.metrics.ndcg import chance_ndcg


def test_overlap_counts_distinct_ids_of_the_held_out_split() -> None:
    found = overlap(["a", "b", "b", "c"], ["c", "c", "d", "e", "f"])
    assert (found.shared, found.total) == (1, 4)
    assert (found.share, found.isolation) == (0.25, 0.75)
    assert overlap(["a"], []).isolation == 1.0


def test_near_duplicates_against_a_naive_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusion_models.metrics.integrity.PAIRS_AT_ONCE", 130)
    generator = np.random.default_rng(0)
    train = generator.normal(size=(60, 12))
    held_out = generator.normal(size=(45, 12))
    copies, scaled = [3, 17, 40], [5, 29]
    held_out[copies] = train[[10, 20, 30]] + 1e-6
    held_out[scaled] = 3 * train[[1, 2]] + 0.01
    held_out[44], train[59] = 0.0, -0.0
    found = near_duplicates(train, held_out)
    naive = [
        any(
            np.array_equal(np.round(a, 4), np.round(b, 4))
            or (np.linalg.norm(a) * np.linalg.norm(b) > 0 and a @ b / np.linalg.norm(a) / np.linalg.norm(b) >= 0.999)
            for a in train
        )
        for b in held_out
    ]
    assert found.tolist() == naive
    assert set(np.flatnonzero(found)) >= {*copies, *scaled, 44}
    assert found.sum() == 6
    assert not near_duplicates(np.zeros((0, 12)), held_out).any()
    with pytest.raises(ValueError, match="expected"):
        near_duplicates(train, held_out[:, :5])


def test_permuted_labels_stay_in_their_query_and_earn_chance(lists: Lists) -> None:
    generator = torch.Generator().manual_seed(0)
    found = permute_labels(lists.labels, lists.valid, generator)
    for row, valid in enumerate(lists.valid):
        assert sorted(found[row, valid].tolist()) == sorted(lists.labels[row, valid].tolist())
    assert torch.equal(found[~lists.valid], lists.labels[~lists.valid])
    values = torch.stack(
        [ndcg(lists.b, permute_labels(lists.labels, lists.valid, generator), lists.valid) for _ in range(300)]
    ).nanmean(1)
    chance = float(chance_ndcg(lists.labels, lists.valid).nanmean())
    assert float(values.mean()) == pytest.approx(chance, abs=5 * float(values.std()) / 300**0.5)


def test_leaking_features_are_named_and_honest_ones_are_not() -> None:
    generator = torch.Generator().manual_seed(1)
    valid = torch.rand(50, 9, generator=generator) < 0.8
    v1 = torch.randn(50, 9, generator=generator)
    labels = torch.randint(0, 3, (50, 9), generator=generator).float()
    noise = torch.randn(50, 9, generator=generator)
    within_step = 0.9 * torch.rand(50, 9, generator=generator)
    features = torch.stack(
        [noise, v1, -(v1**3), labels, labels + within_step, v1 + 0.1 * noise, torch.zeros(50, 9), labels + noise],
        dim=-1,
    )
    features[~valid] = 77.0
    found = [(s.feature, s.target, s.kind) for s in suspicious_features(features, labels, v1, valid)]
    assert found == [
        (1, "v1", "equal"),
        (2, "v1", "monotone"),
        (3, "label", "equal"),
        (4, "label", "monotone"),
    ]
    order = torch.randperm(9, generator=generator)
    again = suspicious_features(features[:, order], labels[:, order], v1[:, order], valid[:, order])
    assert [(s.feature, s.target, s.kind) for s in again] == found


def test_a_sign_that_changes_between_queries_is_no_leak() -> None:
    v1 = torch.randn(40, 6, generator=torch.Generator().manual_seed(2))
    sign = torch.where(torch.arange(40) % 2 == 0, 1.0, -1.0)[:, None]
    valid = torch.ones(40, 6, dtype=torch.bool)
    assert suspicious_features((v1 * sign)[..., None], torch.zeros(40, 6), v1, valid) == []
