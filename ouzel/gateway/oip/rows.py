"""From a request of the protocol to rows for the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ouzel.checks import one_of, within
from ouzel.errors import InvalidArgument
from ouzel.gateway.engine import Description, Row
from ouzel.gateway.oip import metadata
from ouzel.gateway.oip.request import InferRequest, RequestedOutput, own_parameters
from ouzel.gateway.oip.tensors import BF16, BYTES, FP16, InputTensor
from ouzel_protos import parameters as wire_parameters
from ouzel_protos import tensors
from ouzel_protos.parameters import REDUCTIONS, BadParameter
from ouzel_protos.text import shown
from ouzel_protos.v1 import explain_pb2 as pb

_INPUTS = (metadata.IMAGE, metadata.INPUT)
_MAPS = (metadata.SALIENCY, metadata.FAITHFULNESS)
_ALL_CLASSES = (metadata.SCORES, metadata.LOGITS)
# The last one is sent by clients of streams, and says nothing of a single answer.
_REQUEST = {
    "timeout": int,
    "top_k": int,
    "binary_data_output": bool,
    "triton_enable_empty_final_response": bool,
}
_OUTPUT = {"binary_data": bool, "classification": int}
# Parameters of Ouzel's own calls, and why they are refused here.
_NOT_HERE = dict.fromkeys(("size", "dtype"), "is as the metadata say") | dict.fromkeys(
    ("region", "box", "boxes", "mask", "pixel"), "regions have no place in this protocol"
)
_FAITHFULNESS_STEPS = 16
_ELSEWHERE = "ask for it by POST /v1/models/{model}/explain"
_FLOATS = ("FP32", FP16, BF16)


@dataclass(frozen=True)
class Ask:
    """What a request asks of the engine, and how the answer is laid out.

    Attributes:
        rows: For the engine.
        outputs: Names in the order that was asked for.
        classification: By the name of an output: so many classes as text, in place of numbers.
        top_k: Classes in `labels` and `classes`.
    """

    rows: tuple[Row, ...]
    outputs: tuple[str, ...]
    classification: Mapping[str, int]
    top_k: int


def ask(request: InferRequest, model: Description, most_rows: int) -> Ask:
    """Reads a request.

    Args:
        request: As it came.
        model: That is asked.
        most_rows: Of one request.

    Raises:
        InvalidArgument: Names the tensor or the parameter, the value and the limit.
        Unimplemented: The request uses a part of the protocol that is not spoken here.
    """
    outputs = request.outputs or tuple(RequestedOutput(name) for name in metadata.usual(model))
    names = tuple(output.name for output in outputs)
    known = [each.name for each in metadata.outputs(model)]
    for number, name in enumerate(names):
        one_of("outputs", name, known)
        if name in names[:number]:
            raise InvalidArgument(f"outputs: {name!r} is asked for twice", field="outputs")
    classes = len(model.labels)
    rest = dict(own_parameters(request.parameters, "parameters", _REQUEST))
    if model.detects:
        return _ask_detector(request, names, rest, model, most_rows)
    top_k = _top_k(request, model)
    classification: dict[str, int] = {}
    for output in outputs:
        where = f"outputs.{output.name}.parameters"
        own = own_parameters(output.parameters, where, _OUTPUT)
        if count := int(output.parameters.get("classification", 0)):
            if output.name not in _ALL_CLASSES:
                raise InvalidArgument(f"{where}.classification: only scores and logits have it", field=where)
            within(f"{where}.classification", count, 1, classes)
            classification[output.name] = count
        if own and output.name not in _MAPS:
            raise InvalidArgument(f"{where}: {shown(min(own), 40)} is unknown", field=where)
        for name, value in own.items():
            if rest.setdefault(name, value) != value:
                raise InvalidArgument(f"{where}.{name}: contradicts the same parameter elsewhere", field=where)
    everything = model.segments or any(name in _ALL_CLASSES for name in names)
    options = pb.ExplainOptions(top_k=classes if everything else top_k)
    if any(name in _MAPS for name in names):
        options.saliency.append(_saliency(rest))
        if metadata.FAITHFULNESS in names:
            options.saliency[0].faithfulness = _FAITHFULNESS_STEPS
    elif rest:
        raise InvalidArgument(
            f"parameters: {shown(min(rest), 40)} means nothing here; those of methods need the output saliency",
            field="parameters",
        )
    rows = tuple(_rows(request, model, most_rows, options))
    return Ask(rows, names, classification, top_k)


def _top_k(request: InferRequest, model: Description) -> int:
    """How many classes are answered. Raises InvalidArgument."""
    classes = len(model.labels)
    if model.segments and "top_k" in request.parameters:
        raise InvalidArgument("parameters.top_k: is of classifiers; a label map has all classes", field="top_k")
    top_k = int(request.parameters.get("top_k", min(5, classes)))
    within("parameters.top_k", top_k, 1, classes)
    return top_k


def _ask_detector(
    request: InferRequest, names: tuple[str, ...], rest: dict[str, Any], model: Description, most_rows: int
) -> Ask:
    """The same of a detector, whose detections have no fixed number."""
    options = pb.ExplainOptions(top_k=int(request.parameters.get("top_k", 0)))
    if options.top_k < 0:
        raise InvalidArgument(f"parameters.top_k: {options.top_k} is less than 0", field="parameters.top_k")
    least = rest.pop("min_score", None)
    if least is not None:
        if isinstance(least, bool) or not isinstance(least, int | float) or not 0 <= least <= 1:
            raise InvalidArgument(f"parameters.min_score: {least!r:.40} is not a number in 0..1", field="parameters")
        options.min_score = least
    for output in request.outputs:
        where = f"outputs.{output.name}.parameters"
        if unknown := set(output.parameters) - {"binary_data"}:
            raise InvalidArgument(f"{where}: {shown(min(unknown), 40)} is not of a detector's output", field=where)
    if metadata.SALIENCY in names:
        rank = rest.pop("rank", 0)
        if isinstance(rank, bool) or not isinstance(rank, int) or not 0 <= rank < 2**31:
            raise InvalidArgument(f"parameters.rank: {rank!r:.40} is not an integer from 0 up", field="parameters.rank")
        if "target" in rest or "minus" in rest:
            raise InvalidArgument(
                f"parameters.target: of a detector name the rank of a detection; for a box, {_ELSEWHERE}",
                field="parameters.target",
            )
        options.saliency.append(_saliency({"method": "d_rise", **rest}))
        options.saliency[0].target.rank = rank
    elif rest:
        raise InvalidArgument(
            f"parameters: {shown(min(rest), 40)} means nothing here; those of methods need the output saliency",
            field="parameters",
        )
    return Ask(tuple(_rows(request, model, most_rows, options)), names, {}, 0)


def _saliency(given: Mapping[str, Any]) -> pb.SaliencyRequest:
    """The map that parameters ask for. Raises InvalidArgument."""
    values = dict(given)
    method = values.pop("method", "gradient")
    if not isinstance(method, str):
        raise InvalidArgument(f"parameters.method: {method!r:.40} is not a text", field="parameters.method")
    asked = pb.SaliencyRequest(method=method)
    reduction = values.pop("reduction", "max_abs")
    if reduction == "none":
        raise InvalidArgument(
            f"parameters.reduction: none gives a map of other axes than the metadata say; {_ELSEWHERE}",
            field="parameters.reduction",
        )
    one_of("parameters.reduction", reduction, [name for name in REDUCTIONS if name != "none"])
    asked.reduction = REDUCTIONS[reduction]
    for name, why in _NOT_HERE.items():
        if name in values:
            raise InvalidArgument(f"parameters.{name}: {why}; {_ELSEWHERE}", field=f"parameters.{name}")
    target, minus = values.pop("target", None), values.pop("minus", None)
    if minus is not None:
        if target is None:
            raise InvalidArgument("parameters.minus: name the class that it is compared with, target", field="minus")
        asked.target.contrast.CopyFrom(pb.Contrast(a=_class(target, "target"), b=_class(minus, "minus")))
    elif target is not None:
        ref = _class(target, "target")
        if ref.HasField("label"):
            asked.target.label = ref.label
        else:
            asked.target.index = ref.index
    for name, value in values.items():
        try:
            asked.parameters[name].CopyFrom(wire_parameters.encode(value))
        except BadParameter as error:
            raise InvalidArgument(f"parameters.{name}: {error}", field="parameters") from None
    return asked


def _class(value: object, name: str) -> pb.ClassRef:
    if isinstance(value, str):
        return pb.ClassRef(label=value)
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return pb.ClassRef(index=value)
    raise InvalidArgument(
        f"parameters.{name}: {value!r:.40} is neither the index nor the label of a class", field=f"parameters.{name}"
    )


def _rows(request: InferRequest, model: Description, most: int, options: pb.ExplainOptions) -> list[Row]:
    names = [tensor.name for tensor in request.inputs]
    known = _INPUTS if model.takes_images else _INPUTS[1:]
    for name in names:
        one_of("inputs", name, known)
    if len(names) != 1:
        raise InvalidArgument(f"inputs: {len(names)} tensors; give exactly one of {', '.join(known)}", field="inputs")
    (tensor,) = request.inputs
    where = f"inputs.{tensor.name}"
    if unknown := own_parameters(tensor.parameters, f"{where}.parameters", {"binary_data_size": int}):
        raise InvalidArgument(f"{where}.parameters: {shown(min(unknown), 40)} is unknown", field=where)
    read = _images if tensor.name == metadata.IMAGE else _tensors
    rows = read(tensor, where, model, most)
    for row in rows:
        row.options.CopyFrom(options)
    return rows


def _images(tensor: InputTensor, where: str, _model: Description, most: int) -> list[Row]:
    if tensor.datatype != BYTES:
        raise InvalidArgument(f"{where}: its datatype is {BYTES}, not {tensor.datatype}", field=where)
    shape = tensor.shape
    if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):  # clients that know batches send (n, 1)
        raise InvalidArgument(f"{where}: its shape is [n], one file for each row, not {list(shape)}", field=where)
    within(f"{where}.shape[0]", shape[0], 1, most, unit="rows")
    return [Row(image=bytes(file)) for file in tensor.values]


def _tensors(tensor: InputTensor, where: str, model: Description, most: int) -> list[Row]:
    if tensor.datatype not in _FLOATS:
        raise InvalidArgument(
            f"{where}: its datatype is one of {', '.join(_FLOATS)}, not {tensor.datatype}", field=where
        )
    expected = model.input_shape
    if len(tensor.shape) != 4 or tensor.shape[1:] != expected:
        raise InvalidArgument(f"{where}: its shape is {[-1, *expected]}, not {list(tensor.shape)}", field=where)
    within(f"{where}.shape[0]", tensor.shape[0], 1, most, unit="rows")
    values = np.asarray(tensor.values, np.float32)
    if not np.isfinite(values).all():
        raise InvalidArgument(f"{where}: has values that are not finite", field=where)
    return [Row(tensor=tensors.encode(row).SerializeToString()) for row in values]
