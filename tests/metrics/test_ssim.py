from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from torch import Tensor

from fusion_models.metrics import mean_image_ssim, nearest_neighbour_ssim, ssim


def images(seed: int, count: int = 4, channels: int = 3, height: int = 24, width: int = 19) -> Tensor:
    """Blocky, so that there is structure."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 5, 5, generator=generator, dtype=torch.float64)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")


@pytest.mark.parametrize("channels", [1, 3])
def test_equals_scikit_image(channels: int) -> None:
    a = images(0, channels=channels)
    noise = torch.randn(a.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    b = (a + torch.tensor([0.0, 0.02, 0.1, 0.5]).view(4, 1, 1, 1) * noise).clamp(0, 1)
    found = ssim(a, b)
    for i in range(4):
        expected = structural_similarity(
            a[i].numpy(),
            b[i].numpy(),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert float(found[i]) == pytest.approx(expected, abs=1e-9)
    assert float(found[0]) == pytest.approx(1.0)
    assert float(found[3]) < 0.5


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_symmetric_bounded_and_blind_to_flips(seed: int) -> None:
    a, b = images(seed), images(seed + 1)
    found = ssim(a, b)
    assert bool((found.abs() <= 1 + 1e-12).all())
    torch.testing.assert_close(ssim(b, a), found)
    torch.testing.assert_close(ssim(a.flip(-1), b.flip(-1)), found)
    torch.testing.assert_close(ssim(a[[2, 0]], b[[2, 0]]), found[[2, 0]])
    torch.testing.assert_close(ssim(a, a), torch.ones(4, dtype=torch.float64))


def test_float32_is_close_and_gradients_are_right() -> None:
    a, b = images(3), images(4)
    torch.testing.assert_close(ssim(a.float(), b.float()).double(), ssim(a, b), atol=1e-4, rtol=0)
    small, other = images(5, 1, 1, 12, 12).requires_grad_(), images(6, 1, 1, 12, 12)
    assert torch.autograd.gradcheck(lambda x: ssim(x, other), small)


def test_climbing_the_loss_restores_the_image() -> None:
    target, guess = images(7, 1), torch.full((1, 3, 24, 19), 0.5, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([guess], lr=0.05)
    for _ in range(80):
        optimiser.zero_grad()
        (1 - ssim(guess, target)).sum().backward()
        optimiser.step()
    assert float(ssim(guess.detach(), target)) > 0.9


def test_references_against_loops() -> None:
    found, gallery = images(8, 5), images(9, 300)
    gallery[123] = (found[2] + 0.01).clamp(0, 1)
    mean = gallery.mean(0)
    torch.testing.assert_close(mean_image_ssim(found, gallery), torch.cat([ssim(x[None], mean[None]) for x in found]))
    nearest = [int(np.argmin([float((x - y).square().sum()) for y in gallery])) for x in found]
    assert nearest[2] == 123
    torch.testing.assert_close(nearest_neighbour_ssim(found, gallery), ssim(found, gallery[nearest]))
    keys, gallery_keys = torch.tensor([[0.0], [9], [1], [2], [3]]), torch.arange(300.0).view(-1, 1)
    by_key = nearest_neighbour_ssim(found, gallery, keys=keys, gallery_keys=gallery_keys)
    torch.testing.assert_close(by_key, ssim(found, gallery[[0, 9, 1, 2, 3]]))
    with pytest.raises(ValueError, match="both sides"):
        nearest_neighbour_ssim(found, gallery, keys=keys)


def test_errors() -> None:
    with pytest.raises(ValueError, match="divide bytes"):
        ssim(torch.zeros(1, 1, 16, 16, dtype=torch.uint8), torch.zeros(1, 1, 16, 16, dtype=torch.uint8))
    with pytest.raises(ValueError, match="at least 11"):
        ssim(torch.zeros(1, 1, 10, 16), torch.zeros(1, 1, 10, 16))
    with pytest.raises(ValueError, match="two batches"):
        ssim(torch.zeros(1, 1, 16, 16), torch.zeros(2, 1, 16, 16))
