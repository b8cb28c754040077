"""From tensors of the engine to messages of the wire."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ouzel.errors import InvalidArgument, OuzelError
from ouzel.explain.plan import Plan, Presentation
from ouzel.models import Model, detection
from ouzel.models.detection import Detections
from ouzel.models.segmentation import VOID
from ouzel.saliency import Deviation, Explainer, GivenImage, ResolvedTarget, SaliencyMap
from ouzel.saliency.boxes import BoxTarget, DetectionExplainer
from ouzel.saliency.regions import kind_of
from ouzel_protos import parameters, tensors
from ouzel_protos.parameters import REDUCTIONS, BadParameter
from ouzel_protos.v1 import explain_pb2 as pb
from ouzel_protos.v1.tensor_pb2 import Tensor as WireTensor


def model_info(model: Model, explainer: Explainer | DetectionExplainer) -> pb.ModelInfo:
    """Who answers, and how it computes."""
    measured = explainer.deviation
    return pb.ModelInfo(
        name=model.name,
        version=model.version,
        weights_digest=model.digest,
        precision=explainer.precision,
        deviation=None if measured is None else deviation(measured),
        task=model.task,
    )


def deviation(measured: Deviation) -> pb.Deviation:
    """A deviation as the wire has it."""
    return pb.Deviation(logits=measured.logits, gradient=measured.gradient, inputs=measured.inputs)


def error(error: OuzelError) -> pb.Error:
    """An error as the wire has it."""
    return pb.Error(code=error.code, message=str(error), field=error.field, http_status=error.http)


def scores(logits: Tensor, probabilities: Tensor, labels: Sequence[str], count: int) -> list[pb.Score]:
    """The best `count` of (K,) finite logits on the host; ties go to the lower index."""
    values = logits.numpy()
    least = np.partition(values, -count)[-count] if count else np.inf
    among = np.flatnonzero(values >= least)  # few: sorting all takes longer than the rest of the message
    best = among[np.argsort(-values[among], kind="stable")][:count]
    columns = (best.tolist(), probabilities.numpy()[best].tolist(), values[best].tolist())
    return [pb.Score(index=i, label=labels[i], probability=p, logit=x) for i, p, x in zip(*columns, strict=True)]


def label_map(classes: Tensor, view: pb.View | None) -> WireTensor:
    """A label map, (H, W) uint8 on the host; of the uploaded image's size where its view is given."""
    array = classes.numpy()
    if view is not None:
        left, top, right, bottom = _rectangle(view)
        rows, columns = (
            ((np.arange(high - low) + 0.5) * count / (high - low)).astype(np.int64)
            for low, high, count in zip((top, left), (bottom, right), array.shape, strict=True)
        )
        frame = np.full((view.image_height, view.image_width), VOID, np.uint8)
        frame[top:bottom, left:right] = array[rows[:, None], columns]
        array = frame
    return tensors.encode(array)


def saliency_maps(
    maps: Sequence[SaliencyMap], plan: Plan, view: pb.View, labels: Sequence[str]
) -> list[pb.SaliencyMap]:
    """The maps of one row as messages.

    Args:
        maps: In the order of the plan, on the host.
        plan: Of the row.
        view: What the model saw of the uploaded image, for maps of the image's size.
        labels: Of the classes.

    Raises:
        InvalidArgument: The dtype that was asked for does not reach to the values.
    """
    return [_map(one, how, view, labels) for one, how in zip(maps, plan.presentations, strict=True)]


def _map(one: SaliencyMap, how: Presentation, view: pb.View, labels: Sequence[str]) -> pb.SaliencyMap:
    values = _placed(one.values, view) if how.original_size else one.values
    array = values.float().numpy()
    low, high = array.min(), array.max()
    if (most := max(-low, high)) > np.finfo(how.dtype).max:
        raise InvalidArgument(
            f"dtype: float16 does not reach to {most:.4g}, which the map holds; ask for float32", field="dtype"
        )
    assert isinstance(one.target, ResolvedTarget)  # a map of one row has one target
    return pb.SaliencyMap(
        method=one.method,
        target=_target(one.target, labels, view, one.values.shape[-2:]),
        values=tensors.encode(array.astype(how.dtype, copy=False)),
        minimum=float(low.astype(how.dtype)),
        maximum=float(high.astype(how.dtype)),
        reduction=REDUCTIONS[one.reduction],
        size=pb.ORIGINAL_IMAGE if how.original_size else pb.MODEL_INPUT,
        rectified=one.rectified,
        caveats=one.caveats,
        parameters={name: _parameter(value) for name, value in one.parameters.items()},
        measures=one.measures,
    )


def _placed(values: Tensor, view: pb.View) -> Tensor:
    """Resize (..., H, W) to the rectangle that the model saw, in a frame of zeros of the uploaded image's size."""
    left, top, right, bottom = _rectangle(view)
    planes = values.reshape(1, -1, *values.shape[-2:]).float()
    resized = F.interpolate(planes, size=(bottom - top, right - left), mode="bilinear", align_corners=False)
    frame = torch.zeros(*values.shape[:-2], view.image_height, view.image_width, device=values.device)
    frame[..., top:bottom, left:right] = resized.reshape(*values.shape[:-2], bottom - top, right - left)
    return frame


def _rectangle(view: pb.View) -> tuple[int, int, int, int]:
    """What the model saw, in whole pixels of the image."""
    return round(view.left), round(view.top), round(view.right), round(view.bottom)


def detected(found: Detections, plan: Plan, view: pb.View, size: tuple[int, int], labels: Sequence[str]) -> pb.Detected:
    """What a detector found in one image; size: (height, width) of its input."""
    kept = min(plan.top_k, int((found.scores >= plan.min_score).sum()))
    boxes = _in_image(found.boxes[:kept], view, size)
    rows = zip(boxes, found.labels[:kept].tolist(), found.scores[:kept].tolist(), strict=True)
    return pb.Detected(
        detections=[pb.Detection(box=box, index=i, label=labels[i], score=score) for box, i, score in rows],
        found=len(found),
    )


def _in_image(boxes: Tensor, view: pb.View, size: tuple[int, int]) -> list[pb.Region.Box]:
    """Boxes in pixels of the input in those of the image; where the model saw more than there is, cut at its edges."""
    seen = view.left, view.top, view.right, view.bottom
    there = detection.in_image(boxes.double(), seen, size)
    edges = there.new_tensor([view.image_width, view.image_height] * 2)
    return [
        pb.Region.Box(left=left, top=top, right=right, bottom=bottom)
        for left, top, right, bottom in torch.minimum(there.clamp_min(0), edges).tolist()
    ]


def _target(target: ResolvedTarget, labels: Sequence[str], view: pb.View, size: Sequence[int]) -> pb.ResolvedTarget:
    message = pb.ResolvedTarget(index=target.index, label=labels[target.index])
    if target.minus is not None:
        message.minus_index = target.minus
        message.minus_label = labels[target.minus]
    if target.area is not None:
        message.region, message.region_area = kind_of(target.region), target.area
    if isinstance(target, BoxTarget):
        (box,) = _in_image(torch.tensor([target.box], dtype=torch.float64), view, (size[0], size[1]))
        message.box.CopyFrom(box)
        if target.place is not None and target.score is not None:
            message.rank, message.score = target.place, target.score
    return message


def _parameter(value: object) -> pb.Parameter:
    try:
        return parameters.encode(str(value) if isinstance(value, GivenImage) else value)  # the caller has the image
    except BadParameter:
        raise TypeError(f"a parameter of type {type(value).__name__} has no place on the wire") from None
