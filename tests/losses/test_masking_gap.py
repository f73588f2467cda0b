"""The masking drop as a loss: it pays for breaking on a blank image, which reliance never does."""

from functools import partial

import pytest
import torch

from fusion_models.data.batch import Batch
from fusion_models.losses.importance import masking_gap
from fusion_models.losses.ranking import RANKING_LOSSES
from fusion_models.models.output import RankerOutput


def batch_of(images, labels):
    lists = labels.shape
    return Batch(
        query=torch.arange(lists[0]),
        item=torch.arange(labels.numel()).reshape(lists),
        features={"visual": images},
        context=torch.zeros(*lists, 0),
        labels=labels,
        v1=torch.zeros(lists),
        valid=torch.ones(lists, dtype=torch.bool),
    )


def test_it_is_met_by_breaking_on_the_blank_and_its_gradient_goes_there():
    ranking = partial(RANKING_LOSSES["listnet"], temperature=1.0)
    labels = torch.tensor([[2.0, 1.0, 0.0]])
    batch = batch_of(torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0)), labels)
    broken = torch.nn.Parameter(torch.zeros(1, 3))

    def forward(given):
        blank = bool((given.features["visual"] == 0).all())
        scores = broken if blank else labels  # the image decides nothing but whether it is there
        return RankerOutput(scores, None, None, None, None, {})

    loss = ranking(labels, labels, batch.valid)
    gap = masking_gap(forward, batch, loss, ranking, suspect="visual", margin=10.0)
    worse = ranking(torch.zeros(1, 3), labels, batch.valid)
    assert gap.item() == pytest.approx(10.0 - (worse - loss).item())
    gap.backward()
    assert broken.grad[0, 0] > 0 > broken.grad[0, 2]  # descent pushes the best document down where the image is blank
    with torch.no_grad():
        broken.copy_(-20.0 * labels)
    assert masking_gap(forward, batch, loss, ranking, suspect="visual", margin=10.0).item() == 0.0
