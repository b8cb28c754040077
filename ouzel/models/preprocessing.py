"""From a decoded image to a network's input: resize the shorter side and crop the centre, or stretch; normalise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ouzel.errors import InvalidArgument
from ouzel.images import original_size, plain, scaled

FITS = ("crop", "stretch")
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
LARGEST_CHANNELS = 64
_LARGEST = 4096  # pixels along an edge of the input


@dataclass(frozen=True)
class Preprocessing:
    """Shorter side to `resize`, centre crop of `input_size`, then (value / 255 - mean) / std.

    With the fit "stretch" the whole image becomes the input, whatever its proportions: detectors look for what is at
    the edges, too.

    The defaults are the usual ones for ImageNet.

    Attributes:
        channels: 1 for grey, 3 for colour. Models of others, up to 64, take tensors that are normalised already, and no
            images.
        input_size: (height, width) in pixels.
        resize: Pixels of the shorter side before the crop.
        interpolation: One of INTERPOLATIONS.
        mean: (C,) of values in [0, 1].
        std: (C,), above 0.
        fit: One of FITS.

    Raises:
        InvalidArgument: Values that make no sense.
    """

    channels: int = 3
    input_size: tuple[int, int] = (224, 224)
    resize: int = 256
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    fit: str = "crop"

    def __post_init__(self) -> None:
        _require(_whole(self.channels, LARGEST_CHANNELS), "channels", self.channels, f"must be 1 to {LARGEST_CHANNELS}")
        size = self.input_size
        _require(
            isinstance(size, tuple) and len(size) == 2 and all(_whole(edge, _LARGEST) for edge in size),
            "input_size",
            size,
            f"must be (height, width), each from 1 to {_LARGEST}",
        )
        smallest = f"must be from {max(size)}, the longer edge of input_size, to {2 * _LARGEST}"
        _require(_whole(self.resize, 2 * _LARGEST) and self.resize >= max(size), "resize", self.resize, smallest)
        _require(
            self.interpolation in INTERPOLATIONS, "interpolation", self.interpolation, "must be bilinear or bicubic"
        )
        for field in ("mean", "std"):
            values = getattr(self, field)
            ok = isinstance(values, tuple) and len(values) == self.channels and all(_finite(v) for v in values)
            _require(ok, field, values, f"must be {self.channels} finite number(s), one per channel")
        _require(min(self.std) > 0, "std", self.std, "must be above 0")
        _require(self.fit in FITS, "fit", self.fit, f"must be {' or '.join(FITS)}")

    def __call__(self, image: Image.Image) -> Tensor:
        """Preprocess an image.

        One resampling, of the cropped region alone: the same as resizing the whole image and cropping afterwards, but
        for the rounding of a grey level here and there.

        Args:
            image: Of any size and mode.

        Returns:
            (C, H, W) float32, normalised.

        Raises:
            InvalidArgument: The model takes no images.
        """
        return self.normalised(self.pixels(image))

    @property
    def takes_images(self) -> bool:
        """Whether grey or colour is what the model takes."""
        return self.channels in (1, 3)

    def check_takes_images(self, field: str) -> None:
        """Raises InvalidArgument if the model takes tensors alone."""
        if not self.takes_images:
            shape = (self.channels, *self.input_size)
            raise InvalidArgument(
                f"{field}: the model takes {self.channels} channels, which no image has; only float32 tensors "
                f"{shape}, normalised, will do",
                field=field,
            )

    def pixels(self, image: Image.Image) -> Tensor:
        """The same before it is normalised: (C, H, W) uint8. Raises InvalidArgument if the model takes no images."""
        self.check_takes_images("image")
        height, width = self.input_size
        box = scaled(self.view(*original_size(image)), image)
        image = plain(image).resize((width, height), INTERPOLATIONS[self.interpolation], box=box)
        values = np.array(image.convert("L" if self.channels == 1 else "RGB"))  # a copy: torch wants it writable
        return torch.from_numpy(values.reshape(height, width, self.channels)).permute(2, 0, 1)

    def normalised(self, pixels: Tensor) -> Tensor:
        """(..., C, H, W) of values from 0 to 255 as float32, on the same device."""
        scale, shift = (values.to(pixels.device, non_blocking=True) for values in self._affine)
        return pixels.to(torch.float32, memory_format=torch.contiguous_format).mul_(scale).add_(shift)

    def view(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The rectangle of an image that becomes the input.

        Rounded as in the usual pipeline of whole-pixel steps (resized edges down, crop offsets to the nearest pixel).

        Args:
            width: Of the image, in pixels.
            height: Of the image, in pixels.

        Returns:
            (left, top, right, bottom) in pixels of the image.
        """
        if self.fit == "stretch":
            return 0.0, 0.0, float(width), float(height)
        crop_height, crop_width = self.input_size
        short = min(width, height)
        resized_width, resized_height = int(self.resize * width / short), int(self.resize * height / short)
        left, top = round((resized_width - crop_width) / 2), round((resized_height - crop_height) / 2)
        return (  # multiplied first, so that the far edges are exact
            left * width / resized_width,
            top * height / resized_height,
            (left + crop_width) * width / resized_width,
            (top + crop_height) * height / resized_height,
        )

    def adapted(self, **changes: Any) -> Preprocessing:
        """The preprocessing with other values, and the rest fitted to them.

        One mean and deviation for grey, 0 and 1 for channels that are no colours, a `resize` in proportion.
        """
        if changes.get("channels") == 1 and self.channels == 3:
            grey = {"mean": (sum(self.mean) / 3,), "std": (sum(self.std) / 3,)}
            changes = grey | changes
        elif (channels := changes.get("channels", self.channels)) not in (3, self.channels):
            changes = {"mean": (0.0,) * channels, "std": (1.0,) * channels} | changes
        if "input_size" in changes and "resize" not in changes:
            changes["resize"] = round(self.resize * max(changes["input_size"]) / max(self.input_size))
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON; `from_dict` reads them back. The fit "crop" is left out: older cards have none."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        if self.fit == FITS[0]:
            del values["fit"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """The inverse of `to_dict`: every field, and no other. Raises InvalidArgument."""
        names = [field.name for field in fields(cls)]
        if isinstance(values, Mapping):
            values = {"fit": FITS[0], **values}
        if not isinstance(values, Mapping) or sorted(values) != sorted(names):
            raise InvalidArgument(f"preprocessing: needs exactly the fields {', '.join(names)}", field="preprocessing")
        given: dict[str, Any] = {name: tuple(v) if isinstance(v := values[name], list) else v for name in names}
        return cls(**given)

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) for v in (self.mean, self.std))
        return (1 / (255 * std)).float(), (-mean / std).float()


def _require(ok: bool, field: str, value: object, rule: str) -> None:
    if not ok:
        raise InvalidArgument(f"preprocessing.{field}: {value!r} {rule}", field=f"preprocessing.{field}")


def _whole(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
