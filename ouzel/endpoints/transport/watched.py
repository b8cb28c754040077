"""One HTTP request in a thread of its own, which can be ended from outside, whatever it waits for."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

_T = TypeVar("_T")


@dataclass(frozen=True)
class Call:
    """A request. urllib3 logs addresses, which may hold a secret, so it gets "/"; the target goes on the wire.

    Attributes:
        method: "GET" or "POST".
        url: With its query.
        body: Of the request.
        headers: Of the request.
        absolute: Whether a proxy wants the whole address in the first line.
    """

    method: str
    url: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    absolute: bool = False

    @property
    def server(self) -> str:
        """Scheme, host and port."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def shown(self) -> str:
        """What urllib3 gets in place of the target."""
        return f"{self.server}/" if self.absolute else "/"

    @property
    def target(self) -> str:
        """What goes on the wire."""
        parts = urlsplit(self.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return self.server + target if self.absolute else target


class Overdue(Exception):
    """There was no answer in time."""


@dataclass
class _Attempt:
    """What the thread of a request uses, so that another one can end it."""

    target: str = field(repr=False)
    connection: HTTPConnection | None = None
    sock: socket.socket | None = None

    def abort(self) -> None:
        """Ends whatever the thread waits for."""
        sock = self.sock or (self.connection and self.connection.sock)
        if sock:
            with suppress(OSError, ValueError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # of TLS the plain one, which does not wait


_current = threading.local()  # .attempt: of this thread


class _Connection(HTTPConnection):
    """Tells the attempt of its thread what it uses, and writes its target."""

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        attempt: _Attempt = _current.attempt
        attempt.connection = self
        super().putrequest(method, attempt.target, *args, **kwargs)

    def getresponse(self) -> Any:
        _current.attempt.sock = self.sock
        return super().getresponse()


class _TlsConnection(_Connection, HTTPSConnection):
    """The same with TLS."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def pools(connections: int, tls: ssl.SSLContext | None, proxy: str, *, named: str = "") -> urllib3.PoolManager:
    """Pools of connections for `run`. urllib3 reads no settings of proxies from the environment.

    Args:
        connections: That are kept.
        tls: For https.
        proxy: Its URL; empty asks directly.
        named: Whose certificate is asked for where URLs hold an address in place of a name.
    """
    settings: dict[str, Any] = {"maxsize": connections, "retries": False, "ssl_context": tls}
    if named:
        settings |= {"server_hostname": named, "assert_hostname": named}
    manager = urllib3.ProxyManager(proxy, **settings) if proxy else urllib3.PoolManager(**settings)
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return manager


def run(manager: urllib3.PoolManager, call: Call, read: Callable[[urllib3.BaseHTTPResponse], _T], seconds: float) -> _T:
    """Make a request. Redirects are not followed, and bodies not unpacked.

    Args:
        manager: Of `pools`.
        call: The request.
        read: Reads the answer, which may come slowly.
        seconds: For all of it: names, connections, headers and body. A thread that hangs is left behind.

    Returns:
        What `read` returns.

    Raises:
        Overdue: The time is over.
        Exception: Whatever urllib3 or `read` raises.
    """
    attempt = _Attempt(call.target)
    results: list[_T] = []
    errors: list[BaseException] = []

    def work() -> None:
        _current.attempt = attempt
        try:
            results.append(_exchange(manager, call, read, seconds))
        except BaseException as error:  # noqa: BLE001 - raised by the thread that waits
            errors.append(error)

    thread = threading.Thread(target=work, name="ouzel-endpoint", daemon=True)
    thread.start()
    thread.join(seconds)
    if results:
        return results[0]
    if errors:
        raise errors[0]
    attempt.abort()
    raise Overdue


def _exchange(
    manager: urllib3.PoolManager, call: Call, read: Callable[[urllib3.BaseHTTPResponse], _T], seconds: float
) -> _T:
    response = manager.connection_from_url(call.server).urlopen(
        call.method,
        call.shown,
        body=call.body or None,
        headers=call.headers,
        retries=False,
        redirect=False,
        assert_same_host=False,
        timeout=urllib3.Timeout(total=seconds),
        preload_content=False,
        decode_content=False,
    )
    try:
        result = read(response)
    except BaseException:
        response.close()  # what is left of the answer is not waited for
        raise
    response.release_conn()
    return result
