"""Guided Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391): the guided gradient where Grad-CAM looks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch.nn.functional as F

from ouzel.saliency.method import Attribution, GradientSpec, Rows
from ouzel.saliency.methods.grad_cam import GradCam
from ouzel.saliency.methods.guided import Guided


@dataclass(frozen=True)
class GuidedGradCam(GradCam):
    """Guided Grad-CAM: the guided gradient, weighted by the Grad-CAM map.

    Attributes:
        layer: As of Grad-CAM.
        variant: As of guided.

    References:
        Selvaraju et al. 2017, arXiv 1610.02391.
    """

    variant: str = "rectifiers"
    name: ClassVar[str] = "guided_grad_cam"
    caveats: ClassVar[tuple[str, ...]] = Guided.caveats

    def __post_init__(self) -> None:
        Guided(self.variant)  # checks it

    def gradient_specs(self) -> tuple[GradientSpec, ...]:
        return (*Guided(self.variant).gradient_specs(), *super().gradient_specs())

    def attribute(self, rows: Rows) -> Attribution:
        guided = Guided(self.variant).attribute(rows)
        size = guided.values.shape[-2:]
        cam = F.interpolate(self.layer_map(rows)[:, None], size=size, mode="bilinear", align_corners=False)
        return replace(guided, values=guided.values * cam)
