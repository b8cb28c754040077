"""Messages of the worker's services as JSON (the mapping of protobuf), and the worker's refusals as our errors."""

from __future__ import annotations

import asyncio
import json

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from ouzel.errors import InvalidArgument, OuzelError, ResourceExhausted, kind_of
from ouzel.gateway.worker.methods import Method
from ouzel.gateway.worker.relay import WorkerError

_LARGE = 2**16  # bytes that are turned into messages, or into JSON, in a thread


async def messages(method: Method, body: bytes) -> list[bytes]:
    """What a body says, as messages of a method: one document, or a line of JSON for each. Raises InvalidArgument."""
    return await asyncio.to_thread(_messages, method, body) if len(body) > _LARGE else _messages(method, body)


async def printed(message: Message, size: int) -> bytes:
    """A message of some bytes as JSON."""
    return await asyncio.to_thread(_printed, message) if size > _LARGE else _printed(message)


def told(error: WorkerError) -> OuzelError:
    """The worker's refusal as one of ours, with the field at fault and the time to wait."""
    field, pause = _details(error.details)
    if error.code.name == ResourceExhausted.code:
        return ResourceExhausted(error.words, field=field, retry_after=pause)
    return kind_of(error.code.name)(error.words, field=field)


def _messages(method: Method, body: bytes) -> list[bytes]:
    texts = [line for line in body.split(b"\n") if line.strip()] if method.streams_requests else [body.strip() or b"{}"]
    return [_message(method, text, number) for number, text in enumerate(texts)]


def _message(method: Method, text: bytes, number: int) -> bytes:
    where = f"body: line {number + 1}" if method.streams_requests else "body"
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{where}: not valid JSON ({error!s:.200})", field="body") from None
    if not isinstance(content, dict):
        raise InvalidArgument(f"{where}: is not a JSON object", field="body")
    try:
        return json_format.ParseDict(content, method.request(), max_recursion_depth=50).SerializeToString()
    except Exception as error:  # noqa: BLE001 - protobuf's reader fails with errors of all kinds on hostile JSON
        said = " ".join(str(error).split())
        raise InvalidArgument(f"{where}: is no {method.request.DESCRIPTOR.name} ({said:.200})", field="body") from None


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
