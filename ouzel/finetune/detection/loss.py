"""What detection minimises: the loss of SSD, as torchvision has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor

from ouzel.finetune.detection.network import Learner
from ouzel.finetune.detection.variation import BoxedViews
from ouzel.finetune.variation import Views

_OVERLAP = 0.5  # from which on an anchor is an object's
_NEGATIVES = 3  # anchors of the background that count, for each of an object


@dataclass(frozen=True)
class BoxLoss:
    """Smooth L1 of the boxes, and cross-entropy of the classes.

    Of the anchors of the background those count that are most wrong, three for each anchor of an object. The sum of a
    batch is divided by the number of anchors of objects, so the loss of an image depends on the others.

    References:
        Liu et al. 2016, "SSD: Single shot multibox detector", arXiv 1512.02325.
    """

    network: Learner

    def inputs(self, varied: Tensor) -> Tensor:
        """The images as they are."""
        return varied

    def __call__(self, output: Tensor, varied: Tensor, views: Views | None = None) -> Tensor:
        """(B,), each the loss of the batch. output: (B, N, K + 4)."""
        assert isinstance(views, BoxedViews)
        return box_loss(self.network, output, views.targets()).expand(len(output))


def box_loss(network: Learner, output: Tensor, targets: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """The loss of a batch. output: (B, N, K + 4); targets: boxes, in pixels of the input, and labels of each image."""
    from torchvision.models.detection._utils import SSDMatcher
    from torchvision.models.detection.ssd import SSD
    from torchvision.ops import box_iou

    logits, deltas = output.split([network.detector.classes, 4], 2)
    anchors = network.anchors.to(output.dtype)
    matcher, matched = SSDMatcher(_OVERLAP), []
    for one in targets:
        if len(one["boxes"]):
            matched.append(matcher(box_iou(one["boxes"], anchors)))
        else:
            matched.append(torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device))
    of = SimpleNamespace(box_coder=network.detector.coder, neg_to_pos_ratio=_NEGATIVES)
    outputs = {"cls_logits": logits, "bbox_regression": deltas}
    losses = SSD.compute_loss(of, targets, outputs, [anchors] * len(output), matched)
    total: Tensor = losses["bbox_regression"] + losses["classification"]
    return total
