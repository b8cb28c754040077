"""Saliency maps as pictures and HTML. Pillow is imported when the first picture is made."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ouzel_client._optional import need_pillow
from ouzel_client._pictures.figure import source
from ouzel_client._pictures.upload import Upload
from ouzel_client.errors import InvalidArgument
from ouzel_protos import heatmap as drawing
from ouzel_protos import overlay as over
from ouzel_protos.boxes import Box, draw

if TYPE_CHECKING:
    from PIL import Image as PILImage

_IN_A_PAGE = 512  # pixels along an edge


@dataclass(frozen=True, eq=False)
class Drawing:
    """What is needed to draw one saliency map.

    Attributes:
        method: Decides whether the map is smoothed or widened.
        values: (H, W), or (C, H, W) of which the largest magnitude is shown.
        original: Whether the map has the size of the uploaded picture, instead of the model's input.
        whole: (width, height) of the uploaded picture in pixels, or None if it is not known.
        box: (left, top, right, bottom) of the part that the model saw, in those pixels.
        upload: The picture, or None if it is not known.
        boxes: That are drawn over the map, in pixels of the uploaded picture.
    """

    method: str
    values: npt.NDArray[Any]
    original: bool = False
    whole: tuple[int, int] | None = None
    box: tuple[float, float, float, float] = (0, 0, 0, 0)
    upload: Upload | None = None
    boxes: tuple[Box, ...] = ()

    def heatmap(self) -> PILImage.Image:
        """The map alone, (H, W) pixels."""
        image, _ = need_pillow("a heat map")
        return _typed(image.fromarray(drawing.colorize(self._plane())))

    def overlay(self, alpha: float, longest: int) -> PILImage.Image:
        """The map over the picture.

        Args:
            alpha: Opacity of the largest values, in [0, 1].
            longest: Most pixels along an edge, at least 1.

        Raises:
            InvalidArgument: An argument is out of its range, or there is no picture.
        """
        if not 0 <= alpha <= 1:
            raise InvalidArgument(f"alpha: {alpha} is not in [0, 1]", field="alpha")
        if longest < 1:
            raise InvalidArgument(f"longest: {longest} is not 1 or more", field="longest")
        if self.upload is None or self.whole is None:
            raise InvalidArgument("image: this map does not know its picture", field="image")
        need_pillow("an overlay")
        values = over.seen(self._plane(), self.box) if self.original else self._plane()
        size = over.enlarged(self.whole, self.box, values.shape, longest)
        picture = self.upload.picture(smallest=-(-min(size) // 2))
        x, y = picture.width / self.whole[0], picture.height / self.whole[1]
        box = (self.box[0] * x, self.box[1] * y, self.box[2] * x, self.box[3] * y)
        drawn = over.draw(picture, values, view=box, method=self.method, size=size, alpha=alpha)
        return draw(drawn, self.boxes, self.whole) if self.boxes else drawn

    def png(self) -> bytes:
        """A PNG file for a page: the overlay where there is a picture, else the map alone."""
        drawable = self.upload is not None and self.upload.drawable
        return _png(self.overlay(0.8, _IN_A_PAGE) if drawable else self.heatmap())

    def html(self, title: str, caveats: Sequence[str]) -> str:
        """A figure with a title, the scale of the colours, and the caveats of the map."""
        caption, image = html.escape(title), source(self.png(), "image/png")
        notes = "".join(f"<br><small>{html.escape(caveat)}</small>" for caveat in caveats)
        return (
            f'<figure style="display:inline-block;margin:4px;max-width:360px"><img src="{image}" '
            f'alt="{caption}" style="max-width:100%"><figcaption>{caption}<br>{self._scale_html()}{notes}'
            "</figcaption></figure>"
        )

    def _scale_html(self) -> str:
        """The colours between the values that they stand for."""
        values = self._plane()
        full, signed = drawing.scale(values), bool((values < 0).any())
        low = f"{-full:.3g}" if signed else "0"
        colours = source(_png(over.bar(128, 8, signed)), "image/png")
        bar = f'<img src="{colours}" alt="to" style="vertical-align:middle">'
        return f"<small>{low} {bar} {full:.3g} and more</small>" if values.any() else "<small>0 everywhere</small>"

    def _plane(self) -> npt.NDArray[np.float32]:
        """(H, W) of (H, W) or (C, H, W)."""
        values = self.values.astype(np.float32)
        return np.asarray(np.abs(values).max(axis=0)) if values.ndim == 3 else values


def _png(picture: PILImage.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=3)
    return out.getvalue()


def _typed(picture: Any) -> PILImage.Image:
    result: PILImage.Image = picture
    return result
