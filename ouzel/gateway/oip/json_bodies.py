"""Bodies of the protocol over REST: JSON, and JSON with the bytes of tensors behind it.

In the binary tensor extension the header Inference-Header-Content-Length says where the JSON ends; the tensors with
a parameter `binary_data_size` follow in their order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from ouzel.errors import InvalidArgument
from ouzel.explain.options import from_base64
from ouzel.gateway.engine import Description
from ouzel.gateway.oip import json_numbers, metadata
from ouzel.gateway.oip.request import InferRequest, RequestedOutput, check_sent
from ouzel.gateway.oip.tensors import (
    BYTES,
    InputTensor,
    OutputTensor,
    Parameters,
    check_files,
    checked_shape,
    from_numbers,
    from_raw,
    to_raw,
)
from ouzel_protos.text import is_encodable, shown

LENGTH = "Inference-Header-Content-Length"
_REQUEST = ("id", "inputs", "outputs", "parameters", "model_name", "model_version")
_SIZE = "binary_data_size"


def infer_request(model: str, version: str, body: bytes, length: str | None, most_numbers: int) -> InferRequest:
    """Reads a body.

    Args:
        model: Of the path.
        version: Of the path; "" if there is none.
        body: Decompressed.
        length: The header Inference-Header-Content-Length.
        most_numbers: That its tensors may have together as JSON.

    Raises:
        InvalidArgument: Names the field or tensor, the value and the limit.
    """
    head, tail = _split(body, length)
    document = json_numbers.read(head, most_numbers)
    if not isinstance(document, dict):
        raise InvalidArgument("body: is not a JSON object", field="body")
    for key in document:
        if key not in _REQUEST:
            raise InvalidArgument(f"{shown(key, 40)}: is unknown; allowed are {', '.join(_REQUEST)}", field="body")
    for key, path in (("model_name", model), ("model_version", version)):
        if document.get(key, path) not in (path, "", None) and path:
            raise InvalidArgument(f"{key}: {document[key]!r:.80} is not {path!r:.80}, as the path says", field=key)
    identity = document.get("id", "")
    if not isinstance(identity, str) or not is_encodable(identity):
        raise InvalidArgument(f"id: {identity!r:.80} is not a text", field="id")
    reader = _Tail(tail)
    inputs = tuple(_input(each, number, reader) for number, each in enumerate(_list(document, "inputs")))
    reader.finish()
    outputs = tuple(_output(each, number) for number, each in enumerate(_list(document, "outputs")))
    return InferRequest(model, version, identity, inputs, outputs, _parameters(document, "parameters"))


def infer_response(request: InferRequest, version: str, tensors: Iterable[OutputTensor]) -> tuple[bytes, int | None]:
    """(body, length of its JSON if bytes follow)."""
    binary = {each.name: each.parameters["binary_data"] for each in request.outputs if "binary_data" in each.parameters}
    usual = request.parameters.get("binary_data_output", False)
    outputs, tail = [], []
    for tensor in tensors:
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if binary.get(tensor.name, usual):
            raw = to_raw(tensor)
            output["parameters"] = {_SIZE: len(raw)}
            tail.append(raw)
        elif isinstance(tensor.values, list):
            output["data"] = [element.decode() for element in tensor.values]
        else:
            output["data"] = tensor.values.ravel().tolist()
        outputs.append(output)
    document = {"model_name": request.model, "model_version": version} | ({"id": request.id} if request.id else {})
    head = json.dumps(document | {"outputs": outputs}, allow_nan=False).encode()
    return (b"".join((head, *tail)), len(head)) if tail else (head, None)


def model_metadata(model: Description) -> dict[str, Any]:
    """What the protocol says of a model."""
    inputs, outputs = (
        [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]
        for specs in (metadata.inputs(model), metadata.outputs(model))
    )
    return {
        "name": model.name,
        "versions": list(model.versions),
        "platform": model.platform,
        "inputs": inputs,
        "outputs": outputs,
    }


class _Tail:
    """The bytes behind the JSON, which tensors take one after another."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._place = data, 0

    def take(self, size: int, where: str) -> memoryview:
        left = len(self._data) - self._place
        if size > left:
            raise InvalidArgument(
                f"{where}: {_SIZE} is {size}, but only {left} bytes are left in the body", field=where
            )
        self._place += size
        return self._data[self._place - size : self._place]

    def finish(self) -> None:
        if left := len(self._data) - self._place:
            raise InvalidArgument(f"body: {left} bytes belong to no tensor", field="body")


