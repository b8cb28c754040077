"""What keeps an image from being noise."""

from __future__ import annotations

import torch
from torch import Tensor


def total_variation(images: Tensor, beta: float = 2.0) -> Tensor:
    """The sum of ((d/du x)^2 + (d/dv x)^2)^(beta / 2), divided by C H W.

    Args:
        images: (n, C, H, W). Differences are to the right and downward, 0 at the far edges.
        beta: The exponent, above 0.

    Returns:
        (n,).

    References:
        Mahendran and Vedaldi 2015, arXiv 1412.0035.
    """
    right = torch.zeros_like(images)
    down = torch.zeros_like(images)
    right[..., :, :-1] = images[..., :, 1:] - images[..., :, :-1]
    down[..., :-1, :] = images[..., 1:, :] - images[..., :-1, :]
    squares = right.square() + down.square()
    # A power below 1 of exactly 0 has no derivative.
    energy = squares if beta == 2 else (squares + 1e-12) ** (beta / 2)
    return energy.flatten(1).mean(dim=1)


def norm(images: Tensor, p: float = 6.0) -> Tensor:
    """(n,): the mean of |2 x - 1|^p: how far values in [0, 1] are from grey, 1 for black and white."""
    return (2 * images - 1).abs().pow(p).flatten(1).mean(dim=1)


def alikeness(features: Tensor) -> Tensor:
    """Mean cosine similarity of the Gram matrices of different images: 1 if all are alike.

    Args:
        features: (images, C, ...) with at least two images.

    Returns:
        A scalar.

    References:
        Olah et al. 2017, "Feature visualization", Distill.
    """
    flat = features.flatten(2) if features.ndim > 2 else features[:, :, None]
    grams = (flat @ flat.transpose(1, 2)).flatten(1)
    grams = grams / grams.norm(dim=1, keepdim=True).clamp_min(1e-12)
    count = len(grams)
    return ((grams @ grams.T).sum() - count) / (count * (count - 1))
