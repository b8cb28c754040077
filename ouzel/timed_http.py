"""Connections whose requests must come in time: uvicorn itself waits for headers without end."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

LONGEST_HEADERS = 64 * 2**10  # bytes


class TimedProtocol(H11Protocol):
    """HTTP/1.1 of uvicorn, which closes a connection whose headers take too long."""

    seconds = 10.0  # in which the line and the headers of a request must have come
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begins with a connection that has sent nothing."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Looks whether a request has come, or has begun to come."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        elif self.conn.trailing_data[0]:  # of a request whose headers are not complete
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the watch."""
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self.seconds, self.transport.abort)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def within(seconds: float) -> type[TimedProtocol]:
    """The protocol with another limit, in seconds."""
    return type("TimedProtocol", (TimedProtocol,), {"seconds": seconds})
