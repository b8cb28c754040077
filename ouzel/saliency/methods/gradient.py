"""Gradient saliency (Simonyan, Vedaldi, Zisserman 2014, arXiv 1312.6034): how the score moves with each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ouzel.saliency.method import Attribution, GradientSpec, Method, Rows

_INPUT = GradientSpec()


@dataclass(frozen=True)
class Gradient(Method):
    """The gradient of the target with respect to the image. It has no parameters.

    References:
        Simonyan, Vedaldi, Zisserman 2014, "Deep inside convolutional networks", arXiv 1312.6034.
    """

    name: ClassVar[str] = "gradient"

    def gradient_specs(self) -> tuple[GradientSpec, ...]:
        return (_INPUT,)

    def attribute(self, rows: Rows) -> Attribution:
        return Attribution(rows.gradient(_INPUT))
