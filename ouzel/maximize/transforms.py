"""Random views of an image. What excites a node from every one of them is no accident of single pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ouzel.checks import parameter
from ouzel.errors import InvalidArgument
from ouzel.saliency.transfer import sent
from ouzel_protos.recipes import MAXIMIZE_LIMITS


@dataclass(frozen=True)
class Views:
    """Random views of an image: shifted, scaled, turned, with noise. Outside of the image everything is grey.

    Attributes:
        jitter: Largest shift, as a share of the shorter side, 0 to 0.5.
        zoom: (smallest, largest) factor, 0.1 to 10.
        rotate: Largest angle, in degrees, 0 to 180.
        noise: Standard deviation of what is added to each value, 0 to 1.
        unchanged: Share of the views that are not shifted, scaled and turned. A network for which things are in one
            place and of one size must see them there, too.
        inside: Shifts are no larger than that the view lies in the image; what a turn brings in is its mirror image.

    Raises:
        InvalidArgument: A value is out of range.
    """

    jitter: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    rotate: float = 0.0
    noise: float = 0.0
    unchanged: float = 0.0
    inside: bool = False

    def __post_init__(self) -> None:
        parameter("parameters.jitter", self.jitter, MAXIMIZE_LIMITS["jitter"])
        if not 0.1 <= self.zoom[0] <= self.zoom[1] <= 10:
            raise InvalidArgument(
                f"parameters.zoom: {self.zoom} is not a smallest and a largest factor within 0.1..10",
                field="parameters.zoom",
            )
        parameter("parameters.rotate", self.rotate, MAXIMIZE_LIMITS["rotate"])
        parameter("parameters.noise", self.noise, MAXIMIZE_LIMITS["noise"])
        parameter("parameters.unchanged", self.unchanged, MAXIMIZE_LIMITS["unchanged"])

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """One random view of each image, (n, C, H, W) in [0, 1], of the same size. Differentiable."""
        if replace(self, unchanged=0.0, inside=False) == Views():
            return images
        count, _, height, width = images.shape
        drawn = torch.rand(count, 5, generator=generator, dtype=torch.float64)  # on the CPU: the same everywhere
        changed = (drawn[:, 0] >= self.unchanged).to(drawn)
        angle = (2 * drawn[:, 1] - 1) * changed * math.radians(self.rotate)
        factor = (self.zoom[0] + drawn[:, 2] * (self.zoom[1] - self.zoom[0])) ** changed
        most = torch.full((count, 2), 2.0 * self.jitter * min(height, width), dtype=torch.float64)
        if self.inside:
            room = (1 - 1 / factor).clamp_min(0)
            most = most.minimum(torch.stack([room * width, room * height], dim=1))
        shift = (2 * drawn[:, 3:] - 1) * changed[:, None] * most
        cosine, sine = angle.cos() / factor, angle.sin() / factor
        # In pixels first, so that a rotation of a rectangle stays one; then to the units of affine_grid, -1 to 1.
        matrix = torch.stack(
            [
                torch.stack([cosine, -sine * height / width, shift[:, 0] / width], dim=1),
                torch.stack([sine * width / height, cosine, shift[:, 1] / height], dim=1),
            ],
            dim=1,
        ).to(images.dtype)
        grid = F.affine_grid(sent(matrix, images.device), list(images.shape), align_corners=False)
        outside = "reflection" if self.inside else "zeros"
        seen = F.grid_sample(images - 0.5, grid, padding_mode=outside, align_corners=False) + 0.5
        if self.noise:
            seen = seen + self.noise * sent(torch.randn(images.shape, generator=generator), images.device)
        return seen
