"""Gradient saliency (Simonyan, Vedaldi, Zisserman 2014, arXiv 1312.6034): how the score moves with each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ouzel.saliency.method import Attribution, Rows, Want

_INPUT = Want()


@dataclass(frozen=True)
class Gradient:
    name: ClassVar[str] = "gradient"
    caveats: ClassVar[tuple[str, ...]] = ()

    def wants(self) -> tuple[Want, ...]:
        return (_INPUT,)

    def bind(self, cam_layer: str) -> Gradient:
        return self

    def attribute(self, rows: Rows) -> Attribution:
        return Attribution(rows.gradient(_INPUT))
