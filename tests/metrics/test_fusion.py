from __future__ import annotations

from itertools import product

import pytest
import torch
from padded_lists import Lists, random_lists
from torch import Tensor

from fusion_models.metrics import fusion_gain, ndcg, standardise, tune_weighted_sum


def columns(count: int, seed: int = 0) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Labels from 0.7 first + 0.3 second column (in their query's units); the others are noise."""
    generator = torch.Generator().manual_seed(seed)
    valid = torch.rand(80, 12, generator=generator) < 0.8
    found = {f"m{i}": torch.randn(80, 12, generator=generator) * 10**i + i for i in range(count)}
    truth = 0.7 * standardise(found["m0"], valid) + 0.3 * standardise(found["m1"], valid)
    return found, (truth > 0.5).float() + (truth > 1.0).float(), valid


def test_standardise_against_a_loop(lists: Lists) -> None:
    found = standardise(lists.a, lists.valid)
    for row, valid in enumerate(lists.valid):
        real = lists.a[row, valid]
        constant = len(real) == 0 or bool((real == real[0]).all())
        expected = torch.zeros_like(real) if constant else (real - real.mean()) / real.std(correction=0)
        torch.testing.assert_close(found[row, valid], expected)
    assert not found[~lists.valid].any()
    assert not standardise(torch.full((1, 3), 0.1), torch.ones(1, 3, dtype=torch.bool)).any()


@pytest.mark.parametrize("count", [2, 3])
def test_tuning_is_the_best_of_the_whole_grid(count: int) -> None:
    found, labels, valid = columns(count)
    tuned = tune_weighted_sum(found, labels, valid, steps=10)
    naive = {}
    for point in product(range(11), repeat=count):
        if sum(point) == 10:
            scores = sum(w / 10 * standardise(x, valid) for w, x in zip(point, found.values(), strict=True))
            assert isinstance(scores, Tensor)
            naive[point] = float(ndcg(scores, labels, valid).nanmean())
    assert tuned.tuned_ndcg == pytest.approx(max(naive.values()), abs=1e-9)
    assert sum(tuned.weights.values()) == pytest.approx(1)
    applied = ndcg(tuned(found, valid), labels, valid)
    assert float(applied.nanmean()) == pytest.approx(tuned.tuned_ndcg, abs=1e-9)


def test_weights_are_found_and_carry_over() -> None:
    found, labels, valid = columns(3)
    tuned = tune_weighted_sum(found, labels, valid)
    assert tuned.weights["m0"] == pytest.approx(0.7, abs=0.11)
    assert tuned.weights["m1"] == pytest.approx(0.3, abs=0.11)
    others, labels, valid = columns(3, seed=1)
    assert float(ndcg(tuned(others, valid), labels, valid).nanmean()) > 0.97
    scaled = {name: 5 * x - 2 for name, x in found.items()}
    assert tune_weighted_sum(scaled, *columns(3)[1:]).weights == tuned.weights


@pytest.mark.parametrize("seed", range(3))
def test_many_columns_are_tuned_about_as_well_as_by_the_whole_grid(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found, labels, valid = columns(5, seed)
    climbed = tune_weighted_sum(found, labels, valid, steps=10)
    monkeypatch.setattr("fusion_models.metrics.fusion.WHOLE_GRID", 5)
    whole = tune_weighted_sum(found, labels, valid, steps=10)
    assert whole.tuned_ndcg - 0.002 < climbed.tuned_ndcg <= whole.tuned_ndcg
    assert sum(climbed.weights.values()) == pytest.approx(1)
    many = tune_weighted_sum({**found, "m5": -found["m0"], "m6": -found["m1"]}, labels, valid)
    assert many.tuned_ndcg >= climbed.tuned_ndcg - 1e-9
    assert sum(many.weights.values()) == pytest.approx(1)
    # only a column's difference to its opposite ranks, and it points where the column does
    assert many.weights["m5"] < many.weights["m0"]
    assert many.weights["m6"] < many.weights["m1"]


def test_equal_columns_get_even_weights() -> None:
    lists = random_lists(0)
    tuned = tune_weighted_sum({"one": lists.b, "two": lists.b.clone()}, lists.labels, lists.valid)
    assert tuned.weights == {"one": 0.5, "two": 0.5}
    assert tune_weighted_sum({"one": lists.b}, lists.labels, lists.valid).weights == {"one": 1.0}


def test_fusion_gain_is_over_the_best_rival() -> None:
    fused = torch.tensor([0.9, torch.nan, 0.7])
    rivals = {"text": torch.tensor([0.5, torch.nan, 0.6]), "sum": torch.tensor([0.8, torch.nan, 0.7])}
    found = fusion_gain(fused, rivals)
    assert found.rival == "sum"
    assert found.mean == pytest.approx(0.05)
    assert found.differences.tolist() == pytest.approx([0.1, 0.0], abs=1e-6)


def test_errors() -> None:
    found, labels, valid = columns(3)
    with pytest.raises(ValueError, match="got none"):
        tune_weighted_sum({}, labels, valid)
    with pytest.raises(ValueError, match="no query"):
        tune_weighted_sum(found, torch.zeros_like(labels), valid)
    with pytest.raises(ValueError, match="tuned for"):
        tune_weighted_sum(found, labels, valid)({"m0": found["m0"]}, valid)
    with pytest.raises(ValueError, match="rivals over"):
        fusion_gain(torch.ones(3), {"text": torch.ones(2)})
