"""What fake detectors and segmentation models see in an image, and which places targets mean: invented, never changing.

A detector finds each of its classes but the background once, with boxes of half the image's width and height, one
further down to the right than the other. A segmentation model sees its classes as stripes, side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ouzel_client.errors import InvalidArgument
from ouzel_protos import tensors
from ouzel_protos.v1 import explain_pb2 as pb

CLASSIFICATION, SEGMENTATION, DETECTION = "classification", "segmentation", "detection"
BACKGROUND = ("background", "__background__")
_CONFIDENCE = 0.8
Index = Callable[[Any, str], int]  # of a class that a request names, and the path of the request


def detections(labels: Sequence[str], picture: tuple[int, int]) -> list[pb.Detection]:
    """All that a detector finds, the most probable first. picture: (width, height)."""
    found = [index for index, label in enumerate(labels) if label.casefold() not in BACKGROUND]
    width, height = picture
    made = []
    for place, index in enumerate(found):
        left, top = (edge * place / (2 * len(found)) for edge in (width, height))
        box = pb.Region.Box(left=left, top=top, right=left + width / 2, bottom=top + height / 2)
        made.append(pb.Detection(box=box, index=index, label=labels[index], score=0.9 * 0.8**place))
    return made


def detected(labels: Sequence[str], options: pb.ExplainOptions, picture: tuple[int, int]) -> pb.Detected:
    """The answer of a detector."""
    found = detections(labels, picture)
    kept = [one for one in found if one.score >= options.min_score][: options.top_k or None]
    return pb.Detected(detections=kept, found=len(found))


def segmented(
    labels: Sequence[str], options: pb.ExplainOptions, picture: tuple[int, int], size: tuple[int, int]
) -> pb.Segmentation:
    """The answer of a segmentation model. size: (height, width) of its input."""
    original = options.label_map_size == pb.ORIGINAL_IMAGE
    high, wide = (picture[1], picture[0]) if original else size
    stripes = _stripes(len(labels), wide)
    made = pb.Segmentation(
        label_map=tensors.encode(np.repeat(stripes[None], high, 0)), size=options.label_map_size or pb.MODEL_INPUT
    )
    areas = np.bincount(_stripes(len(labels), size[1]), minlength=len(labels)) / size[1]
    order = sorted(range(len(labels)), key=lambda k: (labels[k].casefold() in BACKGROUND, -areas[k], k))
    for index in [index for index in order if areas[index]][: options.top_k or None]:
        made.classes.add(index=index, label=labels[index], area=areas[index], confidence=_CONFIDENCE)
    return made


def detector_targets(
    request: pb.SaliencyRequest, labels: Sequence[str], picture: tuple[int, int], index: Index, path: str
) -> list[pb.ResolvedTarget]:
    """The boxes that a request to a detector means. Raises InvalidArgument."""
    target = request.target
    found, kind = detections(labels, picture), target.WhichOneof("kind")
    if target.HasField("region"):
        field = f"{path}.region"
        if target.region.WhichOneof("kind") != "box":
            raise InvalidArgument(f"{field}: a detector explains a box, no pixel and no mask", field=field)
        if kind not in ("index", "label"):
            raise InvalidArgument(f"{field}: a box needs its class, by index or label", field=field)
        if request.method != "d_rise":
            raise InvalidArgument(f"{path}: {request.method} explains detections, by rank; ask for d_rise", field=path)
        _check_box(target.region.box, picture, f"{field}.box")
        number = index(target, path)
        return [pb.ResolvedTarget(index=number, label=labels[number], box=target.region.box)]
    if kind not in (None, "rank", "top"):
        raise InvalidArgument(
            f"{path}: a class alone names no box; give a detection's rank, or the class with a region.box", field=path
        )
    ranks = range(min(target.top, len(found))) if kind == "top" else [target.rank]
    if any(not 0 <= rank < len(found) for rank in ranks):
        raise InvalidArgument(f"{path}: rank {target.rank}: the model has {len(found)} detections", field=path)
    return [
        pb.ResolvedTarget(
            index=found[rank].index, label=found[rank].label, box=found[rank].box, rank=rank, score=found[rank].score
        )
        for rank in ranks
    ]


def region_of(
    target: pb.Target, resolved: pb.ResolvedTarget, labels: Sequence[str], picture: tuple[int, int], path: str
) -> pb.ResolvedTarget:
    """A target of a segmentation model, with its region and the share of the image that this has."""
    width, height = picture
    kind = target.region.WhichOneof("kind") if target.HasField("region") else None
    if kind is None:
        stripes = _stripes(len(labels), width)
        resolved.region, resolved.region_area = "predicted", float((stripes == resolved.index).mean())
    elif kind == "box":
        box = target.region.box
        _check_box(box, picture, f"{path}.region.box")
        area = (box.right - box.left) * (box.bottom - box.top)
        resolved.region, resolved.region_area = "box", area / (width * height)
    elif kind == "pixel":
        x, y = target.region.pixel.x, target.region.pixel.y
        if not (0 <= x < width and 0 <= y < height):
            field = f"{path}.region.pixel"
            raise InvalidArgument(f"{field}: {x}, {y} is not in the image, which has {width} x {height}", field=field)
        resolved.region, resolved.region_area = "pixel", 1 / (width * height)
    else:
        resolved.region, resolved.region_area = "mask", 0.25  # masks are not looked at
    return resolved


def _stripes(classes: int, wide: int) -> npt.NDArray[np.uint8]:
    """(wide,) the class of each column."""
    return (np.arange(wide) * classes // wide).astype(np.uint8)


def _check_box(box: pb.Region.Box, picture: tuple[int, int], field: str) -> None:
    edges = (box.left, box.top, box.right, box.bottom)
    inside = 0 <= box.left < box.right <= picture[0] and 0 <= box.top < box.bottom <= picture[1]
    if not all(map(math.isfinite, edges)) or not inside:
        told = ", ".join(f"{edge:g}" for edge in edges)
        raise InvalidArgument(f"{field}: {told} is no rectangle within {picture[0]} x {picture[1]} pixels", field=field)
