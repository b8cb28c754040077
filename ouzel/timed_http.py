"""Connections whose requests must come in time, and end where they do not: uvicorn itself waits without end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import h11
from uvicorn._types import ASGI3Application, ASGISendEvent
from uvicorn.protocols.http.h11_impl import H11Protocol

LONGEST_HEADERS = 64 * 2**10  # bytes
_CLOSE = (b"connection", b"close")
_LINGERS = 2.0  # s in which a caller who still sends can read why it was refused
_FRAMED_TWICE = "content-length: comes beside transfer-encoding; a request has one of them"


class TimedProtocol(H11Protocol):
    """HTTP/1.1 of uvicorn, which closes a connection whose headers take too long, or whose body nobody wants to read.

    A request that says in two ways where it ends is refused: those before and behind us may take different ones for the
    truth (RFC 9112, 6.1).
    """

    seconds = 10.0  # in which the line and the headers of a request must have come
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begins with a connection that has sent nothing."""
        lingering: Any = _Lingering(transport, self.loop, self._may_come)
        super().connection_made(lingering)
        self.app = self._guarded(self.app)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Looks whether a request has come, or has begun to come."""
        if self.transport.is_closing():  # nobody reads it any more
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        elif self.conn.trailing_data[0]:  # of a request whose headers are not complete
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the watch."""
        self._forget()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Closes a connection on which the rest of a body would come, whoever has answered without it."""
        if self.conn.their_state is h11.SEND_BODY:
            self.transport.close()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets a problem, as other faults do."""
        content = {"type": "about:blank", "title": "Invalid argument", "status": 400, "detail": msg}
        body = json.dumps(content | {"code": "INVALID_ARGUMENT"}).encode()
        headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode()), _CLOSE]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _guarded(self, app: ASGI3Application) -> ASGI3Application:
        async def guarded(scope: Any, receive: Any, send: Any) -> None:
            cycle = self.cycle  # of this request: the next one begins when it has ended
            names = {name for name, _ in scope["headers"]}
            twice = {b"content-length", b"transfer-encoding"} <= names

            async def sent(message: ASGISendEvent) -> None:
                if message["type"] == "http.response.start" and (cycle.more_body or twice):
                    headers = [each for each in message.get("headers", ()) if each[0].lower() != _CLOSE[0]]
                    message = {**message, "headers": [*headers, _CLOSE]}
                await send(message)

            if twice:
                await _refuse(sent)
            else:
                await app(scope, receive, sent)

        return guarded

    def _may_come(self) -> bool:
        """Whether bytes may come, or have come, that nobody reads."""
        return self.conn.their_state in (h11.SEND_BODY, h11.ERROR) or bool(self.conn.trailing_data[0])

    def _watch(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self.seconds, self.transport.abort)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class _Lingering:
    """A transport that is closed in two steps where the caller still sends: nothing is said any more, then it goes.

    Closed at once with bytes in it that nobody has read, it would throw away what the caller has not read, too.

    Args:
        transport: That is closed.
        loop: In which.
        may_come: Whether the caller still sends.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop, may_come: Callable[[], bool]) -> None:
        self._transport, self._loop, self._may_come = transport, loop, may_come
        self._closing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether nothing more is sent."""
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        """Sends what has been written, and closes; throws away what comes until then."""
        if self.is_closing():
            return
        self._closing = True
        if not self._may_come():
            self._transport.close()
            return
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._loop.call_later(_LINGERS, self._transport.close)


async def _refuse(send: Any) -> None:
    content = {"type": "about:blank", "title": "Invalid argument", "status": 400, "detail": _FRAMED_TWICE}
    body = json.dumps(content | {"code": "INVALID_ARGUMENT", "field": "content-length"}).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def within(seconds: float) -> type[TimedProtocol]:
    """The protocol with another limit, in seconds."""
    return type("TimedProtocol", (TimedProtocol,), {"seconds": seconds})
