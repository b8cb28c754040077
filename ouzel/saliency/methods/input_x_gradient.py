"""Input x gradient (Shrikumar et al. 2016, arXiv 1605.01713): each pixel's share in a linear reading of the score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ouzel.saliency.method import Attribution, GradientSpec, Method, Rows

_INPUT = GradientSpec()


@dataclass(frozen=True)
class InputXGradient(Method):
    """The input, as the model takes it, times its gradient. It has no parameters.

    References:
        Shrikumar et al. 2016, "Not just a black box", arXiv 1605.01713.
    """

    name: ClassVar[str] = "input_x_gradient"
    caveats: ClassVar[tuple[str, ...]] = (
        "The input counts as the model takes it, normalised: a pixel of the mean colour counts as zero.",
    )

    def gradient_specs(self) -> tuple[GradientSpec, ...]:
        return (_INPUT,)

    def attribute(self, rows: Rows) -> Attribution:
        return Attribution(rows.x * rows.gradient(_INPUT))
