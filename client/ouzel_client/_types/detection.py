"""What a detector found in an image."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, overload

from ouzel_client._optional import need_pillow
from ouzel_client._pictures.figure import source
from ouzel_client._pictures.upload import Upload
from ouzel_client._types.regions import Box
from ouzel_client.errors import InvalidArgument
from ouzel_protos import boxes

if TYPE_CHECKING:
    from PIL import Image as PILImage

_IN_A_PAGE = 512  # pixels along an edge


@dataclass(frozen=True)
class Detection:
    """An object that was found.

    Attributes:
        box: In pixels of the uploaded image, upright; of a normalised tensor in those of the input.
        index: Of its class, among the outputs of the model.
        label: Of its class.
        score: Probability of the class.
    """

    box: Box
    index: int
    label: str
    score: float


@dataclass(frozen=True, eq=False)
class Detections(Sequence[Detection]):
    """The objects of an image, the most probable first: a sequence. A notebook shows them as a picture.

    Attributes:
        detections: As many as the request allowed.
        found: How many the network found, those that were left out included.
        whole: (width, height) of the uploaded image.
    """

    detections: tuple[Detection, ...]
    found: int
    whole: tuple[int, int]
    _upload: Upload | None = field(default=None, repr=False)

    @overload
    def __getitem__(self, key: int) -> Detection: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Detection, ...]: ...
    def __getitem__(self, key: int | slice) -> Detection | tuple[Detection, ...]:
        return self.detections[key]

    def __iter__(self) -> Iterator[Detection]:
        return iter(self.detections)

    def __len__(self) -> int:
        return len(self.detections)

    def overlay(self, longest: int = 2048) -> PILImage.Image:
        """Draws the boxes, at most 100, over the uploaded picture. Needs Pillow.

        Args:
            longest: Most pixels along an edge of the picture.

        Raises:
            InvalidArgument: An argument is out of its range, or a normalised tensor was sent: there is no picture then.
        """
        if longest < 1:
            raise InvalidArgument(f"longest: {longest} is not 1 or more", field="longest")
        if self._upload is None or not self._upload.drawable:
            raise InvalidArgument("image: these detections do not know their picture", field="image")
        image, _ = need_pillow("detections")
        scale = min(1.0, longest / max(self.whole))
        size = (max(1, round(self.whole[0] * scale)), max(1, round(self.whole[1] * scale)))
        picture = self._upload.picture(smallest=-(-min(size) // 2)).convert("RGB")
        drawn = picture.resize(size, image.Resampling.LANCZOS)
        return boxes.draw(drawn, [drawable(one.box, one) for one in self.detections], self.whole)

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        self.overlay(_IN_A_PAGE).save(out, "PNG", compress_level=3)
        return out.getvalue()

    def _repr_html_(self) -> str:
        if self._upload is None or not self._upload.drawable:
            return ""
        return f'<img src="{source(self._repr_png_(), "image/png")}" alt="detections" style="max-width:100%">'


def drawable(box: Box, of: Detection) -> boxes.Box:
    """A detection as it is drawn."""
    return boxes.Box((box.left, box.top, box.right, box.bottom), of.index, of.label, of.score)
