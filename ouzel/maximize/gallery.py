"""Many images on one sheet, as a PNG and as an HTML page that needs nothing from elsewhere."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from ouzel.errors import InvalidArgument
from ouzel.maximize.ascent import Found

_GAP, _LINE = 6, 14  # pixels between pictures, and of a line of text
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; } figure { display: inline-block; margin: 6px; }
img { image-rendering: auto; min-width: 112px; } figcaption { color: #444; max-width: 240px; }
"""


def picture(image: Tensor) -> Image.Image:
    """(C, H, W) in [0, 1], grey or colour, as a picture."""
    values = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(values[:, :, 0] if values.shape[2] == 1 else values))


def sheet(found: Sequence[Found], columns: int | None = None) -> Image.Image:
    """All images in rows, with title and activation below each. columns: None makes it about square."""
    if not found:
        raise InvalidArgument("found: there is no image to show", field="found")
    height, width = found[0].image.shape[1:]
    scale = max(1, math.ceil(112 / width))
    cell = (width * scale + _GAP, height * scale + 2 * _LINE + _GAP)
    columns = columns or math.ceil(math.sqrt(len(found)))
    rows = math.ceil(len(found) / columns)
    page = Image.new("RGB", (columns * cell[0] + _GAP, rows * cell[1] + _GAP), "white")
    pen = ImageDraw.Draw(page)
    for number, one in enumerate(found):
        x, y = _GAP + number % columns * cell[0], _GAP + number // columns * cell[1]
        size = width * scale, height * scale
        page.paste(picture(one.image).convert("RGB").resize(size, Image.Resampling.NEAREST), (x, y))
        pen.text((x, y + size[1]), one.title, fill="black")
        pen.text((x, y + size[1] + _LINE), _figures(one), fill="#555555")
    return page


def page(found: Sequence[Found], title: str) -> str:
    """The sheet as HTML."""
    figures = "".join(
        f'<figure><img src="{_source(one)}" alt="{html.escape(one.title)}"><figcaption>{html.escape(one.title)}<br>'
        f"{html.escape(_figures(one))}</figcaption></figure>"
        for one in found
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>{figures}</html>"
    )


def _figures(one: Found) -> str:
    best = f", data {one.best_of_data.activation:.2f}" if one.best_of_data else ""
    return f"{one.activation:.2f}{best}"


def _source(one: Found) -> str:
    out = io.BytesIO()
    picture(one.image).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
