"""Targets of requests, as the engine takes them."""

from __future__ import annotations

from ouzel.errors import InvalidArgument
from ouzel.explain import regions
from ouzel.models import Model
from ouzel.saliency import Contrast, Rank, Target, Top, Within
from ouzel.task_names import SEGMENTATION
from ouzel_protos.v1 import explain_pb2 as pb


def read(target: pb.Target, model: Model, view: pb.View) -> Target:
    """A target.

    Args:
        target: Of a request.
        model: That is explained.
        view: What it sees of the uploaded image.

    Raises:
        InvalidArgument: Something is missing, or a region is wrong, or the model has none.
    """
    named = plain(target)
    if not target.HasField("region"):
        return named
    if model.task != SEGMENTATION:
        raise InvalidArgument(
            f"target.region: {model.name!r} is a classifier, whose answer has no places; a region is for segmentation "
            "models",
            field="target.region",
        )
    return Within(named, regions.read(target.region, view, model.preprocessing.input_size))


def plain(target: pb.Target) -> int | str | Rank | Contrast | Top | None:
    """What a target names, without its region. Raises InvalidArgument."""
    match target.WhichOneof("kind"):
        case "rank":
            return Rank(target.rank)
        case "index":
            return target.index
        case "label":
            return target.label
        case "contrast":
            return Contrast(_class_ref(target.contrast.a, "a"), _class_ref(target.contrast.b, "b"))
        case "top":
            return Top(target.top)
    return None


def _class_ref(ref: pb.ClassRef, side: str) -> int | str:
    match ref.WhichOneof("kind"):
        case "index":
            return ref.index
        case "label":
            return ref.label
    raise InvalidArgument(f"target.contrast.{side}: missing", field="target")
