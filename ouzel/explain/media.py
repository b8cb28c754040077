"""The answer in the format that the caller accepts: the message, JSON, or a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from google.protobuf import json_format
from PIL import Image

from ouzel.explain.accept import JSON, PNG, PROTOBUF
from ouzel_protos import heatmap, tensors
from ouzel_protos.v1 import explain_pb2 as pb

# Bytes of an answer per byte of its message, at most: base64 and spelled-out names make JSON longer. A PNG pixel has
# three bytes, and PNG may add a little to noise; a value of a map has two at least.
RESPONSE_FACTORS = {PROTOBUF: 1.0, JSON: 1.5, PNG: 1.75}


def render(envelope: pb.Explanation, picture: Image.Image | None, media_type: str) -> tuple[bytes, str]:
    """(body, its media type). Where a picture was asked for and there is no map to draw, the answer is JSON.

    picture: the upload, or None if there is nothing to draw on.
    """
    if media_type == PROTOBUF:
        return envelope.SerializeToString(), PROTOBUF
    if media_type == PNG and envelope.saliency:
        return _overlays(envelope, picture), PNG
    # A zero is a value: class 0, a probability of 0.0, an all-zero map must not look as if they had none.
    body = json_format.MessageToJson(
        envelope, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=None
    )
    return body.encode(), JSON


def _overlays(envelope: pb.Explanation, picture: Image.Image | None) -> bytes:
    """Every map over what it is a map of, side by side."""
    tiles = [_overlay(one, envelope.view, picture) for one in envelope.saliency]
    canvas = Image.new("RGB", (sum(tile.width for tile in tiles), max(tile.height for tile in tiles)))
    left = 0
    for tile in tiles:
        canvas.paste(tile, (left, 0))
        left += tile.width
    out = io.BytesIO()
    canvas.save(out, "PNG", compress_level=3)
    return out.getvalue()


def _overlay(one: pb.SaliencyMap, view: pb.View, picture: Image.Image | None) -> Image.Image:
    values = tensors.decode(one.values).astype(np.float32)
    if values.ndim == 3:  # channels were kept; a picture shows one value per pixel
        values = np.abs(values).max(axis=0)
    height, width = values.shape
    if picture is None:
        return Image.fromarray(heatmap.colorize(values))
    seen = (0.0, 0.0, float(view.image_width), float(view.image_height))
    if one.size == pb.MODEL_INPUT:
        seen = (view.left, view.top, view.right, view.bottom)
    box = _scaled(seen, picture.width / view.image_width, picture.height / view.image_height)
    background = picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR, box=box)
    return Image.fromarray(heatmap.blend(np.asarray(background), values))


def _scaled(box: Sequence[float], x: float, y: float) -> tuple[float, float, float, float]:
    """Geometry is told in pixels of the upload; a large one is decoded at a reduced size."""
    left, top, right, bottom = box
    return left * x, top * y, right * x, bottom * y
