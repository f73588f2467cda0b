"""Structural similarity of images, as measurement and as loss, and what trivial reconstructions reach."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03


def ssim(images: Tensor, references: Tensor) -> Tensor:
    """SSIM of each image: Gaussian window of 11 pixels, sigma 1.5, data range fixed at 1.0, population covariance.

    Averaged over channels and over the places where the window fits wholly in the image, as the paper's own code
    does (and scikit-image with `gaussian_weights=True, use_sample_covariance=False, data_range=1`). Differentiable.

    Args:
        images, references: `[N, C, H, W]` float in [0, 1]; H and W at least 11.

    Returns:
        `[N]` in [-1, 1], of the images' dtype.

    Raises:
        ValueError: shapes differ, integers, or an image smaller than the window.

    References:
        Wang, Bovik, Sheikh and Simoncelli 2004, "Image quality assessment: from error visibility to SSIM".
    """
    if images.ndim != 4 or images.shape != references.shape:
        raise ValueError(f"expected two batches [N, C, H, W], got {tuple(images.shape)} and {tuple(references.shape)}")
    if not (images.is_floating_point() and references.is_floating_point()):
        raise ValueError("images must be floats in [0, 1]: divide bytes by 255")
    if min(images.shape[-2:]) < WINDOW:
        raise ValueError(f"images must be at least {WINDOW} pixels a side, got {tuple(images.shape[-2:])}")
    moments = torch.cat([images, references, images * images, references * references, images * references], dim=1)
    mean_x, mean_y, square_x, square_y, product = _smooth(moments).chunk(5, dim=1)
    variance_x, variance_y = square_x - mean_x * mean_x, square_y - mean_y * mean_y
    covariance = product - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + K1**2) / (mean_x * mean_x + mean_y * mean_y + K1**2)
    structure = (2 * covariance + K2**2) / (variance_x + variance_y + K2**2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def blank_pictures(pictures: Tensor) -> Tensor:
    """`[N]` bool: which of `[N, C, H, W]`, bytes or floats in [0, 1], are white all over: an item without a picture."""
    return pictures.flatten(1).amin(dim=1) >= (1.0 if pictures.is_floating_point() else 255)


def mean_image_ssim(images: Tensor, gallery: Tensor) -> Tensor:
    """SSIM of each image with the gallery's (the training split's) mean image: `[N, C, H, W]`, `[G, C, H, W]` -> `[N]`.

    A decoder that ignores its input reaches this.
    """
    return ssim(images, gallery.mean(0, keepdim=True).expand_as(images))


def nearest_neighbour_ssim(
    images: Tensor, gallery: Tensor, *, keys: Tensor | None = None, gallery_keys: Tensor | None = None
) -> Tensor:
    """SSIM of each image with its nearest neighbour in the gallery (Euclidean): what looking up reaches.

    Args:
        images, gallery: `[N, C, H, W]`, `[G, C, H, W]`.
        keys, gallery_keys: `[N, D]`, `[G, D]`, where nearness is measured, say the features that the decoder reads;
            None: pixels, which only a lookup that has seen the answer could use.

    Returns:
        `[N]`.

    Raises:
        ValueError: one side's keys are missing, or as `ssim`.
    """
    if (keys is None) != (gallery_keys is None):
        raise ValueError("give keys for both sides or for neither")
    left = images.flatten(1) if keys is None else keys
    right = gallery.flatten(1) if gallery_keys is None else gallery_keys
    nearest = torch.cat([torch.cdist(part, right).argmin(1) for part in torch.split(left, 256)])
    return ssim(images, gallery[nearest])


def _smooth(images: Tensor) -> Tensor:
    """Gaussian-weighted local means where the window fits: `[N, C, H, W]` -> `[N, C, H - 10, W - 10]`."""
    offsets = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    channels = images.shape[1]
    rows = functional.conv2d(images, weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return functional.conv2d(rows, weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
