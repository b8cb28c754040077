"""Reading a node off a convolution without computing the channels that it does not look at.

What a node reads is linear in the convolution's output, and that is linear in its input: both together are one
convolution with a single channel, whose kernel is the weighted sum of the kernels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ouzel.saliency.engine.folding import Affine


def can_fuse(module: nn.Module) -> bool:
    """Whether it is a plain convolution: none of groups, other paddings, parametrizations, or hooks of its own."""
    return (
        type(module) is nn.Conv2d
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not module._forward_hooks
        and not module._forward_pre_hooks
    )


def read(x: Tensor, convolution: nn.Conv2d, affine: Affine | None, weights: Tensor) -> Tensor:
    """x: (n, C_in, h, w), what goes into the convolution. weights: of a Readout of its output, (C,) or (C, h, w).

    affine: of a BatchNorm that was folded into the convolution and is not part of the layer. Returns (n,).
    """
    place = None
    weights = weights.to(x)
    if weights.ndim == 3:
        place = tuple(int(i) for i in weights.abs().sum(dim=0).nonzero()[0])
        weights = weights[:, place[0], place[1]]
    offset = x.new_zeros(())
    if affine is not None:
        inverse = torch.where(affine.scale == 0, 0, 1 / affine.scale).to(x).flatten()
        offset = -(weights * inverse * affine.shift.to(x).flatten()).sum()
        weights = weights * inverse
    if convolution.bias is not None:
        offset = offset + (weights * convolution.bias).sum()
    kernel = torch.tensordot(weights, convolution.weight, dims=1)[None]
    maps = F.conv2d(x, kernel, None, convolution.stride, convolution.padding, convolution.dilation)[:, 0]
    return (maps.mean(dim=(1, 2)) if place is None else maps[:, place[0], place[1]]) + offset
