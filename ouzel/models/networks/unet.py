"""U-Net over the features of a classifier of timm: a light decoder that goes back to the size of the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Channels of the decoder's levels, the finest first; a level beyond them has as many as the last one.
WIDTHS = (16, 32, 64, 128, 256)


class UNet(nn.Module):
    """A segmentation network: (B, C, H, W) to logits (B, K, H, W).

    `backbone` is the classifier of timm without its head and what only the head needs. The names below `backbone.` are
    those that the classifier itself has, so that its weights fit by name.

    Args:
        backbone: A network of timm with `forward_intermediates`.
        indices: Which of its intermediate features are used, the finest first.
        channels: Of each of them.
        num_classes: K.

    References:
        Ronneberger, Fischer, Brox 2015, "U-Net: Convolutional networks for biomedical image segmentation", arXiv
        1505.04597. Here with padded convolutions, BatchNorm and enlargement to the nearest pixel.
    """

    def __init__(self, backbone: nn.Module, indices: Sequence[int], channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.backbone, self._indices = backbone, list(indices)
        widths = [WIDTHS[min(level, len(WIDTHS) - 1)] for level in range(len(channels) - 1)]
        below = [*widths[1:], channels[-1]]  # what comes up from the next coarser level
        self.decoder = nn.ModuleList(
            _Block(deep + skip, width)
            for deep, skip, width in reversed(list(zip(below, channels[:-1], widths, strict=True)))
        )
        self.head = nn.Conv2d(widths[0] if widths else channels[-1], num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        *skips, deep = self.backbone.forward_intermediates(  # type: ignore[operator]  # a method of timm's networks
            x, indices=self._indices, norm=False, output_fmt="NCHW", intermediates_only=True
        )
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            deep = F.interpolate(deep, size=skip.shape[-2:], mode="nearest")
            deep = block(torch.cat([deep, skip], dim=1))
        logits: Tensor = self.head(deep)
        return F.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)


class _Block(nn.Sequential):
    """Two convolutions, each with its BatchNorm and rectifier."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )


def over_timm(name: str, num_classes: int, in_channels: int) -> UNet:
    """A U-Net over a classifier of timm, with random weights.

    Args:
        name: Of the classifier, as timm has it.
        num_classes: K.
        in_channels: C.

    Raises:
        TypeError: timm gives no features of this network.
        RuntimeError: The same.
    """
    import timm

    features: Any = timm.create_model(
        name, pretrained=False, in_chans=in_channels, features_only=True, feature_cls="getter"
    )
    if not hasattr(features.model, "forward_intermediates"):
        raise TypeError(f"timm's {name} gives no intermediate features")
    return UNet(features.model, features.out_indices, features.feature_info.channels(), num_classes)
