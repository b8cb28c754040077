"""The classes that a segmentation model sees in an image."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ouzel_client._optional import need_pillow
from ouzel_client._pictures.figure import source
from ouzel_client._pictures.upload import Upload
from ouzel_client.errors import InvalidArgument
from ouzel_protos import label_map as drawing
from ouzel_protos import overlay

if TYPE_CHECKING:
    from PIL import Image as PILImage

_IN_A_PAGE = 512  # pixels along an edge


@dataclass(frozen=True)
class SegmentedClass:
    """A class that has pixels.

    Attributes:
        index: Among the outputs of the model.
        label: Its label.
        area: Share of the pixels of the model's input, in (0, 1].
        confidence: Mean probability of the class over its pixels.
    """

    index: int
    label: str
    area: float
    confidence: float


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a segmentation model answers: a class for each pixel. A notebook shows it as a picture.

    Attributes:
        label_map: (H, W) uint8, read-only: the index of the class of each pixel; 255 is none, outside of what the model
            saw.
        original: Whether it has the size of the uploaded image, instead of that of the model's input.
        classes: Those that have a pixel, the largest first; a class named background comes last.
        box: (left, top, right, bottom) of the part that the model saw, in pixels of the uploaded image.
        whole: (width, height) of the uploaded image.
    """

    label_map: npt.NDArray[np.uint8] = field(repr=False)
    original: bool
    classes: tuple[SegmentedClass, ...]
    box: tuple[float, float, float, float] = field(repr=False)
    whole: tuple[int, int] = field(repr=False)
    _upload: Upload | None = field(default=None, repr=False)

    def mask(self, which: int | str) -> npt.NDArray[np.bool_]:
        """The pixels of a class.

        Args:
            which: Its index, or the label of a class that is there.

        Returns:
            (H, W) of bool.

        Raises:
            KeyError: No class that is there has this label.
        """
        if isinstance(which, str):
            indices = [each.index for each in self.classes if each.label == which]
            if not indices:
                raise KeyError(which)
            return np.isin(self.label_map, indices)
        return np.asarray(self.label_map == which)

    def overlay(self, alpha: float = 0.6, longest: int = 2048) -> PILImage.Image:
        """Draws a colour for each class over the uploaded picture, with a legend. Needs Pillow.

        Without a picture, because a normalised tensor was sent, the colours are drawn alone.

        Args:
            alpha: Opacity of the colours, in [0, 1].
            longest: Most pixels along an edge of the picture.

        Raises:
            InvalidArgument: An argument is out of its range.
        """
        if not 0 <= alpha <= 1:
            raise InvalidArgument(f"alpha: {alpha} is not in [0, 1]", field="alpha")
        if longest < 1:
            raise InvalidArgument(f"longest: {longest} is not 1 or more", field="longest")
        need_pillow("a label map")
        values = overlay.seen(self.label_map, self.box) if self.original else self.label_map
        size = overlay.enlarged(self.whole, self.box, (values.shape[0], values.shape[1]), longest)
        drawn = drawing.draw(None, values)
        if self._upload is not None and self._upload.drawable:
            picture = self._upload.picture(smallest=-(-min(size) // 2))
            x, y = picture.width / self.whole[0], picture.height / self.whole[1]
            box = (self.box[0] * x, self.box[1] * y, self.box[2] * x, self.box[3] * y)
            drawn = drawing.draw(picture, values, view=box, size=size, alpha=alpha)
        return drawing.with_legend(drawn, [(each.index, each.label, each.area) for each in self.classes])

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        self.overlay(longest=_IN_A_PAGE).save(out, "PNG", compress_level=3)
        return out.getvalue()

    def _repr_html_(self) -> str:
        return f'<img src="{source(self._repr_png_(), "image/png")}" alt="label map" style="max-width:100%">'
