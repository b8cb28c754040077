"""Messages of the worker's services as JSON (the mapping of protobuf), and the worker's refusals as our errors."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from ouzel import bounded_json
from ouzel.errors import InvalidArgument, OuzelError, ResourceExhausted, kind_of
from ouzel.gateway.rest.bodies import Aside
from ouzel.gateway.worker.json_faults import serialized
from ouzel.gateway.worker.methods import Method
from ouzel.gateway.worker.relay import WorkerError
from ouzel.request_bounds import MESSAGES, most_elements

_LARGE, _FEW = 2**16, 500  # bytes and elements; with more, it is turned into messages, or into JSON, in a thread
_SPACE = re.compile(rb"\s*+")
_MIB = 2**20
# Others name things, and a few numbers. The worker takes 4 MiB of a message, which is up to twice as long in JSON.
_LARGE_METHODS = {"CreateJob": 8 * _MIB, "FindMissing": 8 * _MIB}
_ANY_SIZE = ("UploadFiles", "CreateDataset", "AuditPrediction", "AuditReported")  # as much as the tenant may send


def largest(method: Method) -> int:
    """Bytes that a body of a method may have at most, unpacked; 0 is as much as the caller may send."""
    return 0 if method.name in _ANY_SIZE else _LARGE_METHODS.get(method.name, _MIB)


async def message(method: Method, body: bytes, aside: Aside) -> bytes:
    """What a body says, as a message of a method. Raises InvalidArgument.

    Args:
        method: That is called.
        body: One document.
        aside: Does what takes long in a thread.
    """
    return await _read(method, body, "body", aside)


async def messages(method: Method, body: bytes, aside: Aside) -> AsyncIterator[bytes]:
    """The same of a method that takes many: each line is one. A line is read when the one before it has been taken."""
    place = number = 0
    while (place := _end(_SPACE, body, place)) < len(body):
        if (number := number + 1) > MESSAGES:
            raise InvalidArgument(f"body: has more than {MESSAGES} lines", field="body")
        end = body.find(b"\n", place)
        end = len(body) if end < 0 else end
        yield await _read(method, body[place:end], f"body: line {number}", aside)
        place = end


async def printed(message: Message, size: int, aside: Aside) -> bytes:
    """A message of some bytes as JSON."""
    return await aside(_printed, message) if size > _LARGE else _printed(message)


def told(error: WorkerError) -> OuzelError:
    """The worker's refusal as one of ours, with the field at fault and the time to wait."""
    field, pause = _details(error.details)
    if error.code.name == ResourceExhausted.code:
        return ResourceExhausted(error.words, field=field, retry_after=pause)
    return kind_of(error.code.name)(error.words, field=field)


async def _read(method: Method, text: bytes, where: str, aside: Aside) -> bytes:
    if len(text) > _LARGE or bounded_json.elements(text, _FEW) > _FEW:
        content: bytes = await aside(_message, method, text, where)
        return content
    return _message(method, text, where)


def _message(method: Method, text: bytes, where: str) -> bytes:
    hint = "; send the entries on several lines" if method.streams_requests else ""
    text = text.strip() or b"{}"
    content = bounded_json.loads(text, where, most_elements(method.path), field="body", hint=hint)
    if not isinstance(content, dict):
        raise InvalidArgument(f"{where}: is not a JSON object", field="body")
    return serialized(method.request, content, where)


def _end(pattern: re.Pattern[bytes], text: bytes, place: int) -> int:
    found = pattern.match(text, place)
    assert found is not None  # it may be empty
    return found.end()


def _printed(message: Message) -> bytes:
    text = json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=None
    )
    return text.encode()


def _details(data: bytes) -> tuple[str, float]:
    """(field, seconds) in a status."""
    try:
        status = Status.FromString(data)
    except DecodeError:
        return "", 0.0
    request, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for each in status.details:
        for message in (request, retry):
            each.Unpack(message)
    field = request.field_violations[0].field if request.field_violations else ""
    return field, retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
