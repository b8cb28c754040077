"""Conversations over REST: the audit of a predictor on the caller's side, step by step.

    POST   /v1/AuditService/AuditReported                   {"start": {...}}
    POST   /v1/AuditService/AuditReported/{conversation}    {"answer": {...}}, until there is an `audit`
    DELETE /v1/AuditService/AuditReported/{conversation}    gives it up

The answer to a step has the members of `AuditReportedResponse` that have come, and `conversation` while it goes on.
"""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ouzel.errors import InvalidArgument
from ouzel.gateway.access.caller import Caller
from ouzel.gateway.rest import problems
from ouzel.gateway.rest.bodies import Aside
from ouzel.gateway.rest.http_calls import Calls, seconds, while_connected
from ouzel.gateway.worker.conversations import Conversations, Step
from ouzel.gateway.worker.json_messages import message, printed
from ouzel.gateway.worker.methods import METHODS, Method
from ouzel.gateway.worker.relay import Relay
from ouzel_protos.v1 import audit_pb2 as pb

METHOD: Method = METHODS["/ouzel.v1.AuditService/AuditReported"]
PATH = f"/v1/{METHOD.service}/{METHOD.name}"


class ConversationRest:
    """The routes.

    Args:
        calls: What all routes share.
        relay: To the worker.
    """

    def __init__(self, calls: Calls, relay: Relay) -> None:
        self._calls, self._door = calls, calls.door
        self._conversations = Conversations(relay)

    def routes(self) -> list[Route]:
        """Where the handlers are."""
        step, one = self._calls.route(self._step, problems.problem), f"{PATH}/{{conversation}}"
        return [
            Route(PATH, step, methods=["POST"]),
            Route(one, step, methods=["POST"]),
            Route(one, self._calls.route(self._end, problems.problem), methods=["DELETE"]),
        ]

    async def close(self) -> None:
        """Ends all that wait for their callers."""
        await self._conversations.close()

    async def _step(self, request: Request, caller: Caller) -> Response:
        name = request.path_params.get("conversation")
        with self._door.admit(caller, METHOD.role):
            body = await self._calls.body(request, caller)
            aside = self._calls.aside(request, caller)
            content = await message(METHOD, body, aside)
            wanted = "start" if name is None else "answer"
            if pb.AuditReportedRequest.FromString(content).WhichOneof("part") != wanted:
                raise InvalidArgument(f"body: {wanted!r} is what has to come now", field="body")
            if name is None:
                step = await while_connected(
                    request, self._conversations.start(METHOD, caller, content, seconds(request))
                )
            else:
                step = await while_connected(request, self._conversations.go_on(name, caller, content))
            return Response(
                await _json(step, partial(self._door.reading.run, caller.tenant)), media_type="application/json"
            )

    async def _end(self, request: Request, caller: Caller) -> Response:
        with self._door.admit(caller, METHOD.role):
            await self._conversations.end(request.path_params["conversation"], caller)
            return Response(b"{}", media_type="application/json")


async def _json(step: Step, aside: Aside) -> bytes:
    parts = [f'"conversation": "{step.conversation}"'.encode()] if step.conversation else []
    for said in step.messages:
        content = await printed(said, said.ByteSize(), aside)
        parts.append(content.strip()[1:-1])  # the members: one each
    return b"{" + b", ".join(parts) + b"}"
