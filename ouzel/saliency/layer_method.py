"""What the methods that look at a layer share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from ouzel.errors import FailedPrecondition
from ouzel.saliency.method import Attribution, GradientSpec, Method, ModelFacts, Rows

FINE = 6  # places along the shorter edge of a map; the 3 x 3 that a deep layer leaves of 96 pixels are fog


@dataclass(frozen=True)
class LayerMethod(Method):
    """Base of the methods that look at a layer.

    Attributes:
        layer: A layer with maps, (B, c, h, w) or (B, h, w, c), or with tokens of the whole image; "" is the last one
            before the spatial pooling.
    """

    layer: str = ""

    def gradient_specs(self) -> tuple[GradientSpec, ...]:
        return (GradientSpec(layer=self.layer),)

    def bind(self, facts: ModelFacts) -> Self:
        if self.layer:
            return self
        if not facts.cam_layer:
            raise FailedPrecondition(
                "layer: the model has no feature map to look at by default; name a layer", field="layer"
            )
        return replace(self, layer=facts.cam_layer)

    def attribute(self, rows: Rows) -> Attribution:
        values = self.layer_map(rows)
        return Attribution(values, caveats=_coarse(values, self.layer))

    def layer_map(self, rows: Rows) -> Tensor:
        """(n, h, w) map at the layer's resolution."""
        return self.weigh(rows.activation(self.layer), rows.gradient(GradientSpec(layer=self.layer)))

    def weigh(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """(n, h, w) from two (n, c, h, w)."""
        raise NotImplementedError


def _coarse(values: Tensor, layer: str) -> tuple[str, ...]:
    height, width = values.shape[-2:]
    if min(height, width) >= FINE:
        return ()
    return (f"coarse: {layer} has {width} x {height} places for the whole image; choose another layer",)
