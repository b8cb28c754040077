"""Boxes drawn over a picture: what a detector found, or the box that a map is of. The same everywhere.

Each box has the colour that its class has in label maps (`ouzel_protos.label_map`), on a dark line, so that it is seen
on any ground. Pillow is imported when a picture is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ouzel_protos.label_map import colours

if TYPE_CHECKING:
    from PIL import Image as PILImage

MOST = 100  # boxes of a picture; more hide it
_LINE = 0.006  # width of a line, of the picture's shorter edge
_TEXT = 13  # height of a label
_LONGEST = 32  # characters of a label


@dataclass(frozen=True)
class Box:
    """A box of a picture.

    Attributes:
        edges: left, top, right, bottom in pixels of the picture.
        index: Of its class.
        label: Of its class.
        score: Its probability; None of one that was not detected.
    """

    edges: tuple[float, float, float, float]
    index: int
    label: str
    score: float | None = None


def draw(
    picture: PILImage.Image, boxes: Sequence[Box], whole: tuple[int, int], *, labels: bool = True
) -> PILImage.Image:
    """Draws boxes on a copy of a picture, the last one first, so that the first ones lie above.

    Args:
        picture: The whole picture at any size, RGB.
        boxes: In pixels of the picture at its own size. At most 100 are drawn.
        whole: (width, height), its own size.
        labels: Whether label and score are written.

    Returns:
        An RGB image of the size of `picture`.
    """
    from PIL import ImageDraw

    drawn = picture.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    across, down = drawn.width / whole[0], drawn.height / whole[1]
    line = max(2, round(_LINE * min(drawn.size)))
    for box in reversed(boxes[:MOST]):
        left, top, right, bottom = (
            min(max(round(edge * scale), 0), most - 1)
            for edge, scale, most in zip(box.edges, (across, down) * 2, drawn.size * 2, strict=True)
        )
        fill: Any = _colour(box.index)
        pen.rectangle((left, top, right, bottom), outline="black", width=line + 2)
        pen.rectangle((left, top, right, bottom), outline=fill, width=line)
        if labels:
            _write(pen, (left, top), _words(box), fill, drawn.size)
    return drawn


def _colour(index: int) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in colours()[index % 256])
    return (red, green, blue) if max(red, green, blue) >= 128 else (red + 127, green + 127, blue + 127)


def _words(box: Box) -> str:
    return box.label[:_LONGEST] if box.score is None else f"{box.label[:_LONGEST]} {box.score:.2f}"


def _write(pen: Any, corner: tuple[int, int], text: str, fill: Any, size: tuple[int, int]) -> None:
    """A label within the picture, above the box where there is room."""
    from PIL import ImageFont

    font = ImageFont.load_default(_TEXT)
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    wide, high = round(right - left) + 4, round(bottom - top) + 6
    x = max(0, min(corner[0], size[0] - wide))
    y = corner[1] - high if corner[1] >= high else min(corner[1], max(0, size[1] - high))
    pen.rectangle((x, y, x + wide, y + high), fill="black")
    pen.text((x + 2 - left, y + 3 - top), text, fill=fill, font=font)
