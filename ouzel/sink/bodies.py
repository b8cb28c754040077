"""What the bodies of a service hold: the image, where the object is, and what was predicted.

Bodies are described by an endpoint of the operator's file, as for a service that is asked.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ouzel.endpoints.clients import scores
from ouzel.endpoints.clients.strict_json import NOT_READ, document
from ouzel.endpoints.description.json_path import JsonPath
from ouzel.endpoints.description.protocols import HttpJson, Oip
from ouzel.errors import FailedPrecondition
from ouzel.sink import tensor_bodies
from ouzel.sink.config import Service
from ouzel_protos.text import nfc, shown

LARGEST_IMAGE = 6_553_500  # bytes, as the worker takes them
_MOST_BOXES = 1000
_TOLD = 10  # best classes that are told to the worker
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Prediction:
    """What the service said.

    Attributes:
        label: Of the predicted class.
        score: Its probability; None where the service answers with a label alone.
        best: The best classes with their probabilities, the best first; empty if `score` is None.
    """

    label: str
    score: float | None
    best: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Picture:
    """What the service was asked about.

    Attributes:
        image: A file: as it was sent, or PNG of the tensor that was sent.
        tensor: Whether it was a tensor, of which the audited model must see all.
        boxes: Of the object, in pixels; may be empty.
        mask: Of the object, a file; may be empty.
    """

    image: bytes = field(repr=False)
    tensor: bool
    boxes: tuple[Box, ...] = ()
    mask: bytes = field(default=b"", repr=False)


def prediction(service: Service, response: bytes, draw: int) -> Prediction:
    """Read a response.

    Args:
        service: Whose.
        response: The body.
        draw: Which picture of a batch is meant: its number is `draw` modulo the size of the batch.

    Raises:
        FailedPrecondition: It is not as the operator says.
    """
    how, endpoint = service.bodies.protocol, service.bodies
    if service.label is not None:
        return _labelled(service, service.label, _json(response, "response"))
    if isinstance(how, Oip):
        row = tensor_bodies.scores_of(endpoint, how, response, draw)
    elif isinstance(how, HttpJson):
        row = scores.from_document(_json(response, "response"), how, endpoint.labels, endpoint.who)
    else:
        values = _json(response, "response")
        if not isinstance(values, dict):
            raise FailedPrecondition("response: is not a JSON object of labels and probabilities")
        indices = {label: index for index, label in enumerate(endpoint.labels)}
        row = scores.from_pairs(values.items(), indices, endpoint.who, partial=True)
        row = scores.probabilities(row[None], "probabilities", endpoint.who, partial=True)[0]
    if not (np.isfinite(row).all() and row.min() >= 0 and row.max() <= 1 + 1e-6):
        raise FailedPrecondition("response: has probabilities that are not within 0..1")
    order = np.argsort(-row, kind="stable")[:_TOLD]
    best = tuple((endpoint.labels[index], min(1.0, float(row[index]))) for index in order)
    return Prediction(best[0][0], best[0][1], best)


def picture(service: Service, request: bytes, draw: int) -> Picture:
    """Read a request. Arguments and errors as those of `prediction`."""
    how = service.bodies.protocol
    if isinstance(how, Oip):
        head, tensors = tensor_bodies.split(request, "request")
        image, tensor = tensor_bodies.image_of(service.bodies, how, head, tensors, draw), True
        values: Any = head
    elif isinstance(how, HttpJson) and how.image == "json":
        values = _json(request, "request")
        image, tensor = _encoded(values, how.place, how.prefix, "image"), False
    else:
        values, image, tensor = None, request, False
    if not 0 < len(image) <= LARGEST_IMAGE:
        raise FailedPrecondition(f"request: its image has {len(image)} bytes, which is not within 1..{LARGEST_IMAGE}")
    boxes = () if service.boxes is None else _boxes(values, service.boxes)
    mask = b"" if service.mask is None else _mask(values, service.mask)
    return Picture(image, tensor, boxes, mask)


def check_batches(service: Service, request: bytes, response: bytes) -> None:
    """Refuses a pair whose halves hold another number of pictures. Raises FailedPrecondition."""
    how = service.bodies.protocol
    if isinstance(how, Oip) and service.label is None:
        asked = tensor_bodies.batch_of(request, "inputs", how.input.name)
        answered = tensor_bodies.batch_of(response, "outputs", how.output)
        if asked != answered:
            raise FailedPrecondition(f"response: has scores of {answered} pictures, the request {asked}")


def _json(body: bytes, what: str) -> Any:
    try:
        return document(body)
    except (ValueError, RecursionError):
        raise FailedPrecondition(f"{what}: {NOT_READ}") from None


def _labelled(service: Service, path: JsonPath, values: Any) -> Prediction:
    labels = service.bodies.labels
    try:
        value = path.get(values)
    except LookupError:
        raise FailedPrecondition(f"response: has nothing at {path} (label)") from None
    if isinstance(value, str) and nfc(value) in labels:
        return Prediction(nfc(value), None)
    if scores.is_number(value) and math.isfinite(value) and value == int(value) and 0 <= value < len(labels):
        return Prediction(labels[int(value)], None)
    told = shown(value, 80) if isinstance(value, str) else f"{value!r:.40}"
    raise FailedPrecondition(f"response: {told} at {path} is no label, and no index of 0..{len(labels) - 1}")


def _encoded(values: Any, path: JsonPath, prefix: str, what: str) -> bytes:
    try:
        text = path.get(values)
    except LookupError:
        raise FailedPrecondition(f"request: has nothing at {path} ({what})") from None
    if not isinstance(text, str) or not text.startswith(prefix):
        raise FailedPrecondition(f"request: the value at {path} ({what}) is not a text that begins with {prefix!r:.40}")
    try:
        return base64.b64decode(text[len(prefix) :], validate=True)
    except (ValueError, binascii.Error):  # an address or a path is neither, and is never opened
        raise FailedPrecondition(f"request: the value at {path} ({what}) is not base64") from None


def _boxes(values: Any, path: JsonPath) -> tuple[Box, ...]:
    """Empty where the request says nothing: regions of other requests are known nevertheless."""
    try:
        some = path.get(values)
    except LookupError:
        return ()
    if some in (None, []):
        return ()
    if not isinstance(some, list) or len(some) > _MOST_BOXES or not all(map(_is_box, some)):
        raise FailedPrecondition(
            f"request: the value at {path} (boxes) is not a list of at most {_MOST_BOXES} boxes "
            "[left, top, right, bottom]"
        )
    return tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in some)


def _is_box(value: Any) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 4:
        return False
    return all(scores.is_number(each) and abs(each) < 1e9 for each in value)


def _mask(values: Any, path: JsonPath) -> bytes:
    try:
        if path.get(values) is None:
            return b""
    except LookupError:
        return b""
    mask = _encoded(values, path, "", "mask")
    if len(mask) > LARGEST_IMAGE:
        raise FailedPrecondition(f"request: its mask has {len(mask)} bytes, more than {LARGEST_IMAGE}")
    return mask
