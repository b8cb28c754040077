"""What an audited model sees of an image: the picture in which counterfactuals are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from PIL import Image

from ouzel.errors import InvalidArgument
from ouzel.images import original_size, plain, scaled
from ouzel.models.preprocessing import INTERPOLATIONS, Preprocessing

LONGEST = 384  # pixels along the longer edge, where the model's own size is not known


@dataclass(frozen=True)
class View:
    """From an image to the picture that the model sees, as values of 0 to 255.

    Counterfactuals are made in this picture, so that a change covers exactly the pixels that it says it covers.

    Attributes:
        size: (height, width) of the picture; None keeps the image's proportions, at most LONGEST pixels along an edge.
        resize: Pixels of the shorter edge before the centre is cropped to `size`; None squeezes the whole image into
            `size`.
        interpolation: "bilinear" or "bicubic".
    """

    size: tuple[int, int] | None = None
    resize: int | None = None
    interpolation: str = "bilinear"

    @classmethod
    def of(cls, preprocessing: Preprocessing) -> Self:
        """The view of a model of ours."""
        return cls(preprocessing.input_size, preprocessing.resize, preprocessing.interpolation)

    def picture(self, image: Image.Image) -> np.ndarray:
        """The picture.

        Args:
            image: As `ouzel.images.decode` returns it.

        Returns:
            (H, W, 3) uint8.

        Raises:
            InvalidArgument: The values of the image cannot be read.
        """
        box = scaled(self.rectangle(*original_size(image)), image)
        height, width = self.shape(*original_size(image))
        seen = plain(image).resize((width, height), INTERPOLATIONS[self.interpolation], box=box)
        return np.array(seen.convert("RGB"))

    def mask(self, mask: np.ndarray, width: int, height: int) -> np.ndarray:
        """The part of a mask that the model sees.

        Args:
            mask: (height, width) of bool, of the image's own size.
            width: Of the image, in pixels.
            height: Of the image, in pixels.

        Returns:
            (H, W) of bool.

        Raises:
            InvalidArgument: The mask has another size than the image.
        """
        if mask.shape != (height, width):
            raise InvalidArgument(
                f"mask: has {' x '.join(map(str, mask.shape))} pixels (height x width), the image {height} x {width}",
                field="mask",
            )
        rows, columns = self.shape(width, height)
        grey = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8))
        box = self.rectangle(width, height)
        return np.asarray(grey.resize((columns, rows), Image.Resampling.BILINEAR, box=box)) > 127

    def shape(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) of the picture of an image of this size."""
        if self.size is not None:
            return self.size
        scale = min(1.0, LONGEST / max(width, height))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def rectangle(self, width: int, height: int) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of what the model sees of an image of this size, in pixels of the image."""
        if self.size is None or self.resize is None:
            return 0.0, 0.0, float(width), float(height)
        return Preprocessing(input_size=self.size, resize=self.resize).view(width, height)
