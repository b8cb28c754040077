"""Between the messages of the protocol and what this package works with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ouzel.errors import InvalidArgument
from ouzel.gateway.engine import Description
from ouzel.gateway.oip import metadata
from ouzel.gateway.oip.request import InferRequest, RequestedOutput, check_sent
from ouzel.gateway.oip.tensors import (
    BYTES,
    NUMBERS,
    InputTensor,
    OutputTensor,
    Parameters,
    Values,
    check_files,
    checked_shape,
    from_numbers,
    from_raw,
    to_raw,
)
from ouzel_protos.oip import inference_pb2 as pb
from ouzel_protos.text import shown

_PIECE = 2**16  # numbers that are made at once
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}


def infer_request(message: pb.ModelInferRequest) -> InferRequest:
    """Reads a message. Raises InvalidArgument that names the tensor at fault."""
    raw = list(message.raw_input_contents)
    if raw and len(raw) != len(message.inputs):
        raise InvalidArgument(
            f"raw_input_contents: {len(raw)} entries for {len(message.inputs)} inputs; there is one for each, or none",
            field="raw_input_contents",
        )
    return InferRequest(
        model=message.model_name,
        version=message.model_version,
        id=message.id,
        inputs=tuple(_input(each, raw[number] if raw else None) for number, each in enumerate(message.inputs)),
        outputs=tuple(RequestedOutput(each.name, _parameters(each.parameters)) for each in message.outputs),
        parameters=_parameters(message.parameters),
    )


def infer_response(request: InferRequest, version: str, tensors: Iterable[OutputTensor]) -> pb.ModelInferResponse:
    """The answer, with raw contents for all outputs."""
    message = pb.ModelInferResponse(model_name=request.model, model_version=version, id=request.id)
    for tensor in tensors:
        message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        message.raw_output_contents.append(to_raw(tensor))
    return message


def model_metadata(model: Description) -> pb.ModelMetadataResponse:
    """What the protocol says of a model."""
    message = pb.ModelMetadataResponse(name=model.name, versions=model.versions, platform=model.platform)
    for specs, field in ((metadata.inputs(model), message.inputs), (metadata.outputs(model), message.outputs)):
        for spec in specs:
            field.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
    return message


def repository_index(models: Sequence[Description]) -> pb.RepositoryIndexResponse:
    """All that is served, as Triton lists it."""
    message = pb.RepositoryIndexResponse()
    for model in models:
        message.models.add(name=model.name, version=model.version, state="READY")
    return message


def _input(message: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> InputTensor:
    name, datatype = shown(message.name, 80).strip("'"), message.datatype
    shape, parameters = checked_shape(name, message.shape), _parameters(message.parameters)
    check_sent(parameters, f"inputs.{name}")
    return InputTensor(message.name, datatype, shape, _values(name, message, shape, raw), parameters)


def _values(
    name: str, message: pb.ModelInferRequest.InferInputTensor, shape: tuple[int, ...], raw: bytes | None
) -> Values:
    filled = [field.name for field, _ in message.contents.ListFields()]
    where = f"inputs.{name}"
    if raw is not None:
        if filled:
            raise InvalidArgument(f"{where}: has contents and raw_input_contents; give one of them", field=where)
        return from_raw(name, message.datatype, shape, raw)
    field = _CONTENTS.get(message.datatype)
    if field is None and message.datatype in NUMBERS:
        raise InvalidArgument(f"{where}: {message.datatype} travels in raw_input_contents only", field=where)
    if field is None:
        return from_numbers(name, message.datatype, shape, ())  # says which datatypes there are
    if filled not in ([], [field]):
        raise InvalidArgument(f"{where}: {message.datatype} is in {field}, not in {', '.join(filled)}", field=where)
    contents: Any = getattr(message.contents, field)
    expected = math.prod(shape)
    if len(contents) != expected:
        raise InvalidArgument(
            f"{where}: {len(contents)} elements in {field}; by its shape {list(shape)} there are {expected}",
            field=where,
        )
    if message.datatype != BYTES:
        return from_numbers(name, message.datatype, shape, _array(contents))
    check_files(where, expected)
    return list(contents)


def _array(contents: Any) -> npt.NDArray[Any]:
    """Numbers of a message, which are made into objects on the way: so piece by piece, and others can run meanwhile."""
    pieces = [np.array(contents[start : start + _PIECE]) for start in range(0, len(contents), _PIECE)]
    return np.concatenate(pieces) if pieces else np.array([])


def _parameters(messages: Mapping[str, pb.InferParameter]) -> Parameters:
    values: dict[str, bool | int | float | str] = {}
    for name, message in messages.items():
        kind = message.WhichOneof("parameter_choice")
        if kind is None:
            raise InvalidArgument(f"parameters.{shown(name, 40)}: has no value", field="parameters")
        values[name] = getattr(message, kind)
    return values
