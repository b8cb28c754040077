"""What segmentation minimises: cross-entropy of the pixels, and Dice of the classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ouzel.finetune.variation import Views
from ouzel_protos.label_maps import IGNORED

_SMOOTH = 1.0  # pixels; keeps the quotient of small classes steady


@dataclass(frozen=True)
class PixelLoss:
    """The mean cross-entropy of an image's pixels, plus `dice` times one minus the mean soft Dice of its classes.

    Classes that an image does not have count in the cross-entropy alone. Pixels of the class 255 count in neither. The
    loss of an image depends on no other image of the batch.

    References:
        Milletari, Navab, Ahmadi 2016, arXiv 1606.04797.
    """

    dice: float = 1.0

    def inputs(self, varied: Tensor) -> Tensor:
        """(B, C, H, W): without the labels, which are the last channel."""
        return varied[:, :-1]

    def __call__(self, output: Tensor, varied: Tensor, views: Views | None = None) -> Tensor:
        """(B,). output: (B, K, H, W); varied: (B, C + 1, H, W)."""
        return pixel_losses(output, varied[:, -1].long(), self.dice)


def pixel_losses(logits: Tensor, labels: Tensor, dice: float) -> Tensor:
    """(B,). See `PixelLoss`. logits: (B, K, H, W); labels: (B, H, W) int64, 255 where they do not count."""
    counts = labels != IGNORED
    pixels = counts.sum((1, 2))
    log = F.log_softmax(logits, 1)
    losses = F.nll_loss(log, labels, ignore_index=IGNORED, reduction="none").sum((1, 2)) / pixels.clamp(min=1)
    if not dice:
        return losses
    classes = torch.arange(logits.shape[1], device=logits.device)
    truth = labels[:, None] == classes[:, None, None]  # 255 is none of them
    said = log.exp() * counts[:, None]
    both, sizes = (said * truth).sum((2, 3)), truth.sum((2, 3))
    share = (2 * both + _SMOOTH) / (said.sum((2, 3)) + sizes + _SMOOTH)
    present = sizes > 0
    mean = (share * present).sum(1) / present.sum(1).clamp(min=1)
    return losses + dice * (1 - mean) * (pixels > 0)
