"""The worker's methods over REST: POST /v1/{service}/{method} with the messages as JSON (the mapping of protobuf).

Methods that answer a stream answer a line of JSON for each message, and methods that are sent one read such lines. An
error within a stream is its last line, {"error": {...}}, with the members of problem details.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import ExitStack

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ouzel import errors, grpc_errors
from ouzel.errors import InvalidArgument, NotFound, OuzelError, ResourceExhausted, Unimplemented
from ouzel.gateway import problems
from ouzel.gateway.access.caller import Caller
from ouzel.gateway.http_calls import Calls, seconds, while_connected
from ouzel.gateway.http_observed import observed
from ouzel.gateway.worker.methods import METHODS, Method
from ouzel.gateway.worker.openapi import document
from ouzel.gateway.worker.relay import Relay, WorkerError

NDJSON = "application/x-ndjson"
_LARGE = 2**16  # bytes that are turned into messages, or into JSON, in a thread
_BY_PATH = {(method.service, method.name): method for method in METHODS.values()}
_KINDS: dict[str, type[OuzelError]] = {
    kind.code: kind
    for kind in (
        errors.InvalidArgument,
        errors.NotFound,
        errors.FailedPrecondition,
        errors.AlreadyExists,
        errors.PermissionDenied,
        errors.Unimplemented,
        errors.Unavailable,
        errors.DataLoss,
        errors.DeadlineExceeded,
    )
}


class WorkerRest:
    """The routes.

    Args:
        calls: What all routes share.
        relay: To the worker.
    """

    def __init__(self, calls: Calls, relay: Relay) -> None:
        self._calls, self._door, self._relay = calls, calls.door, relay

    def routes(self) -> list[Route]:
        """Where the handlers are."""
        return [
            Route("/v1/{service}/{method}", self._calls.route(self._call, problems.problem), methods=["POST"]),
            Route("/openapi.json", self._described, methods=["GET"]),
        ]

    async def _described(self, _request: Request) -> Response:
        return JSONResponse(document())

    async def _call(self, request: Request, caller: Caller) -> Response:
        service, name = request.path_params["service"], request.path_params["method"]
        method = _BY_PATH.get((service, name))
        if method is None:
            raise NotFound(f"{service!r:.80} has no method {name!r:.80}", field="path")
        if (call := observed(request.scope)) is not None:
            call.method = f"{service}/{name}"
        if method.streams_requests and method.streams_answers:
            raise Unimplemented(f"{name}: is a conversation, for which HTTP has no place; call it over gRPC")
        with ExitStack() as held:
            held.enter_context(self._door.call())
            held.enter_context(self._door.admit(caller, method.role))
            body = await self._calls.body(request, caller)
            if len(body) > _LARGE:
                sent = await asyncio.to_thread(_messages, method, body)
            else:
                sent = _messages(method, body)
            answers = self._relay.call(method, caller, _each(sent), seconds(request))
            if not method.streams_answers:
                content = await while_connected(request, _only(answers))
                return Response(await _json(method, content), media_type="application/json")
            first = await while_connected(request, _first(answers))  # what is refused at once has a status of its own
            return _Lines(method, first, answers, held.pop_all())


class _Lines(StreamingResponse):
    """A stream of answers. It counts as a call until its end, or until the caller leaves."""

    def __init__(self, method: Method, first: bytes | None, answers: AsyncGenerator[bytes], held: ExitStack) -> None:
        super().__init__(_lines(method, first, answers), media_type=NDJSON)
        self._answers, self._held = answers, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._held.close()
            await self._answers.aclose()


async def _lines(method: Method, first: bytes | None, answers: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    if first is None:
        return
    try:
        yield await _json(method, first) + b"\n"
        async for content in answers:
            yield await _json(method, content) + b"\n"
    except Exception as error:  # noqa: BLE001 - the caller hears what it may
        told = grpc_errors.public(_told(error) if isinstance(error, WorkerError) else error)
        yield json.dumps({"error": problems.members(told)}).encode() + b"\n"


async def _each(sent: Iterable[bytes]) -> AsyncIterator[bytes]:
    for content in sent:
        yield content


async def _first(answers: AsyncGenerator[bytes]) -> bytes | None:
    try:
        return await anext(answers, None)
    except WorkerError as error:
        raise _told(error) from None


async def _only(answers: AsyncGenerator[bytes]) -> bytes:
    try:
        content = await _first(answers)
        if content is None:
            raise OuzelError("the worker answered nothing")
        await _first(answers)  # its status comes behind the message
        return content
    finally:
        await answers.aclose()


def _messages(method: Method, body: bytes) -> list[bytes]:
    """What the body says, as messages. Raises InvalidArgument."""
    texts = [line for line in body.split(b"\n") if line.strip()] if method.streams_requests else [body.strip() or b"{}"]
    return [_message(method, text, number) for number, text in enumerate(texts)]


def _message(method: Method, text: bytes, number: int) -> bytes:
    where = f"body: line {number + 1}" if method.streams_requests else "body"
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{where}: not valid JSON ({error!s:.200})", field="body") from None
    if not isinstance(document, dict):
        raise InvalidArgument(f"{where}: is not a JSON object", field="body")
    try:
        return json_format.ParseDict(document, method.request(), max_recursion_depth=50).SerializeToString()
    except Exception as error:  # noqa: BLE001 - protobuf's reader fails with errors of all kinds on hostile JSON
        said = " ".join(str(error).split())
        raise InvalidArgument(f"{where}: is no {method.request.DESCRIPTOR.name} ({said:.200})", field="body") from None


async def _json(method: Method, content: bytes) -> bytes:
    return await asyncio.to_thread(_printed, method, content) if len(content) > _LARGE else _printed(method, content)


def _printed(method: Method, content: bytes) -> bytes:
    message: Message = method.answer.FromString(content)
    text = json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=None
    )
    return text.encode()


def _told(error: WorkerError) -> OuzelError:
    """The worker's refusal as one of ours, with the field at fault and the time to wait."""
    field, pause = _details(error.details)
    if error.code.name == ResourceExhausted.code:
        return ResourceExhausted(error.words, field=field, retry_after=pause)
    return _KINDS.get(error.code.name, OuzelError)(error.words, field=field)


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
