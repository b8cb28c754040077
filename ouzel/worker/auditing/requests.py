"""From a request of the wire to what the library takes. The service has checked what needs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ouzel import images
from ouzel.audit import Claim, Margins, PredictionOptions, View, region
from ouzel.audit.view import LONGEST
from ouzel.errors import InvalidArgument, OuzelError
from ouzel_protos import tensors
from ouzel_protos.v1 import audit_pb2 as pb
from ouzel_protos.v1 import dataset_pb2
from ouzel_protos.v1.tensor_pb2 import Tensor

METHOD = "grad_cam"
_EDGES = (8, 640)  # pixels of the pictures of a caller's function
_RESIZE = 2048
# What the library calls a field, and what the wire does.
_FIELDS = {
    "label": "claimed",
    "fills": "options.fills",
    "scenes": "options.scenes",
    "steps": "options.steps",
    "random_orders": "options.random_orders",
    "margins.effect": "options.effect_margin",
    "margins.control": "options.control_margin",
    "seed": "options.seed",
    "reported_map": "reported.saliency",
}


def renamed(error: OuzelError) -> OuzelError:
    """An error of the library, with the names of the wire."""
    field = _FIELDS.get(error.field)
    if field is None:
        return error
    return type(error)(f"{field}: {str(error).removeprefix(f'{error.field}: ')}", field=field)


def options(message: pb.AuditOptions) -> PredictionOptions:
    """The options, with their defaults. Raises InvalidArgument."""
    usual, margins = PredictionOptions(), Margins()
    return PredictionOptions(
        fills=tuple(message.fills) or usual.fills,
        scenes=message.scenes if message.HasField("scenes") else usual.scenes,
        steps=message.steps if message.HasField("steps") else usual.steps,
        random_orders=message.random_orders if message.HasField("random_orders") else usual.random_orders,
        margins=Margins(
            effect=message.effect_margin if message.HasField("effect_margin") else margins.effect,
            control=message.control_margin if message.HasField("control_margin") else margins.control,
        ),
        seed=message.seed,
    )


def image(request: pb.AuditPredictionRequest, view: View) -> Image.Image:
    """The image, large enough for what the audited model sees of it. Raises InvalidArgument."""
    return images.decode(request.image, smallest=view.resize or max(view.size or (LONGEST,)))


def claim(request: pb.AuditPredictionRequest, width: int, height: int) -> Claim:
    """What was claimed.

    Args:
        request: The request.
        width: Of the image, in pixels.
        height: Of the image, in pixels.

    Raises:
        InvalidArgument: A mask, a box or a map cannot be read.
    """
    kind = request.claimed.WhichOneof("kind")
    if kind is None:
        raise InvalidArgument("claimed: missing; name the class that was claimed", field="claimed")
    label = request.claimed.label if kind == "label" else f"index:{request.claimed.index}"
    reported = None
    if request.reported.HasField("saliency"):
        reported = _array(request.reported.saliency, "reported.saliency")
    return Claim(
        label,
        mask=_mask(request, width, height),
        boxes=boxes(request.boxes),
        scene=request.scene,
        reported_map=reported,
    )


def boxes(given: Sequence[dataset_pb2.Box]) -> tuple[tuple[int, int, int, int], ...]:
    """(left, top, right, bottom) of whole pixels that the boxes touch. Raises InvalidArgument."""
    for number, each in enumerate(given):
        edges = (each.left, each.top, each.right, each.bottom)
        if not all(math.isfinite(edge) and abs(edge) < 2**31 for edge in edges):
            where = f"boxes[{number}]"
            raise InvalidArgument(f"{where}: {edges} are not finite numbers of pixels", field=where)
    return tuple(region.box_pixels(each.left, each.top, each.right, each.bottom) for each in given)


def caller_view(start: pb.ReportedStart) -> View:
    """How an image becomes a picture for the caller's function. Raises InvalidArgument."""
    height, width = start.height, start.width
    if not height and not width:
        if start.resize:
            raise InvalidArgument("resize: needs height and width", field="resize")
        return View()
    for name, edge in (("height", height), ("width", width)):
        if not _EDGES[0] <= edge <= _EDGES[1]:
            raise InvalidArgument(f"{name}: {edge} is not within {_EDGES[0]}..{_EDGES[1]} pixels", field=name)
    if start.resize and not max(height, width) <= start.resize <= _RESIZE:
        raise InvalidArgument(
            f"resize: {start.resize} is not within {max(height, width)}..{_RESIZE} pixels", field="resize"
        )
    return View((height, width), start.resize or None)


def _mask(request: pb.AuditPredictionRequest, width: int, height: int) -> np.ndarray | None:
    if request.mask_file:
        field = "mask_file"
        try:
            mask = region.mask_of_file(request.mask_file)
        except InvalidArgument as error:
            raise type(error)(f"{field}: {str(error).removeprefix('image: ')}", field=field) from None
    elif request.HasField("mask"):
        array = _array(request.mask, "mask")
        if request.mask.dtype not in (Tensor.BOOL, Tensor.UINT8) or array.ndim != 2:
            raise InvalidArgument(
                f"mask: {array.dtype} {array.shape} is not BOOL or UINT8 (height, width)", field="mask"
            )
        mask, field = (array if array.dtype == np.bool_ else array > region.GREY), "mask"
    else:
        return None
    if not mask.any():
        raise InvalidArgument(
            f"{field}: no value is above {region.GREY}, so nothing is the object; give BOOL, or 255 on the object",
            field=field,
        )
    if mask.shape != (height, width):
        raise InvalidArgument(
            f"{field}: has {mask.shape[0]} x {mask.shape[1]} pixels (height x width), the image {height} x {width}",
            field=field,
        )
    return mask


def _array(tensor: Tensor, field: str) -> np.ndarray:
    try:
        return tensors.decode(tensor)
    except ValueError as error:
        raise InvalidArgument(f"{field}: {error}", field=field) from None
