"""From tensors of the engine to messages of the wire."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ouzel.errors import InvalidArgument, OuzelError
from ouzel.explain.plan import Plan, Presentation
from ouzel.models import Model
from ouzel.models.segmentation import VOID
from ouzel.saliency import Deviation, Explainer, GivenImage, ResolvedTarget, SaliencyMap
from ouzel.saliency.regions import kind_of
from ouzel_protos import parameters, tensors
from ouzel_protos.parameters import REDUCTIONS, BadParameter
from ouzel_protos.v1 import explain_pb2 as pb
from ouzel_protos.v1.tensor_pb2 import Tensor as WireTensor


def model_info(model: Model, explainer: Explainer) -> pb.ModelInfo:
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
    if (most := np.abs(array).max()) > np.finfo(how.dtype).max:
        raise InvalidArgument(
            f"dtype: float16 does not reach to {most:.4g}, which the map holds; ask for float32", field="dtype"
        )
    array = array.astype(how.dtype)
    assert isinstance(one.target, ResolvedTarget)  # a map of one row has one target
    return pb.SaliencyMap(
        method=one.method,
        target=_target(one.target, labels),
        values=tensors.encode(array),
        minimum=float(array.min()),
        maximum=float(array.max()),
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


def _target(target: ResolvedTarget, labels: Sequence[str]) -> pb.ResolvedTarget:
    message = pb.ResolvedTarget(index=target.index, label=labels[target.index])
    if target.minus is not None:
        message.minus_index = target.minus
        message.minus_label = labels[target.minus]
    if target.area is not None:
        message.region, message.region_area = kind_of(target.region), target.area
    return message


def _parameter(value: object) -> pb.Parameter:
    try:
        return parameters.encode(str(value) if isinstance(value, GivenImage) else value)  # the caller has the image
    except BadParameter:
        raise TypeError(f"a parameter of type {type(value).__name__} has no place on the wire") from None
