"""Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391): channels of a layer, weighted by their mean gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ouzel.saliency.layer_method import LayerMethod


@dataclass(frozen=True)
class GradCam(LayerMethod):
    """Grad-CAM: the channels of a layer, weighted by their mean gradient; what speaks against the target is cut off.

    Attributes:
        layer: See `LayerMethod`.

    References:
        Selvaraju et al. 2017, "Grad-CAM: Visual explanations from deep networks via gradient-based localization", arXiv
        1610.02391.
    """

    name: ClassVar[str] = "grad_cam"

    def weigh(self, activation: Tensor, gradient: Tensor) -> Tensor:
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        return (weights * activation).sum(dim=1).relu()
