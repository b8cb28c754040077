"""The spaces in which images are sought: pixels, Fourier coefficients, or phases of a natural spectrum."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

# Colour directions of natural images (Olah et al. 2017): the columns of what decorrelates them, by the largest norm.
_COLOURS = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], dtype=torch.float64)
_COLOURS = _COLOURS / _COLOURS.norm(dim=0).max()
_SMOOTH = 4  # cycles per edge


class Space(Protocol):
    """A space in which images are sought.

    Attributes:
        leaves: What the optimiser changes.
    """

    leaves: list[Tensor]

    def images(self) -> Tensor:
        """(n, C, H, W) in [0, 1], differentiable in the leaves."""

    def project(self) -> None:
        """Put the leaves back to where they are allowed, after a step."""

    def reach(self, done: float) -> None:
        """Open what is sought when so much of the run is done, a share of its steps, 0 to 1."""


class Pixels:
    """The values themselves, kept within [0, 1]."""

    def __init__(self, start: Tensor) -> None:
        self.leaves = [start.requires_grad_()]

    def images(self) -> Tensor:
        return self.leaves[0]

    def project(self) -> None:
        with torch.no_grad():
            self.leaves[0].clamp_(0, 1)

    def reach(self, done: float) -> None: ...


class Fourier:
    """Fourier coefficients, scaled by 1/frequency^decay, of decorrelated colours; a sigmoid leads to [0, 1].

    All together the coefficients have the energy that a decay of 1 gives them.

    Args:
        start: (n, C, H, W // 2 + 1, 2), real and imaginary parts.
        height: Of the images.
        width: Of the images.
        decay: The exponent.
        coarse_to_fine: Share of the run, its first part, in which the highest frequency that counts grows from four
            cycles per edge to all, by the same factor at every step.
    """

    def __init__(self, start: Tensor, height: int, width: int, decay: float = 1.0, coarse_to_fine: float = 0.0) -> None:
        self.leaves = [start.requires_grad_()]
        self._size = height, width
        lowest = 1 / max(height, width)
        plain = 1 / frequencies(height, width).clamp_min(lowest)
        scale = plain**decay
        self._full = (scale * (plain.square().sum() / scale.square().sum()).sqrt()).to(start)
        cycles = frequencies(height, width) * min(height, width)
        self._cycles, self._most = cycles.to(start), float(cycles.max())
        self._coarse_to_fine = coarse_to_fine
        self._colours = _COLOURS.to(start)
        self.reach(0.0)

    def images(self) -> Tensor:
        spectrum = torch.view_as_complex(self.leaves[0]) * self._scale
        values = torch.fft.irfft2(spectrum, s=self._size, norm="ortho") / 4
        return torch.sigmoid(_colour(values, self._colours))

    def project(self) -> None: ...

    def reach(self, done: float) -> None:
        if done >= self._coarse_to_fine:
            self._scale = self._full
            return
        # What does not count yet gets no gradient at all, so that Adam leaves it where it is.
        highest = _SMOOTH * (self._most / _SMOOTH) ** (done / self._coarse_to_fine)
        self._scale = self._full * (self._cycles <= highest).to(self._full)


class Phases:
    """Phases of a Fourier spectrum; the magnitude is that of natural images.

    So is how much light and colours vary together. The leaf is brought to mean 0 and standard deviation 1 before it is
    taken for radians, as the authors' own code has it: the longer the way that it has gone, the less a step turns.

    Args:
        start: (n, C, H, W // 2 + 1).
        magnitude: (C, H, W // 2 + 1).
        height: Of the images.
        width: Of the images.

    References:
        Fel et al. 2023, arXiv 2306.06805.
    """

    def __init__(self, start: Tensor, magnitude: Tensor, height: int, width: int) -> None:
        self.leaves = [start.requires_grad_()]
        self._size = height, width
        self._magnitude = magnitude.to(start)
        self._colours = _COLOURS.to(start)

    def images(self) -> Tensor:
        leaf = self.leaves[0]
        phases = (leaf - leaf.mean((1, 2, 3), keepdim=True)) / leaf.std((1, 2, 3), keepdim=True).clamp_min(1e-12)
        spectrum = torch.polar(self._magnitude.expand_as(phases), phases)
        values = torch.fft.irfft2(spectrum, s=self._size, norm="ortho")
        values = _colour(values / values.std(dim=(2, 3), keepdim=True).clamp_min(1e-12), self._colours)
        # Standard deviation 1 before the sigmoid, whose slope at 0 is a quarter, gives about that of photographs.
        values = values / values.flatten(1).std(dim=1).clamp_min(1e-12)[:, None, None, None]
        return torch.sigmoid(values)

    def project(self) -> None: ...

    def reach(self, done: float) -> None: ...


def smooth(
    shape: tuple[int, int, int, int], deviation: float, generator: torch.Generator, decay: float = 1.0
) -> Tensor:
    """Coefficients of `Fourier` for images (n, C, H, W) of smooth colours, up to four cycles per edge.

    deviation: about the standard deviation of the values of each image, in units of [0, 1]. decay: of `Fourier`.
    """
    count, channels, height, width = shape
    start = torch.randn(count, channels, height, width // 2 + 1, 2, generator=generator)
    start = start * (frequencies(height, width) <= _SMOOTH / min(height, width))[..., None]
    start[..., 0, 0, :] = 0
    values = torch.logit(Fourier(start.clone(), height, width, decay).images().detach().double())
    spread = values.flatten(1).std(dim=1).clamp_min(1e-12)
    return start * (deviation / 0.25 / spread)[:, None, None, None, None].to(start)  # a sigmoid's slope at 0 is 1/4


def frequencies(height: int, width: int) -> Tensor:
    """(H, W // 2 + 1): cycles per pixel of each coefficient of a real image's spectrum."""
    down = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    across = torch.fft.rfftfreq(width, dtype=torch.float64)
    return torch.hypot(down, across)


def _colour(values: Tensor, colours: Tensor) -> Tensor:
    return torch.einsum("nchw,dc->ndhw", values, colours) if values.shape[1] == 3 else values