def _split(body: bytes, length: str | None) -> tuple[bytes, memoryview]:
    if length is None:
        return body, memoryview(b"")
    if not (length.isascii() and length.isdecimal() and len(length) < 16) or int(length) > len(body):
        raise InvalidArgument(
            f"{LENGTH}: {length!r:.40} is no length within the body of {len(body)} bytes", field=LENGTH
        )
    return body[: int(length)], memoryview(body)[int(length) :]


def _list(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    values = document.get(name)
    if values is None:
        values = []
    if not isinstance(values, list) or not all(isinstance(each, dict) for each in values):
        raise InvalidArgument(f"{name}: is not a list of objects", field=name)
    return values


def _input(document: Mapping[str, Any], number: int, tail: _Tail) -> InputTensor:
    name = _text(document, "name", f"inputs[{number}]")
    where = f"inputs.{shown(name, 80)[1:-1]}"
    if unknown := document.keys() - {"name", "datatype", "shape", "data", "parameters"}:
        raise InvalidArgument(f"{where}: {shown(min(unknown), 40)} is unknown", field=where)
    datatype, shape = _text(document, "datatype", where), document.get("shape")
    if not isinstance(shape, list):
        raise InvalidArgument(f"{where}.shape: is not a list of integers", field=where)
    checked = checked_shape(name[:80], shape)
    parameters = _parameters(document, f"{where}.parameters", "parameters")
    check_sent(parameters, where)
    size, data = parameters.get(_SIZE), document.get("data")
    if size is None and data is None:
        raise InvalidArgument(f"{where}: has neither data nor {_SIZE}", field=where)
    if size is not None:
        if data is not None:
            raise InvalidArgument(f"{where}: has data and {_SIZE}; give one of them", field=where)
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise InvalidArgument(f"{where}: {_SIZE} {size!r:.40} is not a number of bytes", field=where)
        return InputTensor(
            name, datatype, checked, from_raw(name, datatype, checked, tail.take(size, where)), parameters
        )
    if datatype == BYTES:
        return InputTensor(name, datatype, checked, _files(data, checked, where), parameters)
    return InputTensor(name, datatype, checked, from_numbers(name, datatype, checked, data), parameters)


def _files(data: Any, shape: tuple[int, ...], where: str) -> list[bytes]:
    """JSON holds no bytes: elements are texts in base64."""
    check_files(where, math.prod(shape))
    flat: list[Any] = []
    for each in data if isinstance(data, list) else [data]:
        flat += each if isinstance(each, list) else [each]
    if len(flat) != math.prod(shape):
        raise InvalidArgument(
            f"{where}: {len(flat)} elements in data; by its shape {list(shape)} there are {math.prod(shape)}",
            field=where,
        )
    for each in flat:
        if not isinstance(each, str):
            raise InvalidArgument(f"{where}: its elements are texts, bytes in base64", field=where)
    return [from_base64(each, where) for each in flat]


def _output(document: Mapping[str, Any], number: int) -> RequestedOutput:
    name = _text(document, "name", f"outputs[{number}]")
    where = f"outputs.{shown(name, 80)[1:-1]}"
    if unknown := document.keys() - {"name", "parameters", "datatype", "shape"}:
        raise InvalidArgument(f"{where}: {shown(min(unknown), 40)} is unknown", field=where)
    return RequestedOutput(name, _parameters(document, f"{where}.parameters", "parameters"))


def _parameters(document: Mapping[str, Any], where: str, name: str = "parameters") -> Parameters:
    values = document.get(name)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InvalidArgument(f"{where}: is not an object", field=where)
    for key, value in values.items():
        if not isinstance(value, bool | int | float | str):
            raise InvalidArgument(f"{where}.{shown(key, 40)[1:-1]}: is not a number, a text or a flag", field=where)
        if not is_encodable(key) or (isinstance(value, str) and not is_encodable(value)):
            raise InvalidArgument(f"{where}: holds what is no text of Unicode", field=where)
    return values


def _text(document: Mapping[str, Any], name: str, where: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not is_encodable(value):
        raise InvalidArgument(f"{where}.{name}: is not a text", field=where)
    return value
