"""LedgerService: the log over gRPC, and as JSON over REST.

With the role `admin` it is that of all tenants. With `audit` alone it holds the entries that a tenant owns, as far as
their salts, by which they are found, are there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ouzel.bounded_messages import parsed
from ouzel.checks import one_of, within
from ouzel.errors import NotFound, PermissionDenied
from ouzel.gateway.access.caller import Caller
from ouzel.gateway.grpc_calls import Context, Unary, seconds_left
from ouzel.gateway.ledger_log import Log
from ouzel.gateway.rest import problems
from ouzel.gateway.rest.http_calls import Calls, seconds
from ouzel.gateway.worker.json_messages import largest, message, printed
from ouzel.gateway.worker.methods import LEDGER, Method
from ouzel.gateway.worker.visible import sees_all
from ouzel.ledger import KINDS, Ledger, Record
from ouzel.ledger.entry import OWNER
from ouzel_protos.v1 import ledger_pb2 as pb

_PUBLISHES = 30.0  # s, at most
_PAGE, _LARGEST_PAGE = 100, 500
_MOST = 2**62
_LOOKED_AT = 10_000  # entries for a page of a tenant's own
# (request, log, seconds, tenant whose entries alone are told; "" for all)
_Answer = Callable[[Any, Ledger, float, str], Message]


class LedgerService:
    """See `ouzel.gateway.grpc_calls.Service`; its `routes` are those of REST.

    Args:
        calls: What all routes share.
        log: That is read.
    """

    def __init__(self, calls: Calls, log: Log) -> None:
        self._calls, self._door, self._log = calls, calls.door, log
        answers: dict[str, _Answer] = {"GetCheckpoint": _checkpoint, "GetEntry": _entry, "ListEntries": _entries}
        self._methods = {path: (method, answers[method.name]) for path, method in LEDGER.items()}

    def paths(self) -> Iterable[str]:
        """See `Service`."""
        return self._methods

    def method(self, path: str) -> Unary | None:
        """See `Service`."""
        if path not in self._methods:
            return None
        method, _ = self._methods[path]

        async def answer(content: bytes, caller: Caller, context: Context) -> bytes:
            async with self._admitted(method, caller) as ask:
                return (await ask(content, seconds_left(context))).SerializeToString()

        return answer

    def routes(self) -> list[Route]:
        """Where the handler is."""
        handler = self._calls.route(self._post, problems.problem)
        return [Route("/v1/LedgerService/{method}", handler, methods=["POST"])]

    async def _post(self, request: Request, caller: Caller) -> Response:
        name = request.path_params["method"]
        method = next((each for each, _ in self._methods.values() if each.name == name), None)
        if method is None:
            raise NotFound(f"'LedgerService' has no method {name!r:.80}", field="path")
        async with self._admitted(method, caller) as ask:
            aside = self._calls.aside(request, caller)
            content = await message(method, await self._calls.body(request, caller, largest(method)), aside)
            answer = await ask(content, seconds(request))
            return Response(await printed(answer, answer.ByteSize(), aside), media_type="application/json")

    @asynccontextmanager
    async def _admitted(
        self, method: Method, caller: Caller
    ) -> AsyncIterator[Callable[[bytes, float | None], Awaitable[Message]]]:
        """What answers the method, for a caller who may read."""
        admin = "admin" in caller.roles
        with self._door.admit(caller, "admin" if admin else method.role):
            if method.name != "GetCheckpoint" and not sees_all(caller):
                with self._door.refusals():
                    raise PermissionDenied("entries of the log tell of all models, and this caller may see some only")
            _, answer = self._methods[method.path]
            own = "" if admin else caller.tenant

            async def ask(content: bytes, left: float | None) -> Message:
                self._door.deadline(left)  # refuses what is no time
                request = parsed(method.request, content)
                most = min(left or _PUBLISHES, _PUBLISHES)
                return await self._log.read(lambda ledger: answer(request, ledger, most, own))

            yield ask


def _checkpoint(_request: pb.GetCheckpointRequest, ledger: Ledger, left: float, _own: str) -> Message:
    _, note = ledger.publish(left)
    return pb.LedgerCheckpoint(note=note.decode(), key=str(ledger.key))


def _entry(request: pb.GetEntryRequest, ledger: Ledger, left: float, own: str) -> Message:
    within("index", request.index, 0, _MOST)
    found = ledger.entry(request.index) if not own else _own_entry(ledger, request.index, own)
    return _told(found, ledger.prove(request.index, left))


def _own_entry(ledger: Ledger, index: int, own: str) -> Record:
    """An entry of a tenant; others are not there, in the same words."""
    with suppress(NotFound):
        if (found := ledger.entry(index)).tells_of(OWNER, own):
            return found
    raise NotFound(f"index: {index} is not an entry of the tenant {own!r:.80}", field="index")


def _entries(request: pb.ListEntriesRequest, ledger: Ledger, _left: float, own: str) -> Message:
    within("start", request.start, 0, _MOST)
    within("page_size", request.page_size, 0, _LARGEST_PAGE)
    if request.kind:
        one_of("kind", request.kind, KINDS)
    count = request.page_size or _PAGE
    if own:
        return _own_entries(request, ledger, own, count)
    found = ledger.entries(request.start, kind=request.kind, limit=count + 1)
    answer = pb.ListEntriesResponse(entries=[_told(each) for each in found[:count]])
    if len(found) > count:
        answer.next = found[count].index or 0
    return answer


def _own_entries(request: pb.ListEntriesRequest, ledger: Ledger, own: str, count: int) -> Message:
    """A page that may hold less than was asked for although there is more, which `next` says."""
    answer, start, looked = pb.ListEntriesResponse(), request.start, 0
    while rows := ledger.entries(start, kind=request.kind):
        for each in rows:
            if len(answer.entries) == count or looked == _LOOKED_AT:
                answer.next = each.index or 0
                return answer
            looked += 1
            if each.tells_of(OWNER, own):
                answer.entries.append(_told(each))
        start = (rows[-1].index or 0) + 1
    return answer


def _told(record: Record, proof: str = "") -> pb.LedgerEntry:
    return pb.LedgerEntry(index=record.index or 0, entry=record.body or b"", proof=proof)
