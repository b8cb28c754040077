"""torchvision's segmentation networks, which answer a dict, as networks that answer one tensor."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

AUXILIARY = "aux_classifier."  # begins the names of a second head, which is of training alone


class Dense(nn.Module):
    """FCN, DeepLabV3 or LR-ASPP of torchvision: (B, C, H, W) to logits (B, K, H, W).

    Layers have the names that they have in torchvision; the auxiliary head is left out.

    Args:
        network: Of `torchvision.models.segmentation`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.backbone, self.classifier = network.backbone, network.classifier
        self._takes_all = "high_classifier" in dict(network.classifier.named_children())  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        """The logits, as torchvision has them under "out"."""
        features = self.backbone(x)  # type: ignore[operator]  # a module, as its type does not say
        logits = self.classifier(features if self._takes_all else features["out"])  # type: ignore[operator]
        return F.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)
