"""LayerCAM (Jiang et al. 2021, doi 10.1109/TIP.2021.3089943): each place of a layer by its own positive gradient.

Unlike Grad-CAM it keeps its sense in early, finely resolved layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ouzel.saliency.layer_method import LayerMethod


@dataclass(frozen=True)
class LayerCam(LayerMethod):
    """LayerCAM: each place of a layer, weighted by its own positive gradient.

    Attributes:
        layer: See `LayerMethod`.

    References:
        Jiang et al. 2021, "LayerCAM: Exploring hierarchical class activation maps for localization", doi
        10.1109/TIP.2021.3089943.
    """

    name: ClassVar[str] = "layer_cam"

    def weigh(self, activation: Tensor, gradient: Tensor) -> Tensor:
        return (gradient.relu() * activation).sum(dim=1).relu()
