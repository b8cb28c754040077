"""From ExplainOptions to what the engine is to do, and how large the answer can get: all checked before any work."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from ouzel import models
from ouzel.checks import within
from ouzel.errors import InvalidArgument, OuzelError, TooLarge
from ouzel.explain import detecting, faithfulness, inputs, targets
from ouzel.explain.limits import Limits
from ouzel.explain.served import Served
from ouzel.models import Model
from ouzel.saliency import Method, Saliency, SaliencyPlan
from ouzel.saliency.boxes import BoxPlan, BoxSaliency
from ouzel.saliency.engine.answer import located
from ouzel.saliency.methods.occlusion import Occlusion
from ouzel.saliency.targets import maps_of
from ouzel.task_names import CLASSIFICATION, DETECTION, SEGMENTATION, need_task
from ouzel_protos import parameters
from ouzel_protos.parameters import REDUCTIONS, names_of
from ouzel_protos.v1 import explain_pb2 as pb
from ouzel_protos.v1.tensor_pb2 import Tensor

_REDUCTIONS = names_of(REDUCTIONS)
DTYPES: dict[Any, np.dtype[Any]] = {
    Tensor.UNSPECIFIED: np.dtype("<f4"),
    Tensor.FLOAT32: np.dtype("<f4"),
    Tensor.FLOAT16: np.dtype("<f2"),
}
DEFAULT_TOP_K = 5
_MOST_WHOLE = 2**53  # from here on not every whole number is a double
# Room for everything of a map that is no tensor: names, caveats, parameters; and of the answer that is no map or score.
_MAP_OVERHEAD = 2048
_ENTRY, _DETECTION = 32, 128  # bytes of a score or a class, and of a detection, without the label
_ANSWER_OVERHEAD = 2048


@dataclass(frozen=True)
class Presentation:
    """How one map travels."""

    dtype: np.dtype[Any]
    original_size: bool
    faithfulness: int = 0  # steps of the curves; 0 does not measure it


@dataclass(frozen=True)
class Condition:
    """See `Condition` of explain.proto.

    Attributes:
        score_below: Of the predicted class, in [0, 1]; None does not matter.
        entropy_above: In nats; None does not matter.
        classes: Indices of those that the labels name; None is all.
    """

    score_below: float | None
    entropy_above: float | None
    classes: frozenset[int] | None


@dataclass(frozen=True)
class Plan:
    """What one row asks for, checked.

    Attributes:
        top_k: Scores in the answer.
        saliency: The maps that the engine is to make, and their cost; of a detector a BoxPlan.
        presentations: One per map of `saliency`, in its order.
        when: The condition on which the maps are made; None is always.
        estimate_only: Whether the answer is the cost alone.
        timeout: Seconds that the caller waits; None is for ever.
        response_bytes: Of the answer, at most.
        original_label_map: Whether the label map of a segmentation model is of the image's size.
        min_score: Of a detector: detections that are less probable are left out of the answer.
    """

    top_k: int
    saliency: SaliencyPlan | BoxPlan
    presentations: tuple[Presentation, ...]
    when: Condition | None
    estimate_only: bool
    timeout: float | None
    response_bytes: int
    original_label_map: bool = False
    min_score: float = 0.0


def make_plan(options: pb.ExplainOptions, served: Served, view: pb.View, limits: Limits) -> Plan:
    """Check options against the model and the limits.

    Args:
        options: Of one request.
        served: The model that answers.
        view: What the model sees of the uploaded image.
        limits: Of requests.

    Raises:
        InvalidArgument: A field is wrong, or more is asked for than the limits allow.
        NotFound: There is no such layer.
        FailedPrecondition: A method does not fit the model.
    """
    model = served.model
    classes = detecting.most(model) or len(model.labels)  # or detections
    within("top_k", options.top_k, 0, classes)
    detecting.check(options, model)
    if len(options.request_id) > limits.request_id:
        raise InvalidArgument(
            f"request_id: {len(options.request_id)} characters; at most {limits.request_id}", field="request_id"
        )
    when = _condition(options.when, model) if options.HasField("when") else None
    if (images := sum(_images(request) for request in options.saliency)) > limits.images:
        raise InvalidArgument(
            f"saliency: {images} images among parameters and masks; at most {limits.images}", field="saliency"
        )
    requests: list[Saliency | BoxSaliency] = []
    presentations: list[Presentation] = []
    channels: list[int] = []
    for number, request in enumerate(options.saliency):
        path = f"saliency[{number}]"
        try:
            saliency, presentation = _saliency(request, model, view), _presentation(request)
        except OuzelError as error:
            raise located(error, number) from None
        count = _count(saliency)
        if len(presentations) + count > limits.maps:
            raise InvalidArgument(
                f"{path}: {len(presentations) + count} maps in one request; at most {limits.maps}", field=path
            )
        requests.append(saliency)
        presentations += [presentation] * count
        channels += [model.input_shape[0] if saliency.reduction == "none" else 1] * count
    if not 0 <= options.timeout < math.inf:
        raise InvalidArgument(f"timeout: {options.timeout} is not a number of seconds", field="timeout")
    segments, original = model.task == SEGMENTATION, options.label_map_size == pb.ORIGINAL_IMAGE
    _check_label_map(options.label_map_size, model)
    top_k = options.top_k or (min(DEFAULT_TOP_K, classes) if model.task == CLASSIFICATION else classes)
    _, height, width = model.input_shape
    entry = _DETECTION if model.task == DETECTION else _ENTRY
    size = _ANSWER_OVERHEAD + top_k * (entry + _longest(model.labels))
    if segments:
        size += view.image_height * view.image_width if original else height * width
    for presentation, depth in zip(presentations, channels, strict=True):
        pixels = view.image_height * view.image_width if presentation.original_size else height * width
        size += _MAP_OVERHEAD + depth * pixels * presentation.dtype.itemsize
    saliency_plan = served.plan(requests, height, width)
    measuring = sum(faithfulness.passes(each.faithfulness) for each in presentations)
    return Plan(
        top_k=top_k,
        saliency=replace(saliency_plan, passes=saliency_plan.passes + measuring),
        presentations=tuple(presentations),
        when=when,
        estimate_only=options.estimate_only,
        timeout=options.timeout or None,
        response_bytes=size,
        original_label_map=original,
        min_score=options.min_score,
    )


def _check_label_map(size: Any, model: Model) -> None:
    if size not in pb.MapSize.values():
        raise InvalidArgument(f"label_map_size: {size} is not a MapSize", field="label_map_size")
    if size:
        need_task(model.task, SEGMENTATION, "sizes of label maps", model.name, "label_map_size")


@lru_cache(16)
def _longest(labels: tuple[str, ...]) -> int:
    """Bytes of the longest label in UTF-8."""
    return max(len(label.encode()) for label in labels)


def check_response(size: int, limit: int) -> None:
    """Raises TooLarge where the answer could exceed the limit."""
    if size > limit:
        raise TooLarge(
            f"saliency: the answer would have up to {size} bytes, the limit is {limit}; "
            "ask for fewer maps, dtype float16, or size model instead of original (of a label map: label_map_size)",
            field="saliency",
        )


def check_cost(plan: SaliencyPlan | BoxPlan, limit: int) -> None:
    """Raises InvalidArgument where a request would take more passes through the network than the limit."""
    if plan.passes <= limit:
        return
    costs: dict[int, int] = {}
    for one in plan.maps:
        costs[one.request] = costs.get(one.request, 0) + one.method.cost(plan.height, plan.width)
    number = max(costs, key=costs.__getitem__)
    methods = [one.method for one in plan.maps if one.request == number]
    method = methods[0]
    spare = (limit - (plan.passes - costs[number])) // len(methods)
    advice = "ask for fewer maps"
    if method.cost_parameter and (value := _fitting(method, spare, plan.height, plan.width)) is not None:
        advice = f"{method.cost_parameter} {value} fits"
    raise InvalidArgument(
        f"saliency[{number}]: the request takes {plan.passes} passes through the network, the limit is {limit}; "
        f"{advice}",
        field=f"saliency[{number}]" + (f".parameters.{method.cost_parameter}" if method.cost_parameter else ""),
    )


def _count(request: Saliency | BoxSaliency) -> int:
    """How many maps a request gives."""
    return maps_of(request.target)  # type: ignore[arg-type]  # a request of one row has one target


def _fitting(method: Method, spare: int, height: int, width: int) -> int | None:
    """The costliest value of the parameter that takes no more than `spare` passes; None if there is none.

    method: with its defaults for this size.
    """
    now = getattr(method, method.cost_parameter)
    values = range(now, (method.window or now) + 1) if isinstance(method, Occlusion) else range(now, 0, -1)
    # The cost falls along the values: look for the first that fits.
    place = bisect.bisect_left(
        values,
        True,
        key=lambda value: type(method)(**{**vars(method), method.cost_parameter: value}).cost(height, width) <= spare,
    )
    return values[place] if place < len(values) else None


def _saliency(request: pb.SaliencyRequest, model: Model, view: pb.View) -> Saliency | BoxSaliency:
    if request.reduction not in _REDUCTIONS:
        raise InvalidArgument(f"reduction: {request.reduction} is not a ChannelReduction", field="reduction")
    parameters = {key: _parameter(key, value, model) for key, value in request.parameters.items()}
    clash = parameters.keys() & {"method", "target", "reduction"}
    if clash:
        raise InvalidArgument(f"parameters: {min(clash)!r} is no parameter of a method", field="parameters")
    if model.task == DETECTION:
        box = detecting.target(request.target, model, view)
        return BoxSaliency(request.method, box, _REDUCTIONS[request.reduction], **parameters)
    target = targets.read(request.target, model, view)
    return Saliency(request.method, target, _REDUCTIONS[request.reduction], **parameters)


def _images(request: pb.SaliencyRequest) -> int:
    given = sum(parameter.HasField("tensor") for parameter in request.parameters.values())
    return given + request.target.region.HasField("mask")


def _presentation(request: pb.SaliencyRequest) -> Presentation:
    if request.dtype not in DTYPES:
        raise InvalidArgument(f"dtype: {request.dtype} is neither FLOAT32 nor FLOAT16", field="dtype")
    if request.size not in pb.MapSize.values():
        raise InvalidArgument(f"size: {request.size} is not a MapSize", field="size")
    faithfulness.check(request)
    return Presentation(DTYPES[request.dtype], request.size == pb.ORIGINAL_IMAGE, request.faithfulness)


def _parameter(key: str, parameter: pb.Parameter, model: Model) -> Any:
    field = f"parameters.{key}"
    try:
        value = parameters.decode(parameter)
    except ValueError as error:
        raise InvalidArgument(f"{field}: {error}", field=field) from None
    if value is None:
        raise InvalidArgument(f"{field}: has no value", field=field)
    if isinstance(value, np.ndarray):
        return inputs.given_image(value, key, model)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidArgument(f"{field}: {value} is not finite", field=field)
        if value.is_integer() and abs(value) < _MOST_WHOLE:
            return int(value)  # many languages have one kind of number; where a fraction is meant, methods take it too
    return value


def _condition(when: pb.Condition, model: Model) -> Condition:
    score = when.score_below if when.HasField("score_below") else None
    entropy = when.entropy_above if when.HasField("entropy_above") else None
    for name, value in (("score_below", score), ("entropy_above", entropy)):
        if value is not None:
            need_task(model.task, CLASSIFICATION, "conditions on it", model.name, f"when.{name}")
    if score is not None:
        within("when.score_below", score, 0, 1)
    if entropy is not None:
        within("when.entropy_above", entropy, 0, models.most_entropy(len(model.labels)))
    classes: set[int] = set()
    for label in when.labels:
        try:
            classes.update(models.label_indices(model.labels, label))
        except InvalidArgument as error:
            told = str(error).removeprefix("label: ")
            raise InvalidArgument(f"when.labels: {told}", field="when.labels") from None
    return Condition(score, entropy, frozenset(classes) if when.labels else None)
