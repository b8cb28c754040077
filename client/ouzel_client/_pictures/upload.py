"""The image of a request as it was sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ouzel_client._optional import need_pillow
from ouzel_client.errors import InvalidArgument
from ouzel_protos import pictures

if TYPE_CHECKING:
    from PIL import Image as PILImage


@dataclass(frozen=True)
class Upload:
    """The image of a request.

    Attributes:
        key: The part of the request that holds it: "image" for a file, "tensor" for an array.
        data: The bytes that were sent.
        pixels: (H, W, 3) or (H, W) uint8, if pixels were sent as an array: a copy to draw on.
    """

    key: str
    data: bytes
    pixels: npt.NDArray[np.uint8] | None = None

    @property
    def drawable(self) -> bool:
        """Whether there is a picture to draw on; a normalised tensor is not one."""
        return self.key == "image" or self.pixels is not None

    def picture(self, smallest: int | None = None) -> PILImage.Image:
        """Decodes the uploaded picture as the service sees it: RGB and upright.

        Args:
            smallest: The shorter side that is needed, in pixels. A much larger JPEG is read at a fraction of its
                size, as the service does.

        Raises:
            InvalidArgument: A normalised tensor was sent, or the file is broken.
        """
        image, _ = need_pillow("drawing on the picture")
        if self.pixels is not None:
            drawn: PILImage.Image = image.fromarray(self.pixels).convert("RGB")
            return drawn
        if self.key == "tensor":
            raise InvalidArgument("image: a normalised tensor was sent: there is no picture to draw on", field="image")
        try:
            return pictures.decode(self.data, smallest=smallest)[0].convert("RGB")
        except pictures.BadPicture as error:
            raise InvalidArgument(f"image: {error}", field="image") from error
