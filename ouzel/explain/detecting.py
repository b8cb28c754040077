"""Requests to detectors: what they may ask, and which box they mean."""

from __future__ import annotations

import math

import torch

from ouzel.errors import InvalidArgument
from ouzel.explain import targets
from ouzel.models import Model, detection
from ouzel.models.networks.detectors import Detector
from ouzel.saliency.boxes import GivenBox
from ouzel.saliency.boxes.targets import BoxRequest
from ouzel.saliency.targets import Contrast, Rank, Top
from ouzel.task_names import CLASSIFICATION, DETECTION, need_task
from ouzel_protos.v1 import explain_pb2 as pb


def most(model: Model) -> int:
    """Detections of one image, at most; 0 of a model that is no detector."""
    return model.network.rules.most if isinstance(model.network, Detector) else 0


def check(options: pb.ExplainOptions, model: Model) -> None:
    """Raises InvalidArgument or FailedPrecondition for what detectors, or others, cannot be asked."""
    if model.task != DETECTION:
        if options.min_score:
            need_task(model.task, DETECTION, "least scores", model.name, "min_score")
        return
    if not 0 <= options.min_score <= 1:
        raise InvalidArgument(f"min_score: {options.min_score} is not within 0..1", field="min_score")
    if options.HasField("when"):
        need_task(model.task, CLASSIFICATION, "conditions", model.name, "when")
    for number, request in enumerate(options.saliency):
        if request.faithfulness:
            field = f"saliency[{number}].faithfulness"
            need_task(model.task, CLASSIFICATION, "curves of faithfulness", model.name, field)


def target(asked: pb.Target, model: Model, view: pb.View) -> BoxRequest:
    """Which box is meant.

    Args:
        asked: Of a request.
        model: The detector.
        view: What it sees of the uploaded image.

    Raises:
        InvalidArgument: A box lacks its class or a class its box, or a box is wrong.
    """
    plain = targets.plain(asked)
    if isinstance(plain, Contrast):
        raise InvalidArgument("target.contrast: a detector has none; name a detection by its rank", field="target")
    if not asked.HasField("region"):
        if plain is None or isinstance(plain, Rank | Top):
            return plain
        raise InvalidArgument(
            "target: a class alone names no box; give a detection's rank, or the class with a region.box",
            field="target",
        )
    field = "target.region"
    if asked.region.WhichOneof("kind") != "box":
        raise InvalidArgument(f"{field}: a detector explains a box, no pixel and no mask", field=field)
    if plain is None or isinstance(plain, Rank | Top):
        raise InvalidArgument(f"{field}: a box needs its class, by index or label", field=field)
    return GivenBox(plain, _box(asked.region.box, model, view))


def _box(box: pb.Region.Box, model: Model, view: pb.View) -> tuple[float, float, float, float]:
    """In pixels of the input, cut where it leaves what the model sees."""
    field, edges = "target.region.box", (box.left, box.top, box.right, box.bottom)
    told = ", ".join(f"{edge:g}" for edge in edges)
    if not all(map(math.isfinite, edges)):
        raise InvalidArgument(f"{field}: {told} are not four finite numbers", field=field)
    whole = (view.image_width, view.image_height) * 2
    for name, edge, most_pixels in zip(("left", "top", "right", "bottom"), edges, whole, strict=True):
        if not 0 <= edge <= most_pixels:
            raise InvalidArgument(f"{field}: {name} {edge:g} is not within 0..{most_pixels}", field=field)
    if box.left >= box.right or box.top >= box.bottom:
        raise InvalidArgument(f"{field}: {told} has no area: left < right and top < bottom", field=field)
    height, width = model.preprocessing.input_size
    seen = view.left, view.top, view.right, view.bottom
    (left, top, right, bottom) = detection.in_input(torch.tensor([edges], dtype=torch.float64), seen, (height, width))[
        0
    ].tolist()
    left, top, right, bottom = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
    if left >= right or top >= bottom:
        raise InvalidArgument(
            f"{field}: {told} lies outside of what the model sees of the image, {view.left:g} <= x < {view.right:g}, "
            f"{view.top:g} <= y < {view.bottom:g}",
            field=field,
        )
    return left, top, right, bottom
