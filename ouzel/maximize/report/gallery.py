"""Many images on one sheet, as a PNG and as an HTML page that needs nothing from elsewhere."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from ouzel import pages
from ouzel.errors import InvalidArgument
from ouzel.maximize.report.verdict import Verdict
from ouzel.maximize.results import Visualization
from ouzel.maximize.search import Ranking
from ouzel.models import Preprocessing

_GAP, _LINE = 6, 14  # pixels between pictures, and of a line of text
_SMALLEST = 112  # pixels of a picture's longer edge
_WHOLE = 512  # pixels of a photograph's longer edge
_DIM = 0.45  # brightness of what the model does not see
_NAMES = {
    "name": "Recipe",
    "rate": "Learning rate",
    "anneal": "Share of steps in which it falls to 0",
    "decay": "Exponent of the spectrum",
    "coarse_to_fine": "Share of steps from coarse to fine",
    "norm_weight": "Weight of the norm",
    "p": "Exponent of the norm",
    "tv_weight": "Weight of the total variation",
    "beta": "Exponent of the total variation",
    "jitter": "Jitter, share of the edge",
    "rotate": "Rotation, degrees",
    "diversity": "Weight of the diversity",
    "zoom_range": "Zoom range",
    "noise": "Noise of the views",
    "unchanged": "Share of views that are the image as it is",
    "views_per_step": "Views per step",
    "statistics": "Weight of the statistics of photographs",
    "relevance": "Relevance of channels there",
    "low_start": "Contrast of a smooth start",
}

Whole = Callable[[str], Image.Image]


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture of a sheet, with two lines below it. image: (C, H, W) in [0, 1].

    Of a page besides: activation; lines: what else there is to say; history: activations on the way; whole: the
    photograph that the image is a part of, with a frame round that part.
    """

    image: Tensor
    title: str
    caption: str
    activation: float = 0.0
    lines: tuple[str, ...] = ()
    history: tuple[float, ...] = ()
    whole: Image.Image | None = None


def tiles_of(visualizations: Sequence[Visualization], verdicts: Sequence[Verdict | None] = ()) -> list[Tile]:
    """The images that were sought, with the activation and, where it is known, the best of the data set."""
    known = verdicts or [None] * len(visualizations)
    return [_sought(one, verdict) for one, verdict in zip(visualizations, known, strict=True)]


def _sought(one: Visualization, verdict: Verdict | None) -> Tile:
    best, lines = one.best_of_data, []
    if best is not None:
        lines.append(f"Best photograph: {best.activation:.2f}, {best.name}")
    if verdict is not None:
        said = "Recognised" if verdict.rank == 1 else "Taken for"
        lines.append(f"{said}: {verdict.label}, {pages.percent(verdict.probability, 0)}")
    if (score := one.independent) is not None:
        said = "recognised" if score.rank == 1 else f"taken for {score.first}; what was sought has rank {score.rank}"
        lines.append(f"{score.model}: {said}, {pages.percent(score.probability, 0)}")
    if one.path is not None:
        told = ", ".join(f"{each.layer} {each.score:.2f}" for each in one.path.layers if each.score is not None)
        lines.append(
            f"Path, 1 as photographs of the class, 0 as those of others: {told or 'no layer tells the classes apart'}"
        )
    caption = f"{one.activation:.2f}" + (f", data {best.activation:.2f}" if best else "")
    return Tile(one.image, one.title, caption, one.activation, tuple(lines), one.history)


def crops_of(
    rankings: Sequence[Ranking],
    images: Mapping[str, Tensor],
    whole: Whole | None = None,
    preprocessing: Preprocessing | None = None,
) -> list[Tile]:
    """The parts of data-set images that excite each node most. images: (C, H, W) in [0, 1], by name.

    whole: gives the photograph that an image was cut from, by name, as `preprocessing` did it; without them the images
    are shown as the model sees them.
    """
    tiles = []
    for ranking in rankings:
        for hit in ranking.hits:
            image = images[hit.name]
            left, top, right, bottom = hit.box
            photograph, view = picture(image), (0.0, 0.0, float(image.shape[2]), float(image.shape[1]))
            if whole is not None and preprocessing is not None:
                photograph = whole(hit.name)
                view = preprocessing.view(*photograph.size)
            seen = image.shape[2], image.shape[1]
            drawn = marked(photograph, view, hit.box, seen)
            caption = f"{hit.activation:.2f}, {hit.name}"
            all_of_it = hit.box == (0, 0, *seen)
            lines = (
                hit.name,
                "The node sees all of it" if all_of_it else f"Frame: {right - left} x {bottom - top} pixels",
            )
            crop = image[:, top:bottom, left:right]
            tiles.append(Tile(crop, ranking.title, caption, hit.activation, lines, (), drawn))
    return tiles


