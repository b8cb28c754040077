"""Grad-CAM++ (Chattopadhyay et al. 2018, arXiv 1710.11063): Grad-CAM whose weights favour the pixels that matter.

The second and third derivatives of the paper are those of exp(score), for which they are powers of the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ouzel.saliency.layer_method import LayerMethod


@dataclass(frozen=True)
class GradCamPlusPlus(LayerMethod):
    """Grad-CAM++: Grad-CAM whose weights favour the pixels that matter.

    Attributes:
        layer: See `LayerMethod`.

    References:
        Chattopadhyay et al. 2018, "Grad-CAM++: Improved visual explanations for deep convolutional networks", arXiv
        1710.11063.
    """

    name: ClassVar[str] = "grad_cam_plus_plus"

    def weigh(self, activation: Tensor, gradient: Tensor) -> Tensor:
        denominator = 2 * gradient**2 + activation.sum(dim=(2, 3), keepdim=True) * gradient**3
        alpha = torch.where(denominator != 0, gradient**2 / denominator, 0)
        weights = (alpha * gradient.relu()).sum(dim=(2, 3), keepdim=True)
        return (weights * activation).sum(dim=1).relu()
