"""What a run tells as it goes, and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from ouzel.maximize.independent import Score
from ouzel.maximize.nodes import Node
from ouzel.maximize.path import NetworkPath
from ouzel.maximize.recipes import Recipe
from ouzel.maximize.search import Hit
from ouzel.precision_names import EXACT, Precision


@dataclass(frozen=True)
class Step:
    """What `on_step` sees after a step. Figures are read when they are asked for: on a GPU, that waits for the step.

    What is asked for raises FailedPrecondition if a value was not finite in this step or before.

    Attributes:
        step: 1, 2, ... of `steps`.
        steps: Of the recipe.
        images: Gives (n, C, H, W) in [0, 1] as they are now.
        state: Gives all that `resume` needs; plain values and tensors, for torch.save.
    """

    step: int
    steps: int
    images: Callable[[], Tensor] = field(repr=False)
    state: Callable[[], dict[str, Any]] = field(repr=False)
    _read: Callable[[], tuple[tuple[float, ...], tuple[float, ...]]] = field(repr=False)

    @property
    def activations(self) -> tuple[float, ...]:
        """(n,), before the step."""
        return self._figures[0]

    @property
    def objectives(self) -> tuple[float, ...]:
        """(n,), before the step: the activation of the random view less the penalty."""
        return self._figures[1]

    @cached_property
    def _figures(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self._read()


@dataclass(frozen=True)
class Visualization:
    """One image for one node.

    Attributes:
        node: What was to be excited.
        title: The node in words.
        image: (C, H, W) float32 of whole multiples of 1/255, so that a PNG holds this very image.
        activation: Of the node for this very image, whole and unturned.
        history: The activation of the random view at each step.
        transparency: (H, W) in [0, 1]: where the gradient has been at work.
        best_of_data: The highest activation among the images of the data set, and the name of that image; None without
            a data set.
        independent: What a second model says of the image; None where none was named, or no class was sought.
        path: How alike the image and photographs of its class are to the network, layer by layer; None where that was
            not asked for, or no class was sought.
    """

    node: Node
    title: str
    image: Tensor = field(repr=False)
    activation: float
    history: tuple[float, ...] = field(repr=False)
    transparency: Tensor = field(repr=False)
    best_of_data: Hit | None = None
    independent: Score | None = None
    path: NetworkPath | None = None


@dataclass(frozen=True)
class Result:
    """What a run gives.

    Attributes:
        visualizations: For each node its images, in order.
        recipe: With the seed, it makes them again.
        seed: Of all that was drawn.
        steps: That were taken.
        stopped: Whether `on_step` ended the run early.
        precision: That it was computed in: always "exact".
    """

    visualizations: tuple[Visualization, ...]
    recipe: Recipe
    seed: int
    steps: int
    stopped: bool
    precision: Precision = EXACT
