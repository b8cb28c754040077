"""Bodies of the Open Inference Protocol: tensors in JSON, or behind it.

A log has no header that tells where the JSON ends and the tensors begin, so the JSON itself tells it.

References:
    Open Inference Protocol, version 2, and its extension for binary tensors:
    https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

import io
import json
import math
from typing import Any

import numpy as np
from PIL import Image

from ouzel.endpoints.clients import oip, scores
from ouzel.endpoints.clients.strict_json import document
from ouzel.endpoints.description.config import LARGEST_SIZE, Endpoint
from ouzel.endpoints.description.protocols import Oip, TensorInput
from ouzel.errors import FailedPrecondition

_DECODER = json.JSONDecoder()
_INPUTS = {"FP32": "<f4", "UINT8": "|u1"}
_SLACK = 0.75  # grey levels by which a tensor may leave 0..255: rounding of services, and overshoot of a resampling
_MOST_BATCH = 4096


def split(body: bytes, what: str) -> tuple[dict[str, Any], bytes]:
    """The JSON of a body, and the bytes behind it.

    Args:
        body: Of an event.
        what: "request" or "response", for messages.

    Raises:
        FailedPrecondition: It does not begin with a JSON object.
    """
    try:
        text = body.decode("latin-1")  # a character per byte: only the end is looked for
        start = len(text) - len(text.lstrip(" \t\r\n"))
        _, end = _DECODER.raw_decode(text, start)
        head = document(body[:end])
    except (ValueError, RecursionError):
        raise FailedPrecondition(f"{what}: does not begin with JSON, or names a key twice") from None
    if not isinstance(head, dict):
        raise FailedPrecondition(f"{what}: is not a JSON object")
    rest = body[end:]
    return head, b"" if not rest.strip() else rest


def image_of(endpoint: Endpoint, how: Oip, head: dict[str, Any], rest: bytes, draw: int) -> bytes:
    """The picture that a request holds, as a PNG file.

    Args:
        endpoint: That describes the tensor.
        how: Its protocol.
        head: Of `split`.
        rest: As `head`.
        draw: Which picture of the batch: modulo its size.

    Raises:
        FailedPrecondition: The tensor is not as the operator says.
    """
    tensor, raw = _find(head, "inputs", how.input.name, rest, "request")
    shape = _shape(tensor, "request")
    if tensor.get("datatype") != how.input.datatype:
        raise FailedPrecondition(
            f"request: the datatype {str(tensor.get('datatype'))!r:.20} is not {how.input.datatype} (input.datatype)"
        )
    channels_first = how.input.layout == "NCHW"
    if len(shape) != 4 or shape[1 if channels_first else 3] != 3:
        raise FailedPrecondition(f"request: the shape {shape[:8]} is not that of colour images, {how.input.layout}")
    height, width = shape[2:] if channels_first else shape[1:3]
    if endpoint.size is not None and (height, width) != tuple(endpoint.size):
        raise FailedPrecondition(
            f"request: pictures of {height} x {width} are not those of {list(endpoint.size)} (size)"
        )
    values = _values(tensor, raw, shape, _INPUTS[how.input.datatype], "request")
    one = values[draw % shape[0]]
    pixels = _pixels(one.transpose(1, 2, 0) if channels_first else one, how.input)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()


def scores_of(endpoint: Endpoint, how: Oip, body: bytes, draw: int) -> np.ndarray:
    """(K,) probabilities of one picture. Arguments and errors as those of `image_of`."""
    head, rest = split(body, "response")
    tensor, raw = _find(head, "outputs", how.output, rest, "response")
    shape, classes = _shape(tensor, "response"), len(endpoint.labels)
    if len(shape) != 2 or shape[1] != classes:
        raise FailedPrecondition(f"response: scores of the shape {shape[:8]}; there are {classes} labels")
    kind = oip.FLOATS.get(str(tensor.get("datatype")))
    if kind is None:
        raise FailedPrecondition(
            f"response: the datatype {str(tensor.get('datatype'))!r:.20} is not one of {', '.join(oip.FLOATS)}"
        )
    values = _values(tensor, raw, shape, kind, "response").astype(np.float64)
    return scores.probabilities(values[draw % shape[0]][None], how.scores, endpoint.who)[0]


def batch_of(body: bytes, key: str, name: str) -> int:
    """Pictures in a body. Raises FailedPrecondition."""
    what = "request" if key == "inputs" else "response"
    head, rest = split(body, what)
    return _shape(_find(head, key, name, rest, what)[0], what)[0]


def _find(head: dict[str, Any], key: str, name: str, rest: bytes, what: str) -> tuple[dict[str, Any], bytes | None]:
    """The tensor of this name, or the only one, and its bytes if they are behind the JSON."""
    tensors = head.get(key)
    if not isinstance(tensors, list) or not tensors or not all(isinstance(each, dict) for each in tensors):
        raise FailedPrecondition(f"{what}: has no list of {key}")
    sizes = [oip.binary_size(each) for each in tensors]
    if sum(each or 0 for each in sizes) != len(rest):
        raise FailedPrecondition(f"{what}: {len(rest)} bytes follow the JSON, which says {sum(e or 0 for e in sizes)}")
    fitting = [number for number, each in enumerate(tensors) if name in ("", each.get("name"))]
    if len(fitting) != 1:
        missing = f"no tensor {name[:80]!r}" if name else f"{len(fitting)} {key}; the file must name one"
        raise FailedPrecondition(f"{what}: has {missing}")
    number = fitting[0]
    size, offset = sizes[number], sum(each or 0 for each in sizes[:number])
    return tensors[number], None if size is None else rest[offset : offset + size]


def _shape(tensor: dict[str, Any], what: str) -> list[int]:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not shape or not all(type(each) is int and each > 0 for each in shape):
        raise FailedPrecondition(f"{what}: has no shape of whole numbers above 0")
    if shape[0] > _MOST_BATCH or (len(shape) == 4 and max(shape) > LARGEST_SIZE):
        raise FailedPrecondition(
            f"{what}: the shape {shape[:8]} is beyond {_MOST_BATCH} pictures of {LARGEST_SIZE} pixels"
        )
    return shape


def _values(tensor: dict[str, Any], raw: bytes | None, shape: list[int], kind: str, what: str) -> np.ndarray:
    count = math.prod(shape)
    if raw is not None:
        if len(raw) != count * np.dtype(kind).itemsize:
            raise FailedPrecondition(f"{what}: {len(raw)} bytes do not make a tensor of the shape {shape[:8]}")
        return np.frombuffer(raw, kind).reshape(shape)
    data = oip.flat(tensor.get("data"))
    if not isinstance(data, list) or len(data) != count or not all(map(scores.is_number, data)):
        raise FailedPrecondition(f"{what}: its data are not the {count} numbers that the shape {shape[:8]} says")
    return scores.as_floats(data, what).reshape(shape)


def _pixels(values: np.ndarray, how: TensorInput) -> np.ndarray:
    """(H, W, 3) uint8: what `ouzel.endpoints.clients.tensors.tensor` turns into these values."""
    pixels = values.astype(np.float64)
    if how.datatype == "FP32":
        assert how.scale is not None
        pixels = (pixels * np.array(how.std) + np.array(how.mean)) / how.scale
    if not np.isfinite(pixels).all():
        raise FailedPrecondition("request: has values that are not finite")
    low, high = float(pixels.min()), float(pixels.max())
    if low < -_SLACK or high > 255 + _SLACK:
        raise FailedPrecondition(
            f"request: its values are grey levels of {low:.1f} to {high:.1f}, not 0 to 255: scale, mean or std in the "
            "operator's file are not those of the service"
        )
    if how.channels == "BGR":
        pixels = pixels[..., ::-1]
    return np.ascontiguousarray(pixels.round().clip(0, 255), np.uint8)
