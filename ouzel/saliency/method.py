"""The interface that every saliency method fits.

A method is a frozen dataclass: its fields are its parameters, with their defaults; equal methods share their work.
`gradient_specs` names the gradients that it takes from the pass that all methods of a call share; `attribute` turns
them into a map. A method that needs other inputs as well (noise, baselines, masks) asks its rows for further passes
with `rows.evaluate_at`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, Self

from torch import Tensor

Rule = Literal["plain", "guided", "smooth"]  # see `ouzel.saliency.engine.rectifiers`


@dataclass(frozen=True)
class GradientSpec:
    """A gradient of the target, under a rule.

    Attributes:
        rule: How rectifiers pass it on, see `ouzel.saliency.engine.rectifiers`.
        layer: With respect to this layer's output; None is the input.
    """

    rule: Rule = "plain"
    layer: str | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What a method may need to know of the model.

    Attributes:
        cam_layer: The layer that Grad-CAM looks at by default; "" if there is none.
        black: (C,) of a black pixel, as the model takes it.
        white: (C,) of a white pixel, as the model takes it.
        unfolded: Why its BatchNorms were not folded into convolutions; "" if they were, or there are none.
    """

    cam_layer: str
    black: tuple[float, ...]
    white: tuple[float, ...]
    unfolded: str = ""


@dataclass(frozen=True)
class Attribution:
    """What a method says of its rows.

    Attributes:
        values: (n, C, H, W), or (n, h, w) at any resolution.
        measures: Figures of (n,), by name.
        rectified: Activations whose backward pass the method changed.
        caveats: Those of this model, beside the method's.
    """

    values: Tensor
    measures: Mapping[str, Tensor] = field(default_factory=dict)
    rectified: int = 0
    caveats: tuple[str, ...] = ()


class Rows(Protocol):
    """The rows of a batch that one method explains, one target each; n may exceed the batch's size.

    What it gives are tensors of all rows on the model's device. A method does the same number of operations however
    many rows there are, and looks at no value, which would wait for the device.
    """

    @property
    def x(self) -> Tensor:
        """(n, C, H, W), as the model takes it."""

    @property
    def logits(self) -> Tensor:
        """(n, K), or (n, K, H, W) of a network that answers each pixel."""

    @property
    def rectifiers(self) -> int:
        """How many rectifiers the guided rules act on."""

    @property
    def smooth_activations(self) -> Mapping[str, int]:
        """How many activations the rule "smooth" acts on beside, by name."""

    @property
    def facts(self) -> ModelFacts:
        """Of the model."""

    def score(self) -> Tensor:
        """(n,) what is explained: each row's target, a logit or a difference of two, or their mean over a region."""

    def probability(self) -> Tensor:
        """(n,) the same of the probabilities, see `ouzel.models.probabilities`."""

    def gradient(self, spec: GradientSpec) -> Tensor:
        """(n, ...) one of the gradients of `gradient_specs`; of a layer, as its activation."""

    def activation(self, layer: str) -> Tensor:
        """(n, c, h, w) output of a layer that is named in `gradient_specs`, however the layer keeps it."""

    def evaluate_at(self, x: Tensor, specs: tuple[GradientSpec, ...] | None = None) -> Rows:
        """The same targets at other inputs.

        Args:
            x: (m * n, C, H, W), m blocks of n rows; or (1, C, H, W), an image for all rows, with `specs` of ().
            specs: The gradients to compute there; None for those of the method, () for a forward pass alone.

        Raises:
            DeadlineExceeded: The caller's time is over.
        """

    def blocks(self, specs: tuple[GradientSpec, ...] | None = None) -> int:
        """How many blocks of n rows one such pass may have at most, by the memory that is granted.

        Args:
            specs: As of `evaluate_at`.
        """


class Method:
    """Base of all methods: the defaults of what a method need not say.

    Attributes:
        name: By which requests ask for it.
        caveats: What a reader of the map must know.
        cost_parameter: The parameter that the cost grows with, for advice to a caller who asks for too much; "" if
            there is none.
    """

    name: ClassVar[str]
    caveats: ClassVar[tuple[str, ...]] = ()

    def bind(self, facts: ModelFacts) -> Self:
        """The method with every default that depends on the model filled in. Raises FailedPrecondition."""
        return self

    def sized(self, height: int, width: int) -> Self:
        """The method with every default that depends on the size of the input filled in."""
        return self

    def gradient_specs(self) -> tuple[GradientSpec, ...]:
        """The gradients that the method takes from the shared pass."""
        return ()

    cost_parameter: ClassVar[str] = ""

    def cost(self, height: int, width: int) -> int:
        """Forward and backward passes per image beyond the shared ones, for an input of this size."""
        return 0

    def attribute(self, rows: Rows) -> Attribution:
        """Explain the rows. May raise an OuzelError, which then stands for these rows alone."""
        raise NotImplementedError
