from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from padded_lists import random_batch
from torch import Tensor

from fusion_models.data.batch import Batch
from fusion_models.metrics import additive_projection, interaction_gain, ndcg


def part(batch: Batch, modality: str) -> Tensor:
    return batch.features[modality].double().sin().sum(-1)


def additive(batch: Batch) -> Tensor:
    own = part(batch, "visual") + 2 * part(batch, "text").exp() - part(batch, "metadata") ** 2
    return own + batch.context.double().prod(-1) + batch.v1.double()


def multiplied(batch: Batch) -> Tensor:
    return part(batch, "visual") * part(batch, "text") + 0.3 * part(batch, "metadata")


def threefold(batch: Batch) -> Tensor:
    return part(batch, "visual") * part(batch, "text") * (0.5 + part(batch, "metadata"))


def brute_force(score: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
    """Least-squares additive fit over every combination of one query's features, by lstsq on indicator columns."""
    projected = torch.zeros(batch.valid.shape, dtype=torch.float64)
    names = list(batch.features)
    for row, valid in enumerate(batch.valid):
        places = valid.nonzero().flatten().tolist()
        grid = list(product(range(len(places)), repeat=len(names)))
        design = np.zeros((len(grid), len(names) * len(places)))
        columns = {m: [places[c[j]] for c in grid] for j, m in enumerate(names)}
        for j in range(len(names)):
            design[np.arange(len(grid)), [j * len(places) + c[j] for c in grid]] = 1
        combined = Batch(
            {m: batch.features[m][row, columns[m]].unsqueeze(0) for m in names},
            torch.zeros(1, len(grid), 2),
            *(torch.zeros(1, len(grid)) for _ in range(2)),
            torch.ones(1, len(grid), dtype=torch.bool),
            torch.zeros(1).long(),
            torch.zeros(1, len(grid)).long(),
        )
        target = score(combined)[0].numpy()
        fitted = design @ np.linalg.lstsq(design, target, rcond=None)[0]
        same = {c[0]: i for i, c in enumerate(grid) if len(set(c)) == 1}
        projected[row, places] = torch.from_numpy(fitted[[same[i] for i in range(len(places))]])
    return projected


@pytest.mark.parametrize("score", [multiplied, threefold])
def test_the_full_grid_is_the_least_squares_additive_fit(score: Callable[[Batch], Tensor]) -> None:
    batch = random_batch(1, queries=4, length=4)
    torch.testing.assert_close(additive_projection(score, batch), brute_force(score, batch), atol=1e-9, rtol=0)


def test_two_modalities_are_emap() -> None:
    batch = random_batch(2, queries=1, length=5, widths=(3, 2))

    def score(b: Batch) -> Tensor:
        return part(b, "visual") * part(b, "text").exp()

    visual, text = part(batch, "visual")[0], part(batch, "text")[0].exp()
    # Hessel and Lee: mean over the other's values, for both, less the mean of all.
    expected = visual * text.mean() + visual.mean() * text - visual.mean() * text.mean()
    torch.testing.assert_close(additive_projection(score, batch)[0], expected, atol=1e-9, rtol=0)
    # One turn through the list gives the same for each modality's own part; the mean of all is the same for all.
    sampled = additive_projection(score, batch, references=5, generator=torch.Generator().manual_seed(0))[0]
    torch.testing.assert_close(sampled - sampled.mean(), expected - expected.mean(), atol=1e-9, rtol=0)


@pytest.mark.parametrize("references", [None, 1, 3, 12])
def test_an_additive_scorer_is_reproduced_up_to_a_constant(references: int | None) -> None:
    batch = random_batch(3)
    generator = torch.Generator().manual_seed(0)
    found = additive_projection(additive, batch, references=references, generator=generator)
    scores = additive(batch)
    for row, valid in enumerate(batch.valid):
        difference = (found - scores)[row, valid]
        torch.testing.assert_close(difference, difference.mean().expand_as(difference), atol=1e-9, rtol=0)
    assert not found[~batch.valid].any()
    gain = interaction_gain(ndcg(scores, batch.labels, batch.valid), ndcg(found, batch.labels, batch.valid))
    assert float(gain.nan_to_num().abs().max()) < 1e-12


def test_a_product_scorer_is_not() -> None:
    generator = torch.Generator().manual_seed(4)
    signs = {m: torch.randn(60, 8, 1, generator=generator).sign() for m in ("visual", "text")}
    product_of_signs = (signs["visual"] * signs["text"]).squeeze(-1)
    batch = random_batch(4, queries=60, length=8)
    batch = batch._replace(
        features=signs, valid=torch.ones(60, 8, dtype=torch.bool), labels=(product_of_signs > 0).float()
    )

    def score(b: Batch) -> Tensor:
        return (b.features["visual"] * b.features["text"]).squeeze(-1)

    for references in (None, 8):
        found = additive_projection(score, batch, references=references, generator=generator)
        gain = interaction_gain(ndcg(score(batch), batch.labels, batch.valid), ndcg(found, batch.labels, batch.valid))
        assert float(gain.nanmean()) > 0.1


def test_sampling_comes_near_the_full_grid_and_is_drawn_anew() -> None:
    batch, generator = random_batch(5, queries=3, length=5), torch.Generator().manual_seed(0)
    exact = additive_projection(threefold, batch)
    draws = torch.stack([additive_projection(threefold, batch, references=5, generator=generator) for _ in range(300)])
    assert not torch.equal(draws[0], draws[1])
    error = draws.std(0) / 300**0.5
    centred = draws.mean(0) - exact
    assert bool((centred.abs() <= 5 * error + 1e-9).all())


def test_padding_and_order_of_candidates() -> None:
    batch = random_batch(6, queries=3, length=4)
    order = torch.tensor([2, 0, 3, 1])

    def moved(x: Tensor) -> Tensor:
        return torch.nn.functional.pad(x[:, order], (0,) * (2 * (x.ndim - 2)) + (1, 1))

    other = Batch(
        {m: moved(x) for m, x in batch.features.items()},
        *(moved(x) for x in batch[1:5]),
        batch.query,
        moved(batch.item),
    )
    torch.testing.assert_close(additive_projection(threefold, other), moved(additive_projection(threefold, batch)))


def test_modalities_can_be_taken_together() -> None:
    batch = random_batch(7)
    # Context and what is not named stay the document's own: nothing to project away but the named ones.
    found = additive_projection(multiplied, batch, modalities=["metadata"])
    torch.testing.assert_close(found, multiplied(batch).masked_fill(~batch.valid, 0.0), atol=1e-9, rtol=0)


def test_errors() -> None:
    batch = random_batch(8)
    with pytest.raises(ValueError, match="expected modalities"):
        additive_projection(additive, batch, modalities=["sound"])
    with pytest.raises(ValueError, match="come with a generator"):
        additive_projection(additive, batch, references=4)
    with pytest.raises(ValueError, match="same queries"):
        interaction_gain(torch.ones(3), torch.ones(4))
