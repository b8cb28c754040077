"""Audits: from arguments to messages of the wire."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ouzel_client._codec import images
from ouzel_client._codec.images import ImageInput
from ouzel_client._codec.message import made, put, put_time
from ouzel_client._codec.options import class_ref, text
from ouzel_client._optional import need_pillow
from ouzel_client._pictures.upload import Upload
from ouzel_client._types.audit import Box, MaskInput, Reported
from ouzel_client._types.saliency import Class
from ouzel_client.errors import InvalidArgument
from ouzel_protos import pictures, tensors
from ouzel_protos.v1 import audit_pb2 as pb
from ouzel_protos.v1 import dataset_pb2

SERVICE = "/ouzel.v1.AuditService/"
LARGEST_REQUEST = 32 * 2**20  # bytes that a worker takes
_OPTIONS = ("fills", "scenes", "steps", "random_orders", "effect_margin", "control_margin", "seed")


@dataclass(frozen=True)
class About:
    """What one audit is about.

    Attributes:
        image: The image.
        claimed: The class.
        mask: Where the object is.
        boxes: Or boxes.
        reported: What another service said.
    """

    image: ImageInput
    claimed: Class
    mask: MaskInput | None = None
    boxes: Sequence[Box] = ()
    reported: Reported | None = None


def each_about(
    given: Sequence[ImageInput], claimed: Class | Sequence[Class], per_image: Mapping[str, Any]
) -> list[About]:
    """What each of several audits is about. Raises InvalidArgument where lists differ in length."""
    count = len(given)
    claims = [claimed] * count if isinstance(claimed, str) or not isinstance(claimed, Sequence) else list(claimed)
    columns: dict[str, list[Any]] = {"claimed": claims}
    for name, value in per_image.items():
        if value is not None and (isinstance(value, str | bytes) or not isinstance(value, Sequence)):
            raise InvalidArgument(f"{name}: with a list of images give a list with one for each", field=name)
        if value is not None and len(value):
            columns[name] = list(value)
    for name, values in columns.items():
        if len(values) != count:
            raise InvalidArgument(f"{name}: {len(values)} for {count} images", field=name)
    return [
        About(image, **{name: values[number] for name, values in columns.items() if values[number] is not None})
        for number, image in enumerate(given)
    ]


def request(
    about: About,
    *,
    limit: int,
    surrogate: str = "",
    dataset: str = "",
    pictures: bool = True,
    request_id: str = "",
    scene: bool = False,
    method: str = "",
    organisation: str = "",
    contact: str = "",
    **options: Any,
) -> tuple[pb.AuditPredictionRequest, Upload]:
    """The message of an audit without its source, and the image as it is sent.

    Args:
        about: What it is about.
        limit: Bytes of an image that may be sent.
        surrogate: A model.
        dataset: An id.
        pictures: Whether the answer holds pictures.
        request_id: Echoed.
        scene: Whether the class is a place.
        method: Of the maps.
        organisation: Named on the page for the person concerned.
        contact: Whom this person may ask.
        **options: Those of `AuditOptions`.

    Raises:
        InvalidArgument: An argument cannot be sent.
    """
    upload = _image(about.image, limit)
    message = made(
        pb.AuditPredictionRequest,
        image=upload.data,
        surrogate=surrogate,
        dataset=dataset,
        include_pictures=pictures,
        include_files=pictures,
        request_id=request_id,
        scene=scene,
        method=method,
    )
    if organisation or contact:
        message.contact.CopyFrom(made(pb.AuditContact, organisation=organisation, contact=contact))
    message.claimed.CopyFrom(class_ref(about.claimed, "claimed"))
    _put_mask(message, about.mask, limit)
    for number, box in enumerate(about.boxes):
        message.boxes.append(_box(box, f"boxes[{number}]"))
    for name, value in options.items():
        if name not in _OPTIONS:
            raise InvalidArgument(f"{name}: is not an option of an audit", field=name)
        fills = name == "fills" and [text(each, "fills") for each in ([value] if isinstance(value, str) else value)]
        if name == "fills" and not fills:
            raise InvalidArgument("fills: is empty; leave it out for all kinds", field="fills")
        put(message.options, name, fills or value)
    if about.reported is not None:
        message.reported.CopyFrom(_reported(about.reported))
    return message, upload


def check_size(message: pb.AuditPredictionRequest) -> None:
    """Raises InvalidArgument for a request that no worker takes."""
    if (size := message.ByteSize()) > LARGEST_REQUEST - 2**16:
        raise InvalidArgument(
            f"image: with its mask and maps the request has {size} bytes, more than {LARGEST_REQUEST}; send the mask "
            "as a PNG file, or a smaller map",
            field="image",
        )


def start(
    request: pb.AuditPredictionRequest,
    *,
    labels: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    resize: int | None = None,
    name: str = "",
    version: str = "",
) -> pb.ReportedStart:
    """The first message of a caller whose own function answers. Raises InvalidArgument."""
    if isinstance(labels, str) or not isinstance(labels, Sequence) or len(labels) < 2:
        raise InvalidArgument("labels: give the labels of the classes of predict, at least 2", field="labels")
    if size is not None and not (isinstance(size, Sequence) and len(size) == 2 and all(size)):
        raise InvalidArgument(f"size: {size!r:.80} is not (height, width)", field="size")
    message = made(pb.ReportedStart, name=name, version=version, resize=resize or 0)
    for field, edge in zip(("height", "width"), size or (0, 0), strict=True):
        put(message, field, edge, "size")
    message.labels.extend(text(label, f"labels[{number}]") for number, label in enumerate(labels))
    message.request.CopyFrom(request)
    return message


def answered(scores: Any, count: int, classes: int) -> npt.NDArray[np.float64]:
    """What the caller's function returned, as (N, K) float64. Raises InvalidArgument."""
    try:
        array = np.asarray(scores)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"predict: returned what is no array ({error})", field="predict") from None
    if array.dtype.kind not in "fiu" or array.shape != (count, classes):
        raise InvalidArgument(
            f"predict: returned {array.dtype} {array.shape} for {count} pictures and {classes} labels, not numbers of "
            f"shape ({count}, {classes})",
            field="predict",
        )
    return array.astype(np.float64)


