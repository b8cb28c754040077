"""Results as pictures and HTML. Pillow is imported when the first picture is made."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ouzel_client._codec.images import Upload
from ouzel_client._optional import need_pillow
from ouzel_client.errors import InvalidArgument
from ouzel_protos import heatmap as drawing
from ouzel_protos import overlay as over

if TYPE_CHECKING:
    from PIL import Image as PILImage

    from ouzel_client._types.explanation import Explanation, SaliencyMap


def heatmap(one: SaliencyMap) -> PILImage.Image:
    image, _ = need_pillow("a heat map")
    return _typed(image.fromarray(drawing.colorize(_plane(one.array))))


def overlay(one: SaliencyMap, upload: Upload | None, alpha: float, longest: int = 2048) -> PILImage.Image:
    if not 0 <= alpha <= 1:
        raise InvalidArgument(f"alpha: {alpha} is not in [0, 1]", field="alpha")
    if longest < 1:
        raise InvalidArgument(f"longest: {longest} is not 1 or more", field="longest")
    if upload is None or one.view is None:
        raise InvalidArgument("image: this map does not know its picture", field="image")
    need_pillow("an overlay")
    view, values = one.view, _plane(one.array)
    whole, box = (view.image_width, view.image_height), (view.left, view.top, view.right, view.bottom)
    if one.size == "original":
        values = over.seen(values, box)
    size = over.enlarged(whole, box, values.shape, longest)
    picture = upload.picture(smallest=-(-min(size) // 2))
    x, y = picture.width / whole[0], picture.height / whole[1]
    box = (box[0] * x, box[1] * y, box[2] * x, box[3] * y)
    return over.draw(picture, values, view=box, method=one.method, size=size, alpha=alpha)


def best(one: SaliencyMap, upload: Upload | None) -> PILImage.Image:
    """The overlay where there is a picture, else the map alone; for a page, not for print."""
    drawable = upload is not None and (upload.key == "image" or upload.pixels is not None)
    return overlay(one, upload, 0.8, 512) if drawable else heatmap(one)


def png(picture: PILImage.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=3)
    return out.getvalue()


def map_html(one: SaliencyMap, upload: Upload | None) -> str:
    caption = html.escape(f"{one.method}: {one.target}")
    caveats = "".join(f"<br><small>{html.escape(caveat)}</small>" for caveat in one.caveats)
    return (
        f'<figure style="display:inline-block;margin:4px;max-width:360px"><img src="{_inline(best(one, upload))}" '
        f'alt="{caption}" style="max-width:100%"><figcaption>{caption}<br>{_scale_html(one)}{caveats}</figcaption>'
        "</figure>"
    )


def _scale_html(one: SaliencyMap) -> str:
    """The colours between the values that they stand for."""
    values = _plane(one.array)
    full, signed = drawing.scale(values), bool((values < 0).any())
    low = f"{-full:.3g}" if signed else "0"
    bar = f'<img src="{_inline(over.bar(128, 8, signed))}" alt="to" style="vertical-align:middle">'
    return f"<small>{low} {bar} {full:.3g} and more</small>" if values.any() else "<small>0 everywhere</small>"


def _inline(picture: PILImage.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode()


def explanation_html(explanation: Explanation) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(label)}</td><td>{score:.1%}</td></tr>"
        for label, score in zip(explanation.labels, explanation.scores, strict=True)
    )
    maps = "".join(one._repr_html_() for one in explanation.saliency)
    skipped = f"<p>{html.escape(explanation.skipped)}</p>" if explanation.skipped else ""
    return f"<table>{rows}</table>{skipped}{maps}"


def _plane(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(H, W) of (H, W) or (C, H, W)."""
    values = array.astype(np.float32)
    return np.asarray(np.abs(values).max(axis=0)) if values.ndim == 3 else values


def _typed(picture: Any) -> PILImage.Image:
    result: PILImage.Image = picture
    return result
