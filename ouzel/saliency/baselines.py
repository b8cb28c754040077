"""What stands for "nothing to see": the images that others are compared with, as the model takes them.

They are (n, C, H, W), one for each row, or (1, C, H, W) where all rows have the same.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ouzel import models
from ouzel.errors import InvalidArgument
from ouzel.saliency.method import Rows
from ouzel.saliency.transfer import sent

BLUR_SHARE = 1 / 16  # of the shorter side: standard deviation of the blur


@dataclass(frozen=True)
class GivenImage:
    """An image that the caller gives, of floats (C, H, W) as the model takes it: normalised.

    As bytes, because methods are compared and hashed by their parameters.

    Attributes:
        data: The values in C order.
        shape: (C, H, W).
        dtype: Name of numpy's dtype, float32 or float64.
    """

    data: bytes = field(repr=False)
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, image: Tensor, parameter: str) -> Self:
        """A tensor as a parameter of a method.

        Args:
            image: (C, H, W) of floats, finite, normalised.
            parameter: Its name, for errors.

        Raises:
            InvalidArgument: It is not an image, or has values that are not finite.
        """
        where = f"parameters.{parameter}"
        if image.ndim != 3 or not image.is_floating_point():
            raise InvalidArgument(
                f"{where}: {image.dtype} of shape {tuple(image.shape)} is no image; give floats (channels, height, "
                "width), normalised as the model takes it",
                field=where,
            )
        if not image.isfinite().all():
            raise InvalidArgument(f"{where}: has values that are not finite", field=where)
        exact = torch.float64 if image.dtype == torch.float64 else torch.float32  # numpy knows no bfloat16
        array = image.detach().to("cpu", exact).numpy()
        return cls(array.tobytes(), array.shape, array.dtype.name)

    def like(self, x: Tensor, parameter: str) -> Tensor:
        """The image for all rows of x.

        Args:
            x: (n, C, H, W).
            parameter: Its name, for errors.

        Returns:
            (1, C, H, W) of x's dtype and device.

        Raises:
            InvalidArgument: The image has another size.
        """
        if self.shape != x.shape[1:]:
            where = f"parameters.{parameter}"
            raise InvalidArgument(
                f"{where}: the image has shape {self.shape}, the model's input {tuple(x.shape[1:])}", field=where
            )
        array = np.frombuffer(self.data, self.dtype).reshape(self.shape)
        return sent(torch.tensor(array), x.device).to(x.dtype)[None]

    def __str__(self) -> str:
        return f"image sha256:{hashlib.sha256(self.data).hexdigest()}"


Baseline = str | GivenImage


def check_baseline(baseline: Baseline, parameter: str) -> None:
    """Raises InvalidArgument that names the parameter if there is no baseline of that name."""
    if isinstance(baseline, str) and baseline not in BASELINES:
        where = f"parameters.{parameter}"
        raise InvalidArgument(
            f"{where}: {baseline!r:.80} is neither an image nor one of {', '.join(BASELINES)}", field=where
        )


def baseline_of(baseline: Baseline, rows: Rows, parameter: str) -> Tensor:
    """The baseline of this name, or this image."""
    return BASELINES[baseline](rows) if isinstance(baseline, str) else baseline.like(rows.x, parameter)


def constant(colour: Sequence[float], x: Tensor) -> Tensor:
    """An image of one colour, (C,), for all rows of x."""
    return _colour(tuple(colour), x.dtype, x.device)[None, :, None, None].expand(1, *x.shape[1:])


@functools.lru_cache(64)
def _colour(colour: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return sent(colour, device, dtype)


@models.computing()
def blurred(x: Tensor) -> Tensor:
    """The images under a Gaussian blur that leaves no object recognisable; edges are mirrored."""
    sigma = max(min(x.shape[-2:]) * BLUR_SHARE, 0.5)
    radius = min(int(3 * sigma + 0.5), min(x.shape[-2:]) - 1)
    places = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-(places**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    padded = F.pad(x, (radius, radius, radius, radius), mode="reflect")
    across = F.conv2d(padded, kernel[:, :, None, :], groups=x.shape[1])
    return F.conv2d(across, kernel[:, :, :, None], groups=x.shape[1])


BASELINES: dict[str, Callable[[Rows], Tensor]] = {
    "black": lambda rows: constant(rows.facts.black, rows.x),
    "white": lambda rows: constant(rows.facts.white, rows.x),
    "blur": lambda rows: blurred(rows.x),
    "mean": lambda rows: rows.x.mean(dim=(2, 3), keepdim=True).expand_as(rows.x),
}