def _image(source: ImageInput, limit: int) -> Upload:
    if not isinstance(source, np.ndarray):
        return images.read(source, limit)
    if source.dtype != np.uint8:
        raise InvalidArgument(
            f"image: an array of {source.dtype} is not uint8 (H, W, 3) or (H, W): an audit needs the picture itself",
            field="image",
        )
    read = images.read(source, limit)
    pillow, _ = need_pillow("an audit of an array")
    return Upload("image", pictures.encode(pillow.fromarray(read.pixels)), read.pixels)


def _put_mask(message: pb.AuditPredictionRequest, mask: MaskInput | None, limit: int) -> None:
    if mask is None:
        return
    if isinstance(mask, np.ndarray):
        if mask.dtype not in (np.bool_, np.uint8) or mask.ndim != 2:
            raise InvalidArgument(f"mask: {mask.dtype} {mask.shape} is not bool or uint8 (height, width)", field="mask")
        message.mask.CopyFrom(tensors.encode(mask))
        return
    try:
        message.mask_file = images.read(mask, limit).data
    except InvalidArgument as error:
        raise InvalidArgument(f"mask: {error.message.removeprefix('image: ')}", field="mask") from None


def _box(box: Box, path: str) -> dataset_pb2.Box:
    try:
        left, top, right, bottom = (float(edge) for edge in box)
    except (TypeError, ValueError):
        raise InvalidArgument(f"{path}: {box!r:.80} is not (left, top, right, bottom)", field=path) from None
    if not all(math.isfinite(edge) for edge in (left, top, right, bottom)):
        raise InvalidArgument(f"{path}: {box!r:.80} has values that are not finite", field=path)
    return dataset_pb2.Box(left=left, top=top, right=right, bottom=bottom)


def _reported(reported: Reported) -> pb.ReportedPrediction:
    if not isinstance(reported, Reported):
        raise InvalidArgument(f"reported: {type(reported).__name__} is not a Reported", field="reported")
    message = pb.ReportedPrediction()
    for name in ("model", "version"):
        put(message, name, getattr(reported, name), f"reported.{name}")
    if not isinstance(reported.scores, Mapping):
        raise InvalidArgument(f"reported.scores: {reported.scores!r:.80} is not a mapping", field="reported.scores")
    for label, probability in reported.scores.items():
        score = message.scores.add()
        put(score, "label", label, "reported.scores")
        put(score, "probability", probability, "reported.scores")
    if reported.saliency is not None:
        try:
            message.saliency.CopyFrom(tensors.encode(reported.saliency))
        except TypeError as error:
            raise InvalidArgument(f"reported.saliency: {error}", field="reported.saliency") from None
    if reported.time is not None:
        put_time(message, reported.time, "reported.time")
    return message
