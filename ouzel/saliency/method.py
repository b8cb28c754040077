"""The interface that every saliency method fits.

A method is a frozen dataclass: its fields are its parameters, with their defaults; equal methods share their work. It
says which gradients it `wants` from the pass that all methods of a call share, and turns them into a map. A method that
needs other inputs as well (noise, baselines, masks) asks its rows for further passes with `rows.at`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

from torch import Tensor

from ouzel.saliency.targets import ResolvedTarget

Rule = Literal["plain", "guided"]


@dataclass(frozen=True)
class Want:
    """A gradient of the target with respect to the input (layer None) or to a layer's output, under a rule."""

    rule: Rule = "plain"
    layer: str | None = None


@dataclass(frozen=True)
class Attribution:
    """values: (n, C, H, W), or (n, h, w) at any resolution. measures: figures of (n,), by name."""

    values: Tensor
    measures: Mapping[str, Tensor] = field(default_factory=dict)


class Rows(Protocol):
    """The rows of a batch that one method explains, one target each; n may exceed the batch's size."""

    x: Tensor  # (n, C, H, W), as the model takes it
    logits: Tensor  # (n, K)
    targets: tuple[ResolvedTarget, ...]
    rectifiers: int  # rectifiers that the guided rule acted on

    def gradient(self, want: Want) -> Tensor:
        """(n, ...) gradient that the method said it wants."""

    def activation(self, layer: str) -> Tensor:
        """(n, ...) output of a layer that the method said it wants a gradient of."""

    def at(self, x: Tensor) -> Rows:
        """The same targets at other inputs: x is (m * n, C, H, W), m blocks of n rows."""


class Method(Protocol):
    name: ClassVar[str]
    caveats: ClassVar[tuple[str, ...]]

    def wants(self) -> tuple[Want, ...]:
        """The gradients that the method takes from the shared pass."""

    def bind(self, cam_layer: str) -> Method:
        """The method with every default that depends on the model filled in."""

    def attribute(self, rows: Rows) -> Attribution:
        """Explain the rows."""