def marked(
    photograph: Image.Image,
    view: tuple[float, float, float, float],
    box: tuple[int, int, int, int],
    seen: tuple[int, int],
) -> Image.Image:
    """The photograph with what the model does not see in the dark, and a frame round what a node sees.

    view: what the model sees, (left, top, right, bottom) in pixels of the photograph. box: the same of the node, in
    pixels of the model's input, which has `seen` (width, height).
    """
    share = _WHOLE / max(photograph.size)
    size = (max(1, round(photograph.width * share)), max(1, round(photograph.height * share)))
    resized = photograph.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    left, top, right, bottom = (edge * share for edge in view)
    inner = (round(left), round(top), round(right), round(bottom))
    dark = resized.point([int(_DIM * value) for value in range(256)] * 3)
    dark.paste(resized.crop(inner), inner[:2])
    across, down = (right - left) / seen[0], (bottom - top) / seen[1]
    frame = (left + box[0] * across, top + box[1] * down, left + box[2] * across - 1, top + box[3] * down - 1)
    pen = ImageDraw.Draw(dark)
    for grow, colour, width in ((2, "black", 10), (0, "#ffd400", 6)):  # to be seen on anything
        edges = (
            max(0, frame[0] - grow),
            max(0, frame[1] - grow),
            min(size[0] - 1, frame[2] + grow),
            min(size[1] - 1, frame[3] + grow),
        )
        pen.rectangle(edges, outline=colour, width=width)
    return dark


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
        pen.text((x, y + drawn.height), pages.plain(one.title), fill="black")
        pen.text((x, y + drawn.height + _LINE), pages.plain(one.caption), fill="#555555")
    return page


def page(
    tiles: Sequence[Tile],
    title: str,
    *,
    recipe: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> str:
    """The sheet as HTML, node by node.

    Args:
        tiles: The pictures.
        title: Of the page.
        recipe: How the images were sought.
        facts: With what.
        warnings: Lines that a reader must see first.
    """
    groups = [(name, [_card(one) for one in group]) for name, group in groupby(tiles, key=lambda one: one.title)]
    if all(len(cards) == 1 for _, cards in groups):  # side by side, each under its own name
        groups = [("", [{**card, "title": name} for name, (card,) in groups])]
    return pages.render(
        "gallery.html",
        title=title,
        groups=groups,
        photographs=any(one.whole is not None for one in tiles),
        notes=list(warnings),
        rows=pages.rows(recipe or {}, _NAMES) + pages.rows(facts or {}, {}),
    )


def _card(one: Tile) -> dict[str, Any]:
    return {
        "title": "",
        "image": pages.source(png(_enlarged(one.image)), "image/png"),
        "whole": pages.photo(np.asarray(one.whole)) if one.whole is not None else "",
        "activation": f"{one.activation:.2f}",
        "cold": one.activation <= 0,
        "lines": one.lines,
        "curve": _points(one.history),
        "began": f"{one.history[0]:.2f}" if one.history else "",
    }


def _points(history: Sequence[float], width: int = 100, height: int = 28) -> str:
    """Of a line through the values, as SVG wants them; empty for fewer than two."""
    values = np.asarray(history[:: max(1, len(history) // 200)], dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return ""
    span = float(np.ptp(values)) or 1.0
    xs = np.linspace(0, width, len(values))
    ys = height - 1 - (values - values.min()) / span * (height - 2)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))


def _enlarged(image: Tensor) -> Image.Image:
    drawn = picture(image).convert("RGB")
    factor = max(1, math.ceil(_SMALLEST / max(drawn.size)))
    return drawn.resize((drawn.width * factor, drawn.height * factor), Image.Resampling.NEAREST)
