"""From messages of the wire to results."""

from __future__ import annotations

from dataclasses import fields
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from ouzel_client._codec import detections, ledger, regions
from ouzel_client._pictures.upload import Upload
from ouzel_client._transport.status import from_answer
from ouzel_client._types.explanation import (
    Estimate,
    Explanation,
    ResolvedTarget,
    SaliencyMap,
    SaliencyMaps,
    Timing,
    View,
)
from ouzel_client._types.model_info import Deviation, ModelInfo
from ouzel_client.errors import ServerError
from ouzel_protos import parameters, tensors
from ouzel_protos.parameters import REDUCTIONS, SIZES, names_of
from ouzel_protos.v1 import explain_pb2 as pb

_REDUCTIONS: dict[int, Any] = dict(names_of(REDUCTIONS))
_SIZES: dict[int, Any] = dict(names_of(SIZES))


def envelope(data: bytes) -> pb.Explanation:
    """Read an answer. Raises the error that it carries, or ServerError if it is no answer of Ouzel at all."""
    try:
        answer = pb.Explanation.FromString(data)
    except DecodeError:
        raise ServerError("the answer is not an Explanation: the model is not served by Ouzel's handler") from None
    if answer.HasField("error"):
        raise from_answer(answer.error)
    return answer


def explanation(answer: pb.Explanation, upload: Upload) -> Explanation:
    """The result of an answer without an error. Raises ServerError if its tensors do not hold together."""
    view = View(
        answer.view.image_width,
        answer.view.image_height,
        answer.view.left,
        answer.view.top,
        answer.view.right,
        answer.view.bottom,
        answer.view.decoded_on_device,
    )
    try:
        maps = [_map(one, view, upload) for one in answer.saliency]
        segmentation = regions.segmentation(answer, upload)
        detected = detections.detections(answer, upload)
    except (ValueError, KeyError) as error:
        raise ServerError(f"the answer holds a map that cannot be read: {error}") from error
    return Explanation(
        model=_model(answer.model),
        labels=tuple(score.label for score in answer.scores),
        indices=_array([score.index for score in answer.scores], np.int64),
        scores=_array([score.probability for score in answer.scores], np.float32),
        logits=_array([score.logit for score in answer.scores], np.float32),
        saliency=SaliencyMaps(maps),
        timing=Timing(**{each.name: getattr(answer.timing, each.name) for each in fields(Timing)}),
        view=view,
        skipped=answer.skipped,
        request_id=answer.request_id,
        ledger=ledger.entry(answer.ledger) if answer.HasField("ledger") else None,
        segmentation=segmentation,
        detected=detected,
    )


def estimate(answer: pb.Explanation) -> Estimate:
    """The estimate of an answer without an error."""
    if not answer.HasField("estimate"):
        raise ServerError("the answer holds no estimate")
    message = answer.estimate
    return Estimate(message.passes, message.response_bytes, message.response_limit_bytes)


def _model(model: pb.ModelInfo) -> ModelInfo:
    deviation = None
    if model.HasField("deviation"):
        message = model.deviation
        logits, gradient = (getattr(message, key) if message.HasField(key) else None for key in ("logits", "gradient"))
        deviation = Deviation(logits, gradient, message.inputs)
    return ModelInfo(model.name, model.version, model.weights_digest, model.precision, deviation, model.task)


def _map(one: pb.SaliencyMap, view: View, upload: Upload) -> SaliencyMap:
    array = tensors.decode(one.values)
    if array.ndim not in (2, 3):
        raise ValueError(f"shape {array.shape} is neither (H, W) nor (C, H, W)")
    return SaliencyMap(
        method=one.method,
        target=_target(one.target),
        array=array,
        minimum=one.minimum,
        maximum=one.maximum,
        reduction=_REDUCTIONS[one.reduction],
        size=_SIZES[one.size],
        rectified=one.rectified,
        caveats=tuple(one.caveats),
        parameters=MappingProxyType({name: parameters.decode(value) for name, value in sorted(one.parameters.items())}),
        measures=MappingProxyType(dict(sorted(one.measures.items()))),
        view=view,
        _upload=upload,
    )


def _target(target: pb.ResolvedTarget) -> ResolvedTarget:
    minus = target.minus_index if target.HasField("minus_index") else None
    area = target.region_area if target.region else None
    box = detections.box(target.box) if target.HasField("box") else None
    rank, score = (getattr(target, key) if target.HasField(key) else None for key in ("rank", "score"))
    return ResolvedTarget(target.index, target.label, minus, target.minus_label, target.region, area, box, rank, score)


def _array(values: list[Any], dtype: type[Any]) -> npt.NDArray[Any]:
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array
