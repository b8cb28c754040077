"""Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391): channels of a layer, weighted by their mean gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ouzel.errors import InvalidArgument
from ouzel.saliency.method import Attribution, Method, Rows, Want


@dataclass(frozen=True)
class GradCam(Method):
    """layer: name of a layer with output (B, c, h, w); by default the last one before the spatial pooling."""

    layer: str = ""
    name: ClassVar[str] = "grad_cam"

    def wants(self) -> tuple[Want, ...]:
        return (Want(layer=self.layer),)

    def bind(self, cam_layer: str) -> GradCam:
        return self if self.layer else replace(self, layer=cam_layer)

    def attribute(self, rows: Rows) -> Attribution:
        activation = rows.activation(self.layer)
        if activation.ndim != 4:
            raise InvalidArgument(
                f"layer: {self.layer!r} gives shape {tuple(activation.shape[1:])} per image, grad_cam needs (c, h, w)",
                field="layer",
            )
        weights = rows.gradient(Want(layer=self.layer)).mean(dim=(2, 3), keepdim=True)
        return Attribution((weights * activation).sum(dim=1).relu())
