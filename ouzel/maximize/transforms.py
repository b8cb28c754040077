"""Random views of an image. What excites a node from every one of them is no accident of single pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ouzel.checks import parameter
from ouzel.errors import InvalidArgument
from ouzel_protos.recipes import MAXIMIZE_LIMITS


@dataclass(frozen=True)
class Views:
    """Random views of an image: shifted, scaled, turned. Outside of the image everything is grey.

    Attributes:
        jitter: Largest shift, as a share of the shorter side, 0 to 0.5.
        zoom: (smallest, largest) factor, 0.1 to 10.
        rotate: Largest angle, in degrees, 0 to 180.

    Raises:
        InvalidArgument: A value is out of range.
    """

    jitter: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    rotate: float = 0.0

    def __post_init__(self) -> None:
        parameter("parameters.jitter", self.jitter, MAXIMIZE_LIMITS["jitter"])
        if not 0.1 <= self.zoom[0] <= self.zoom[1] <= 10:
            raise InvalidArgument(
                f"parameters.zoom: {self.zoom} is not a smallest and a largest factor within 0.1..10",
                field="parameters.zoom",
            )
        parameter("parameters.rotate", self.rotate, MAXIMIZE_LIMITS["rotate"])

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """One random view of each image, (n, C, H, W) in [0, 1], of the same size. Differentiable."""
        if self == Views():
            return images
        count, _, height, width = images.shape
        drawn = torch.rand(count, 4, generator=generator, dtype=torch.float64)  # on the CPU: the same everywhere
        angle = (2 * drawn[:, 0] - 1) * math.radians(self.rotate)
        factor = self.zoom[0] + drawn[:, 1] * (self.zoom[1] - self.zoom[0])
        shift = (2 * drawn[:, 2:] - 1) * 2 * self.jitter * min(height, width)
        cosine, sine = angle.cos() / factor, angle.sin() / factor
        # In pixels first, so that a rotation of a rectangle stays one; then to the units of affine_grid, -1 to 1.
        matrix = torch.stack(
            [
                torch.stack([cosine, -sine * height / width, shift[:, 0] / width], dim=1),
                torch.stack([sine * width / height, cosine, shift[:, 1] / height], dim=1),
            ],
            dim=1,
        ).to(images.dtype)
        if images.is_cuda:  # a copy that the host does not wait for
            matrix = matrix.pin_memory().to(images.device, non_blocking=True)
        grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
        return F.grid_sample(images - 0.5, grid, padding_mode="zeros", align_corners=False) + 0.5
