"""Reading nodes off a convolution without computing the channels that they do not look at.

What a node reads is linear in the convolution's output, and that is linear in its input: both together are one
convolution with a single channel, whose kernel is the weighted sum of the kernels. Nodes side by side are one
convolution with a channel for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Fused:
    """A convolution that gives what m nodes read.

    Attributes:
        convolution: Whose stride, padding and dilation it has.
        kernel: (m, C_in, kh, kw).
        offset: (m,).
        places: (m, h, w): of each place of the maps in each node; None: their mean.
    """

    convolution: nn.Conv2d
    kernel: Tensor
    offset: Tensor
    places: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """x: (n, C_in, h, w), what goes into the convolution, the copies of each node in turn. Returns (n,)."""
        like = self.convolution
        maps = F.conv2d(x, self.kernel, None, like.stride, like.padding, like.dilation)
        read = maps.mean(dim=(2, 3)) if self.places is None else (maps * self.places).sum(dim=(2, 3))
        nodes = len(self.kernel)
        own = read.view(nodes, -1, nodes).diagonal(dim1=0, dim2=2).T  # (m, copies): each row, its own node
        return (own + self.offset[:, None]).flatten()


@torch.no_grad()
def fuse(convolution: nn.Conv2d, affine: Affine | None, weights: Sequence[Tensor]) -> Fused:
    """Of several nodes.

    Args:
        convolution: Frozen.
        affine: Of a BatchNorm that was folded into the convolution and is not part of the layer.
        weights: Of Readouts of its output, (C,) or (C, h, w) each.
    """
    like = convolution.weight
    given = [each.to(like) for each in weights]
    channels = torch.stack([each if each.ndim == 1 else each.sum(dim=(1, 2)) for each in given])
    shape = next((each.shape[1:] for each in given if each.ndim == 3), None)
    places = None
    if shape is not None:  # a unit is in one place; the others are means
        mean = like.new_full(shape, 1 / shape.numel())
        places = torch.stack([mean if each.ndim == 1 else (each.abs().sum(dim=0) > 0).to(like) for each in given])
    offset = like.new_zeros(len(given))
    if affine is not None:
        inverse = torch.where(affine.scale == 0, 0, 1 / affine.scale).to(like).flatten()
        offset = -(channels * inverse * affine.shift.to(like).flatten()).sum(dim=1)
        channels = channels * inverse
    if convolution.bias is not None:
        offset = offset + (channels * convolution.bias).sum(dim=1)
    kernel = torch.tensordot(channels, convolution.weight, dims=1)
    return Fused(convolution, kernel.contiguous(memory_format=torch.channels_last), offset, places)
