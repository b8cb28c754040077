"""Many images on one sheet, as a PNG and as an HTML page that needs nothing from elsewhere."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from ouzel.errors import InvalidArgument
from ouzel.maximize.ascent import Found
from ouzel.maximize.search import Ranking

_GAP, _LINE = 6, 14  # pixels between pictures, and of a line of text
_SMALLEST = 112  # pixels of a picture's longer edge
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; } figure { display: inline-block; margin: 6px; }
img { image-rendering: auto; min-width: 112px; } figcaption { color: #444; max-width: 240px; }
"""


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture of a sheet, with two lines below it. image: (C, H, W) in [0, 1]."""

    image: Tensor
    title: str
    caption: str


def tiles_of(found: Sequence[Found]) -> list[Tile]:
    """The images that were sought, with the activation and, where it is known, the best of the data set."""
    return [
        Tile(one.image, one.title, f"{one.activation:.2f}" + (f", data {best.activation:.2f}" if best else ""))
        for one in found
        for best in [one.best_of_data]
    ]


def crops_of(rankings: Sequence[Ranking], images: Mapping[str, Tensor]) -> list[Tile]:
    """The parts of data-set images that excite each node most. images: (C, H, W) in [0, 1], by name."""
    return [
        Tile(images[hit.name][:, top:bottom, left:right], ranking.title, f"{hit.activation:.2f}, {hit.name}")
        for ranking in rankings
        for hit in ranking.hits
        for left, top, right, bottom in [hit.box]
    ]


def picture(image: Tensor) -> Image.Image:
    """(C, H, W) in [0, 1], grey or colour, as a picture."""
    values = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(values[:, :, 0] if values.shape[2] == 1 else values))


def png(image: Image.Image) -> bytes:
    """The picture as a file."""
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def sheet(tiles: Sequence[Tile], columns: int | None = None) -> Image.Image:
    """All tiles in rows. Small pictures are enlarged by whole factors. columns: None makes it about square."""
    if not tiles:
        raise InvalidArgument("tiles: there is no image to show", field="tiles")
    pictures = [_enlarged(one.image) for one in tiles]
    width, height = (max(edges) + _GAP for edges in zip(*(each.size for each in pictures), strict=True))
    height += 2 * _LINE
    columns = columns or math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    page = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), "white")
    pen = ImageDraw.Draw(page)
    for number, (one, drawn) in enumerate(zip(tiles, pictures, strict=True)):
        x, y = _GAP + number % columns * width, _GAP + number // columns * height
        page.paste(drawn, (x, y))
        pen.text((x, y + drawn.height), one.title, fill="black")
        pen.text((x, y + drawn.height + _LINE), one.caption, fill="#555555")
    return page


def page(tiles: Sequence[Tile], title: str) -> str:
    """The sheet as HTML."""
    figures = "".join(
        f'<figure><img src="{_source(one)}" alt="{html.escape(one.title)}"><figcaption>{html.escape(one.title)}<br>'
        f"{html.escape(one.caption)}</figcaption></figure>"
        for one in tiles
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>{figures}</html>"
    )


def _enlarged(image: Tensor) -> Image.Image:
    drawn = picture(image).convert("RGB")
    factor = max(1, math.ceil(_SMALLEST / max(drawn.size)))
    return drawn.resize((drawn.width * factor, drawn.height * factor), Image.Resampling.NEAREST)


def _source(one: Tile) -> str:
    return "data:image/png;base64," + base64.b64encode(png(picture(one.image))).decode()
