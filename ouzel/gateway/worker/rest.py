"""The worker's methods over REST: POST /v1/{service}/{method} with the messages as JSON (the mapping of protobuf).

Methods that answer a stream answer a line of JSON for each message, and methods that are sent one read such lines. An
error within a stream is its last line, {"error": {...}}, with the members of problem details. Files travel as they are,
too: see `files`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack
from functools import partial

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ouzel import grpc_errors
from ouzel.errors import NotFound, OuzelError
from ouzel.gateway.access.caller import Caller
from ouzel.gateway.rest import problems
from ouzel.gateway.rest.bodies import Aside
from ouzel.gateway.rest.http_calls import Calls, seconds, while_connected
from ouzel.gateway.rest.http_observed import observed
from ouzel.gateway.worker import files
from ouzel.gateway.worker.conversation_rest import ConversationRest
from ouzel.gateway.worker.json_messages import largest, message, messages, printed, told
from ouzel.gateway.worker.methods import METHODS, Method
from ouzel.gateway.worker.relay import Relay, WorkerError, whole

NDJSON = "application/x-ndjson"
_BY_PATH = {(method.service, method.name): method for method in METHODS.values() if not method.converses}


class WorkerRest:
    """The routes.

    Args:
        calls: What all routes share.
        relay: To the worker.
    """

    def __init__(self, calls: Calls, relay: Relay) -> None:
        self._calls, self._door, self._relay = calls, calls.door, relay
        self._conversations = ConversationRest(calls, relay)

    def routes(self) -> list[Route]:
        """Where the handlers are."""
        return [
            *self._conversations.routes(),
            Route("/v1/{service}/{method}", self._calls.route(self._call, problems.problem), methods=["POST"]),
        ]

    async def close(self) -> None:
        """Ends conversations that wait for their callers."""
        await self._conversations.close()

    async def _call(self, request: Request, caller: Caller) -> Response:
        service, name = request.path_params["service"], request.path_params["method"]
        method = _BY_PATH.get((service, name))
        if method is None:
            raise NotFound(f"{service!r:.80} has no method {name!r:.80}", field="path")
        if (call := observed(request.scope)) is not None:
            call.method = f"{service}/{name}"
        with ExitStack() as held:
            held.enter_context(self._door.call())
            held.enter_context(self._door.admit(caller, method.role))
            aside = self._calls.aside(request, caller)
            print_aside = partial(self._door.reading.run, caller.tenant)  # answers may take hours
            body = await self._calls.body(request, caller, largest(method))
            if files.is_upload(method, request):
                sent = files.uploaded(body, aside)
            elif method.streams_requests:
                sent = messages(method, body, aside)
            else:
                sent = _one(await while_connected(request, message(method, body, aside)))
            answers = whole(self._door.under_way, self._relay.call(method, caller, sent, seconds(request)))
            if not method.streams_answers:
                content = await while_connected(request, _only(answers))
                return Response(await _json(method, content, print_aside), media_type="application/json")
            first = await while_connected(request, _first(answers))  # what is refused at once has a status of its own
            if first is not None and files.is_download(method, request):
                lines, kind = files.downloaded(first, answers), files.media_type(first)
            else:
                lines, kind = _lines(method, first, answers, print_aside), NDJSON
            return _Stream(lines, kind, answers, held.pop_all())


class _Stream(StreamingResponse):
    """A stream of answers. It counts as a call until its end, or until the caller leaves."""

    def __init__(self, parts: AsyncIterator[bytes], kind: str, answers: AsyncGenerator[bytes], held: ExitStack) -> None:
        super().__init__(parts, media_type=kind)
        self._answers, self._held = answers, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._held.close()
            await self._answers.aclose()


async def _lines(
    method: Method, first: bytes | None, answers: AsyncGenerator[bytes], aside: Aside
) -> AsyncIterator[bytes]:
    if first is None:
        return
    try:
        yield await _json(method, first, aside) + b"\n"
        async for content in answers:
            yield await _json(method, content, aside) + b"\n"
    except Exception as error:  # noqa: BLE001 - the caller hears what it may
        public = grpc_errors.public(told(error) if isinstance(error, WorkerError) else error)
        yield json.dumps({"error": problems.members(public)}).encode() + b"\n"


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _first(answers: AsyncGenerator[bytes]) -> bytes | None:
    try:
        return await anext(answers, None)
    except WorkerError as error:
        raise told(error) from None


async def _only(answers: AsyncGenerator[bytes]) -> bytes:
    try:
        content = await _first(answers)
        if content is None:
            raise OuzelError("the worker answered nothing")
        await _first(answers)  # its status comes behind the message
        return content
    finally:
        await answers.aclose()


async def _json(method: Method, content: bytes, aside: Aside) -> bytes:
    return await printed(method.answer.FromString(content), len(content), aside)
