"""A label map drawn over the picture that it is of: a colour for each class, and a legend. The same everywhere.

The colours are those of Pascal VOC's label maps: the bits of a class's number, spread over the three channels. The
picture lies beneath in grey. Pillow is imported when a picture is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ouzel_protos.overlay import inside

if TYPE_CHECKING:
    from PIL import Image as PILImage

VOID = 255  # of no class
_ROW, _SWATCH, _GAP = 22, 14, 8  # pixels of the legend
_TEXT = 13  # its height
MOST_ROWS = 24  # of the legend
_NARROWEST = 240  # pixels that a legend needs
_LONGEST = 48  # characters of a label


@cache
def colours() -> npt.NDArray[np.uint8]:
    """(256, 3), a colour for each class, read-only."""
    classes = np.arange(256)
    table = np.zeros((256, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            table[:, channel] |= (classes >> (3 * bit + channel) & 1) << (7 - bit)
    made = table.astype(np.uint8)
    made.setflags(write=False)
    return made


def draw(
    picture: PILImage.Image | None,
    label_map: npt.NDArray[np.uint8],
    *,
    view: tuple[float, float, float, float] | None = None,
    size: tuple[int, int] | None = None,
    alpha: float = 0.6,
) -> PILImage.Image:
    """Draws a label map over the part of a picture that the model saw; the rest stays grey.

    Args:
        picture: The whole picture; None draws the colours alone.
        label_map: (H, W) uint8 of that part; 255 shows the picture.
        view: (left, top, right, bottom) of the part, in pixels of the picture; None is all of it.
        size: (width, height) of the result; None is that of the picture, or of the map.
        alpha: Opacity of the colours, in [0, 1].

    Returns:
        An RGB image.
    """
    from PIL import Image

    colour = Image.fromarray(colours()[label_map])
    if picture is None:
        return colour.resize(size or colour.size, Image.Resampling.NEAREST)
    width, height = size or picture.size
    grey = picture.convert("L").resize((width, height), Image.Resampling.LANCZOS).convert("RGB")
    left, top, right, bottom = inside(view, picture.size, (width, height))
    part = (right - left, bottom - top)
    opaque = np.where(label_map == VOID, 0, round(255 * alpha)).astype(np.uint8)
    mask = Image.fromarray(opaque).resize(part, Image.Resampling.NEAREST)
    grey.paste(colour.resize(part, Image.Resampling.NEAREST), (left, top), mask)
    return grey


def with_legend(drawn: PILImage.Image, classes: Sequence[tuple[int, str, float]]) -> PILImage.Image:
    """A drawn label map with its legend below.

    Args:
        drawn: What `draw` made.
        classes: Index, label and share of each class, the largest first. At most 24 are written.

    Returns:
        An RGB image, which is higher, and wider if the picture is too narrow for words.
    """
    from PIL import Image, ImageDraw, ImageFont

    width, height = legend_size(len(classes), drawn.width)
    page = Image.new("RGB", (width, drawn.height + height), "white")
    page.paste(drawn, (0, 0))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(_TEXT)
    for row, (index, label, share) in enumerate(classes[:MOST_ROWS]):
        top = drawn.height + _GAP // 2 + row * _ROW
        fill: Any = tuple(colours()[index].tolist())
        pen.rectangle((_GAP, top, _GAP + _SWATCH, top + _SWATCH), fill=fill, outline="black")
        text = f"{label[:_LONGEST]}  {share:.1%}"
        pen.text((2 * _GAP + _SWATCH, top), text, fill="black", font=font)
    return page


def legend_size(classes: int, width: int) -> tuple[int, int]:
    """(width, height) in pixels of a page's legend. width: of the picture above it."""
    return max(width, _NARROWEST), _GAP + _ROW * min(classes, MOST_ROWS)
