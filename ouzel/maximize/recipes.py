"""How an image is sought: the space, the optimiser, the views, the regularisers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from ouzel.checks import one_of, parameter
from ouzel.errors import InvalidArgument
from ouzel.maximize.regularizers import norm, total_variation
from ouzel.maximize.spaces import Fourier, Phases, Pixels, Space, smooth
from ouzel.maximize.spectrum import magnitude
from ouzel.maximize.transforms import Views
from ouzel_protos.recipes import MAXIMIZE_LIMITS, MAXIMIZE_STEPS, MAXIMIZE_VIEWS


class Recipe(Protocol):
    """How images are sought.

    Attributes:
        name: By which requests ask for it.
        steps: Of the optimiser.
        diversity: Weight of being different, where several images are sought for a node.
        views: The random views through which the network sees the images.
        views_per_step: Of each image, at every step; the mean of their gradients is followed. None goes by the device.
        statistics: Weight of having the statistics of photographs, in units of the activation; 0 is none.
        relevance: How far channels count by what they do for the node, 0 to 1.
        anneal: Share of the steps, the last ones, in which the rate of the optimiser falls to 0.
    """

    name: ClassVar[str]

    @property
    def steps(self) -> int: ...

    @property
    def diversity(self) -> float: ...

    @property
    def views(self) -> Views: ...

    @property
    def views_per_step(self) -> int | None: ...

    @property
    def statistics(self) -> float: ...

    @property
    def relevance(self) -> float: ...

    @property
    def anneal(self) -> float: ...

    def space(self, shape: tuple[int, int, int, int], generator: torch.Generator, device: torch.device) -> Space:
        """shape: (n, C, H, W) of the images."""

    def optimizer(self, leaves: list[Tensor]) -> torch.optim.Optimizer: ...

    def penalty(self, images: Tensor) -> Tensor:
        """(n, C, H, W) to (n,)."""


@dataclass(frozen=True)
class Pixel:
    """Projected gradient ascent on the pixels, with norm and total-variation regularisers.

    Attributes:
        steps: Of Adam, 1 to 100000.
        rate: Of Adam, in units of [0, 1].
        anneal: Share of the steps, the last ones, in which the rate falls to 0, evenly.
        norm_weight: Weight of the mean of |2x - 1|^p.
        p: Its exponent.
        tv_weight: Weight of the total variation.
        beta: Its exponent.
        jitter: Of the random views, see Views.
        zoom_range: Zoom goes from 1 / (1 + zoom_range) to 1 + zoom_range.
        rotate: Of the random views, in degrees.
        noise: Of the random views, standard deviation in units of [0, 1].
        unchanged: Share of the views that are the image as it is, but for the noise.
        views_per_step: Random views of each image at every step.
        diversity: Weight of the likeness of images that are sought for one node.
        statistics: Weight of having the statistics of photographs in some layers, in units of the activation; see
            `ouzel.maximize.statistics`.
        relevance: 1 lets channels count there as far as they move the node, 0 lets all count alike.
        low_start: Standard deviation of the smooth colours, up to four cycles per edge, that the search starts from, in
            units of [0, 1]; 0 starts from noise of all frequencies.

    References:
        Simonyan et al. 2014, arXiv 1312.6034; Mahendran and Vedaldi 2015, arXiv 1412.0035.
    """

    steps: int = MAXIMIZE_STEPS
    rate: float = 0.02
    anneal: float = 0.0
    norm_weight: float = 1.0
    p: float = 6.0
    tv_weight: float = 100.0
    beta: float = 2.0
    jitter: float = 0.04
    zoom_range: float = 0.0
    rotate: float = 0.0
    noise: float = 0.0
    unchanged: float = 0.4
    views_per_step: int = MAXIMIZE_VIEWS["pixel"]
    diversity: float = 0.0
    statistics: float = 0.0
    relevance: float = 0.0
    low_start: float = 0.0
    name: ClassVar[str] = "pixel"

    def __post_init__(self) -> None:
        _check(self)

    @cached_property
    def views(self) -> Views:
        return _views(self)

    def space(self, shape: tuple[int, int, int, int], generator: torch.Generator, device: torch.device) -> Space:
        if self.low_start:
            start = Fourier(smooth(shape, self.low_start, generator), *shape[2:]).images().detach()
        else:
            start = (0.5 + 0.02 * torch.randn(shape, generator=generator)).clamp(0, 1)
        return Pixels(start.to(device))

    def optimizer(self, leaves: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(leaves, lr=self.rate, fused=leaves[0].is_cuda or None)

    def penalty(self, images: Tensor) -> Tensor:
        total = images.new_zeros(len(images))
        if self.norm_weight:
            total = total + self.norm_weight * norm(images, self.p)
        return total + self.tv_weight * total_variation(images, self.beta) if self.tv_weight else total


@dataclass(frozen=True)
class FourierRecipe:
    """Fourier coefficients of decorrelated colours under random views. Other parameters as those of Pixel.

    Attributes:
        unchanged: Share of the views that are the image as it is, but for the noise. None goes by the network: 0 for
            one that takes images of other sizes, too, as it gathers from all places; else 0.4, as things may have
            their one place and size. The recipe of the result has the number.
        views_per_step: None goes by the device: 1 on a CPU; on a GPU up to 4, as many as go through the network at
            once with those of all images. The recipe of the result has the number, and a resumed run keeps it.
        decay: Coefficients are scaled by 1/frequency^decay. 1 gives every octave the same energy; photographs have
            about 1.5.
        coarse_to_fine: Share of the steps, the first ones, in which the finest detail that is sought goes from four
            cycles per edge to all there is: forms are found before textures. 0 seeks all from the start.

    References:
        Olah et al. 2017, "Feature visualization", Distill.
    """

    steps: int = MAXIMIZE_STEPS
    rate: float = 0.1
    anneal: float = 0.5
    decay: float = 1.0
    coarse_to_fine: float = 0.5
    tv_weight: float = 0.0
    beta: float = 2.0
    jitter: float = 0.25
    zoom_range: float = 1.0
    rotate: float = 20.0
    noise: float = 0.0
    unchanged: float | None = None
    views_per_step: int | None = None
    diversity: float = 0.0
    statistics: float = 0.0
    relevance: float = 0.0
    low_start: float = 0.0
    name: ClassVar[str] = "fourier"

    def __post_init__(self) -> None:
        _check(self)

    @cached_property
    def views(self) -> Views:
        return _views(self)

    def space(self, shape: tuple[int, int, int, int], generator: torch.Generator, device: torch.device) -> Space:
        count, channels, height, width = shape
        if self.low_start:
            start = smooth(shape, self.low_start, generator, self.decay)
        else:
            start = 0.01 * torch.randn(count, channels, height, width // 2 + 1, 2, generator=generator)
        return Fourier(start.to(device), height, width, self.decay, self.coarse_to_fine)

    def optimizer(self, leaves: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(leaves, lr=self.rate, fused=leaves[0].is_cuda or None)

    def penalty(self, images: Tensor) -> Tensor:
        if not self.tv_weight:
            return images.new_zeros(len(images))
        return self.tv_weight * total_variation(images, self.beta)


@dataclass(frozen=True)
class Maco:
    """Phases of a fixed, natural magnitude spectrum under random crops. Other parameters as those of Pixel.

    Attributes:
        spectrum: Radial amplitudes, (channels, bins), of the caller's data (`spectrum_of`); empty takes those of
            photographs.
        zoom_range: Zoom goes from 1 to 1 + zoom_range. Views are crops: they never leave the image.

    References:
        Fel et al. 2023, "Unlocking feature visualization for deeper networks with magnitude constrained optimization",
        arXiv 2306.06805.
    """

    steps: int = MAXIMIZE_STEPS
    rate: float = 1.0
    anneal: float = 0.0
    jitter: float = 0.25
    zoom_range: float = 1.0
    rotate: float = 0.0
    noise: float = 0.08
    unchanged: float = 0.0
    views_per_step: int = MAXIMIZE_VIEWS["maco"]
    diversity: float = 0.0
    statistics: float = 0.0
    relevance: float = 0.0
    spectrum: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    name: ClassVar[str] = "maco"

    def __post_init__(self) -> None:
        _check(self)

    @cached_property
    def views(self) -> Views:
        return Views(self.jitter, (1.0, 1 + self.zoom_range), self.rotate, self.noise, self.unchanged, inside=True)

    def space(self, shape: tuple[int, int, int, int], generator: torch.Generator, device: torch.device) -> Space:
        count, channels, height, width = shape
        start = torch.randn(count, channels, height, width // 2 + 1, generator=generator)
        return Phases(start.to(device), magnitude(channels, height, width, self.spectrum), height, width)

    def optimizer(self, leaves: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.NAdam(leaves, lr=self.rate)

    def penalty(self, images: Tensor) -> Tensor:
        return images.new_zeros(len(images))


RECIPES: dict[str, type] = {recipe.name: recipe for recipe in (Pixel, FourierRecipe, Maco)}


def make_recipe(name: str, parameters: Mapping[str, Any]) -> Recipe:
    """A recipe by name, with its parameters checked.

    Args:
        name: One of RECIPES.
        parameters: By name; those that are missing have their defaults.

    Raises:
        InvalidArgument: Names what is allowed.
    """
    one_of("recipe", name, RECIPES)
    allowed = [each.name for each in dataclasses.fields(RECIPES[name])]
    for key in parameters:
        if key not in allowed:
            raise InvalidArgument(
                f"parameters: {name} knows no parameter {key!r}; one of {', '.join(allowed)}", field=f"parameters.{key}"
            )
    recipe: Recipe = RECIPES[name](**parameters)
    return recipe


def _views(recipe: Pixel | FourierRecipe) -> Views:
    return Views(
        recipe.jitter,
        (1 / (1 + recipe.zoom_range), 1 + recipe.zoom_range),
        recipe.rotate,
        recipe.noise,
        recipe.unchanged or 0.0,
    )


def _check(recipe: Any) -> None:
    for each in dataclasses.fields(recipe):
        value = getattr(recipe, each.name)
        if each.name in MAXIMIZE_LIMITS and not (value is None and each.default is None):  # not chosen yet
            parameter(f"parameters.{each.name}", value, MAXIMIZE_LIMITS[each.name])
    _ = recipe.views  # checks itself
