"""What stands for "nothing to see": the images that others are compared with, (n, C, H, W) as the model takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ouzel.saliency.method import Rows

BLUR_SHARE = 1 / 16  # of the shorter side: standard deviation of the blur


def baseline_of(name: str, rows: Rows) -> Tensor:
    """The baseline of this name for each row."""
    return BASELINES[name](rows)


def constant(colour: Sequence[float], x: Tensor) -> Tensor:
    """An image of one colour, (C,), in the shape of x."""
    return torch.tensor(colour, dtype=x.dtype, device=x.device)[None, :, None, None].expand_as(x)


def blurred(x: Tensor) -> Tensor:
    """x under a Gaussian blur that leaves no object recognisable; edges are mirrored."""
    sigma = max(min(x.shape[-2:]) * BLUR_SHARE, 0.5)
    radius = min(int(3 * sigma + 0.5), min(x.shape[-2:]) - 1)
    places = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-(places**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    padded = F.pad(x, (radius, radius, radius, radius), mode="reflect")
    across = F.conv2d(padded, kernel[:, :, None, :], groups=x.shape[1])
    return F.conv2d(across, kernel[:, :, :, None], groups=x.shape[1])


BASELINES: dict[str, Callable[[Rows], Tensor]] = {
    "black": lambda rows: constant(rows.facts.black, rows.x),
    "white": lambda rows: constant(rows.facts.white, rows.x),
    "blur": lambda rows: blurred(rows.x),
    "mean": lambda rows: rows.x.mean(dim=(2, 3), keepdim=True).expand_as(rows.x),
}
