"""The sink over HTTP: events in, status and reports out."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ouzel.databases.database import Connection
from ouzel.databases.sqlite import SqliteDatabase
from ouzel.errors import FailedPrecondition, OuzelError
from ouzel.pages.texts import visible
from ouzel.sink import bodies, counts
from ouzel.sink.auditor import Auditor
from ouzel.sink.clock import Clock
from ouzel.sink.cloudevents import Event, Malformed, parse
from ouzel.sink.config import Service, SinkConfig
from ouzel.sink.metrics import MEDIA_TYPE, metrics
from ouzel.sink.recording import REQUEST, RESPONSE, Arrival, Recorder
from ouzel.sink.report import page, report
from ouzel.sink.sampling import pair_of
from ouzel.sink.status import status
from ouzel.telemetry.metrics import registry

T = TypeVar("T")
_log = logging.getLogger(__name__)
_HEADERS = 65_536  # bytes
_PARSED_HERE = 64 * 2**10  # bytes of a response that are read without a thread
_MOST_STRANGERS = 100  # services that are not in the file and are told in the log


@dataclass(frozen=True)
class Parts:
    """What the application speaks for."""

    config: SinkConfig
    database: SqliteDatabase
    clock: Clock
    recorder: Recorder
    auditor: Auditor


class App:
    """The handlers, and what they share. All of it runs in one event loop.

    Args:
        parts: Of the sink.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts, self._limits = parts, parts.config.limits
        self._flight = 0  # bytes that are being received, or wait for the disk
        self._reading = asyncio.Semaphore(1)  # JSON takes many times its size: large bodies one after another
        self._unauthenticated = 0
        self._unrecorded = 0  # events that could not be counted, as the disk is full, say
        self._strangers: set[str] = set()
        self._process = registry()

    def routes(self) -> list[Route]:
        """Where the handlers are."""
        return [
            Route("/", self._guarded(self._take), methods=["POST"]),
            Route("/events", self._guarded(self._take), methods=["POST"]),
            Route("/healthz", self._health, methods=["GET"]),
            Route("/status", self._guarded(self._status), methods=["GET"]),
            Route("/metrics", self._guarded(self._metrics), methods=["GET"]),
            Route("/report", self._guarded(self._report), methods=["GET"]),
            Route("/report.html", self._guarded(self._report), methods=["GET"]),
        ]

    def _guarded(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """The handler for those who show the token; errors become a status with words."""

        async def guarded(request: Request) -> Response:
            try:
                if not self._known(request):
                    self._unauthenticated += 1
                    return _words("the token is missing or not known", 401)
                return await handler(request)
            except Malformed as error:
                return _words(str(error), error.http)
            except OuzelError as error:
                return _words(str(error), error.http)
            except ClientDisconnect:
                return Response(status_code=400)  # nobody reads it

        return guarded

    def _known(self, request: Request) -> bool:
        secret = self._parts.config.token
        if secret is None:
            return True
        try:
            token = secret.reveal()
        except FailedPrecondition as error:
            _log.error("token: %s", error)
            return False
        given = request.headers.get("authorization", "")
        return hmac.compare_digest(given.encode("latin-1", "replace"), f"Bearer {token}".encode())

    async def _take(self, request: Request) -> Response:
        """Answers as soon as the event is durably counted."""
        recorder = self._parts.recorder
        parts: list[bytes] = []
        try:
            _check_announced(request, self._limits.body_bytes)
            if not await self._received(request, parts):
                await _done(recorder.refuse(counts.DROPPED, "busy"))
                return _words("too much is being received; the event was dropped", 503)
            body = b"".join(parts)
            event = await self._parsed(request, body)
            arrival = await self._arrival(event)
            if arrival is None:
                service = self._service(event)
                name, reason = (service.name, "type") if service else ("", "service")
                await _done(recorder.refuse(counts.IGNORED, reason, name))
                return Response(status_code=202)
            await _done(recorder.record(arrival))
            return Response(status_code=202)
        except Malformed as error:
            await _done(recorder.refuse(counts.MALFORMED, error.reason))
            raise
        except ClientDisconnect:
            await _done(recorder.refuse(counts.MALFORMED, "cut-off"))
            raise
        except OuzelError:
            self._unrecorded += 1
            raise
        finally:
            self._flight -= sum(map(len, parts))

    async def _received(self, request: Request, parts: list[bytes]) -> bool:
        """Adds the body to `parts`; False if all bodies that come now have too many bytes.

        What has come counts, not what is announced: a sender who announces much and sends nothing takes no room.
        """
        most, size = self._limits.body_bytes, 0
        try:
            async with asyncio.timeout(self._limits.body_s):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > most:
                        raise Malformed(f"the body has more than {most} bytes", "too-large", http=413)
                    if self._flight + len(chunk) > self._limits.flight_bytes:
                        return False
                    parts.append(chunk)
                    self._flight += len(chunk)
        except TimeoutError:
            raise Malformed(f"the body did not come within {self._limits.body_s:g} s", "slow", http=408) from None
        return True

    async def _parsed(self, request: Request, body: bytes) -> Event:
        if len(body) <= _PARSED_HERE or "cloudevents" not in request.headers.get("content-type", "").lower():
            return parse(request.headers.raw, body)
        async with self._reading:
            return await asyncio.to_thread(parse, request.headers.raw, body)

    async def _arrival(self, event: Event) -> Arrival | None:
        """None for an event that no service of the file takes."""
        service = self._service(event)
        if service is None:
            stranger = visible(event.extensions.get("inferenceservicename") or event.source, 80)
            if stranger not in self._strangers and len(self._strangers) < _MOST_STRANGERS:
                self._strangers.add(stranger)
                _log.warning("events of %r match no service of the file; they are ignored", stranger)
            return None
        half = {service.request: REQUEST, service.response: RESPONSE}.get(event.type)
        if half is None:
            return None
        answer = None
        if half == RESPONSE and service.needs_answer:
            answer = await self._answered(service, event)
        return Arrival(service, event, half, answer)

    async def _answered(self, service: Service, event: Event) -> bodies.Prediction | None:
        if len(event.data) <= _PARSED_HERE:
            return _answer(service, event)
        async with self._reading:
            return await asyncio.to_thread(_answer, service, event)

    def _service(self, event: Event) -> Service | None:
        for service in self._parts.config.services:
            if all(event.attribute(name) == value for name, value in service.match.items()):
                return service
        return None

    async def _health(self, request: Request) -> Response:
        try:
            await _done(self._parts.database.submit(lambda c: c.one("SELECT 1")))
        except OuzelError as error:
            return _words(str(error), 503)
        return PlainTextResponse("ok\n")

    async def _status(self, request: Request) -> Response:
        return JSONResponse(await self._told())

    async def _metrics(self, request: Request) -> Response:
        return Response(metrics(await self._told(), self._process), media_type=MEDIA_TYPE)

    async def _report(self, request: Request) -> Response:
        config, asked = self._parts.config, request.query_params
        name, days = asked.get("service"), asked.get("days", "30")
        if name is not None and config.service(name) is None:
            return _words(f"service: {visible(name)!r} is not in the file", 404)
        if not (days.isascii() and days.isdecimal() and len(days) < 5):
            return _words("days: is not a whole number", 400)
        values = await self._read(lambda c: report(c, config, name, int(days)))
        if request.url.path.endswith(".html"):
            return HTMLResponse(await asyncio.to_thread(page, values))
        return JSONResponse(values)

    async def _told(self) -> dict[str, Any]:
        parts = self._parts

        def work(c: Connection) -> dict[str, Any]:
            return status(
                c,
                parts.config,
                now=parts.clock.now(),
                down=parts.auditor.down,
                failures=parts.auditor.failures,
                unauthenticated=self._unauthenticated,
                unrecorded=self._unrecorded,
            )

        return await self._read(work)

    async def _read(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.to_thread(self._parts.database.read, work)


def make(parts: Parts) -> Starlette:
    """The application."""
    app = Starlette(routes=App(parts).routes(), exception_handlers={Exception: _fault})
    app.router.redirect_slashes = False
    return app


async def _fault(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, visible(request.url.path, 200), exc_info=error)
    return _words("the sink failed; its log says why", 500)


def _check_announced(request: Request, most: int) -> None:
    """Refuses a request by its headers.

    Raises:
        Malformed: They are too many, or compressed, or two lengths are told.
    """
    if sum(len(name) + len(value) for name, value in request.headers.raw) > _HEADERS:
        raise Malformed(f"the headers have more than {_HEADERS} bytes", "headers", http=431)
    if "transfer-encoding" in request.headers and "content-length" in request.headers:
        raise Malformed("content-length: comes beside transfer-encoding", "length")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Malformed("content-encoding: compressed bodies are not read", "compressed", http=415)
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdecimal()):
        return
    if len(length) > 15 or int(length) > most:
        raise Malformed(f"the body has {length[:20]} bytes, more than {most}", "too-large", http=413)


def _answer(service: Service, event: Event) -> bodies.Prediction | None:
    try:
        return bodies.prediction(service, event.data, int.from_bytes(pair_of(service.name, event)[:8]))
    except OuzelError:
        return None


def _words(text: str, http: int) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if http == 401 else {"Retry-After": "1"} if http == 503 else None
    return PlainTextResponse(text + "\n", http, headers)


async def _done(future: Future[T]) -> T:
    """Waits for the disk even if the sender leaves: what was asked for is counted."""
    return await asyncio.shield(asyncio.wrap_future(future))
