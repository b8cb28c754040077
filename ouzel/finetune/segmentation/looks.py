"""What a segmentation network looked at: maps of a class, over the pixels that it gave to that class."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ouzel import models
from ouzel.finetune.segmentation.segmented import Segmented
from ouzel.saliency import Explainer, Saliency
from ouzel.saliency.layer_method import FINE
from ouzel_protos import heatmap

_BACKBONE = "backbone."


class Looks:
    """Predictions and maps of a network, on a device.

    Grad-CAM of the deepest layer of the backbone with six places or more along each edge, as for classifiers; the
    gradient, if there is none. What is differentiated is the mean logit of the class over the pixels that have it (Seg-
    Grad-CAM: Vinogradova, Dibrov, Myers 2020, arXiv 2002.11434).

    Attributes:
        sentence: What the maps are of.
    """

    def __init__(self, made: Segmented, device: torch.device) -> None:
        self._network = copy.deepcopy(made.network).to(device)
        self._device = device
        layer = _deepest(self._network, made)
        self._explainer = Explainer(self._network)
        self._request = Saliency("grad_cam", layer=layer) if layer else Saliency("gradient")
        of = f"Grad-CAM of the layer {layer}" if layer else "the gradient"
        self.sentence = (
            f"Maps: {of}, for the class that most wrong pixels were given, over all pixels that were given it."
        )

    @models.computing()
    @torch.no_grad()
    def predicted(self, x: Tensor) -> np.ndarray:
        """(H, W) int64, the class of each pixel. x: (1, C, H, W), normalised."""
        return self._network(x.to(self._device))[0].argmax(0).cpu().numpy()

    def over(self, x: Tensor, label: int, picture: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8: the map of a class over a picture (H, W, 3)."""
        values = self._explainer(x.to(self._device), [self._request.with_target(label)]).maps[0].values[0].float().cpu()
        whole = F.interpolate(values[None, None], picture.shape[:2], mode="bilinear", align_corners=False)[0, 0]
        return heatmap.blend(picture, whole.numpy())


def _deepest(network: nn.Module, made: Segmented) -> str:
    """The last layer of the backbone with maps that are fine enough; "" if there is none."""
    device = next(network.parameters()).device
    example = torch.zeros(1, made.preprocessing.channels, *made.preprocessing.input_size, device=device)
    with torch.no_grad():
        layers = models.layers(network, example)
    fine = [
        each.name
        for each in layers
        if each.name.startswith(_BACKBONE) and each.shape and len(each.shape) == 3 and min(each.shape[1:]) >= FINE
    ]
    return fine[-1] if fine else ""
