"""The answer in the format that the caller accepts: the message, JSON, or a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from google.protobuf import json_format
from PIL import Image

from ouzel import images
from ouzel.explain.accept import JSON, PNG, PROTOBUF
from ouzel_protos import boxes, heatmap, label_map, overlay, tensors
from ouzel_protos.v1 import explain_pb2 as pb

# Bytes of an answer per byte of its message, at most: base64 and spelled-out names make JSON longer.
RESPONSE_FACTORS = {PROTOBUF: 1.0, JSON: 1.5}
_PIXEL = 3.1  # bytes of a PNG pixel, at most: three, and a little that PNG may add to noise
_LONGEST, _SHORTEST = 1024, 256  # pixels of the longer edge of a drawn map, unless the original's size is asked for


def tiles(view: pb.View, input_size: tuple[int, int], original: Sequence[bool], limit: int) -> list[tuple[int, int]]:
    """(width, height) at which each map is drawn over the whole picture: at its size, up to 1024 pixels along an edge.

    A small picture is enlarged to the resolution of the map, and many maps are drawn smaller, so that the answer stays
    within `limit` bytes. original: for each map, whether the original's size is asked for; it is kept then. input_size:
    (height, width) of the model's.
    """
    whole, box = (view.image_width, view.image_height), (view.left, view.top, view.right, view.bottom)
    width, height = overlay.enlarged(whole, box, input_size, _LONGEST)
    if free := sum(not each for each in original):
        room = (limit / _PIXEL - whole[0] * whole[1] * (len(original) - free)) / free
        shrink = max(0.95 * math.sqrt(max(room, 0.0) / (width * height)), _SHORTEST / max(width, height))
        width, height = (max(1, round(edge * min(1.0, shrink))) for edge in (width, height))
    return [whole if each else (width, height) for each in original]


def picture_bytes(sizes: Sequence[tuple[int, int]]) -> int:
    """Bytes of a PNG of tiles of these sizes side by side, at most."""
    return 1024 + int(_PIXEL * sum(width for width, _ in sizes) * max((height for _, height in sizes), default=0))


def render(
    envelope: pb.Explanation, picture: Image.Image | None, media_type: str, limit: int = 6_553_500
) -> tuple[bytes, str]:
    """(body, its media type). Where a picture was asked for and there is no map to draw, the answer is JSON.

    picture: the upload, or None if there is nothing to draw on. limit: bytes that a picture may have.
    """
    if media_type == PROTOBUF:
        return envelope.SerializeToString(), PROTOBUF
    if media_type == PNG and envelope.saliency:
        return _overlays(envelope, picture, limit), PNG
    if media_type == PNG and envelope.HasField("detected") and picture is not None:
        return _png(_found(envelope, picture, limit)), PNG
    if media_type == PNG and envelope.HasField("segmentation"):
        return _png(_segments(envelope, picture, limit)), PNG
    # A zero is a value: class 0, a probability of 0.0, an all-zero map must not look as if they had none.
    body = json_format.MessageToJson(
        envelope, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=None
    )
    return body.encode(), JSON


def _overlays(envelope: pb.Explanation, picture: Image.Image | None, limit: int) -> bytes:
    """Every map over the picture, side by side."""
    planes = [_plane(one) for one in envelope.saliency]
    original = [one.size == pb.ORIGINAL_IMAGE for one in envelope.saliency]
    input_size = next((p.shape for p, whole in zip(planes, original, strict=True) if not whole), (1, 1))
    sizes = tiles(envelope.view, (input_size[0], input_size[1]), original, limit)
    drawn = [
        _overlay(one, plane, envelope.view, picture, size)
        for one, plane, size in zip(envelope.saliency, planes, sizes, strict=True)
    ]
    canvas = Image.new("RGB", (sum(tile.width for tile in drawn), max(tile.height for tile in drawn)))
    left = 0
    for tile in drawn:
        canvas.paste(tile, (left, 0))
        left += tile.width
    return _png(canvas)


def _found(envelope: pb.Explanation, picture: Image.Image, limit: int) -> Image.Image:
    """What a detector found, over the picture."""
    view = envelope.view
    whole = (view.image_width, view.image_height)
    (size,) = tiles(view, (view.image_height, view.image_width), [False], limit)
    shown = images.plain(picture).convert("RGB").resize(size, Image.Resampling.LANCZOS)
    return boxes.draw(shown, [_box(each.box, each) for each in envelope.detected.detections], whole)


def _box(edges: pb.Region.Box, of: pb.Detection | pb.ResolvedTarget) -> boxes.Box:
    score = of.score if isinstance(of, pb.Detection) or of.HasField("score") else None
    return boxes.Box((edges.left, edges.top, edges.right, edges.bottom), of.index, of.label, score)


def _segments(envelope: pb.Explanation, picture: Image.Image | None, limit: int) -> Image.Image:
    """The label map over the picture, with a legend."""
    found, view = envelope.segmentation, envelope.view
    values = tensors.decode(found.label_map)
    original = found.size == pb.ORIGINAL_IMAGE
    if original:  # no class around the part that the model saw
        values = np.ascontiguousarray(overlay.seen(values, (view.left, view.top, view.right, view.bottom)))
    classes = [(each.index, each.label, each.area) for each in found.classes]
    (size,) = tiles(view, (values.shape[0], values.shape[1]), [original], limit - legend_bytes(len(classes)))
    box = None
    if picture is not None:
        box = images.scaled((view.left, view.top, view.right, view.bottom), picture)
    return label_map.with_legend(label_map.draw(picture, values, view=box, size=size), classes)


def legend_bytes(classes: int) -> int:
    """Of a legend under the largest picture, as a PNG, at most."""
    return int(_PIXEL * math.prod(label_map.legend_size(classes, _LONGEST)))


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=3)
    return out.getvalue()


def _plane(one: pb.SaliencyMap) -> npt.NDArray[np.float32]:
    values = tensors.decode(one.values).astype(np.float32)
    if values.ndim == 3:  # channels were kept; a picture shows one value per pixel
        values = np.abs(values).max(axis=0)
    return values


def _overlay(
    one: pb.SaliencyMap,
    plane: npt.NDArray[np.float32],
    view: pb.View,
    picture: Image.Image | None,
    size: tuple[int, int],
) -> Image.Image:
    if picture is None:
        return Image.fromarray(heatmap.colorize(plane))
    left, top, right, bottom = images.scaled((view.left, view.top, view.right, view.bottom), picture)
    if one.size == pb.ORIGINAL_IMAGE:  # zeros around the part that the model saw
        plane = overlay.seen(plane, (view.left, view.top, view.right, view.bottom))
    drawn = overlay.draw(picture, plane, view=(left, top, right, bottom), method=one.method, size=size)
    if not one.target.HasField("box"):
        return drawn
    return boxes.draw(drawn, [_box(one.target.box, one.target)], (view.image_width, view.image_height))
