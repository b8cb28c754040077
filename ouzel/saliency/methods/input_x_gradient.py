"""Input x gradient (Shrikumar et al. 2016, arXiv 1605.01713): each pixel's share in a linear reading of the score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ouzel.saliency.method import Attribution, Method, Rows, Want

_INPUT = Want()


@dataclass(frozen=True)
class InputXGradient(Method):
    name: ClassVar[str] = "input_x_gradient"
    caveats: ClassVar[tuple[str, ...]] = (
        "The input counts as the model takes it, normalised: a pixel of the mean colour counts as zero.",
    )

    def wants(self) -> tuple[Want, ...]:
        return (_INPUT,)

    def attribute(self, rows: Rows) -> Attribution:
        return Attribution(rows.x * rows.gradient(_INPUT))
