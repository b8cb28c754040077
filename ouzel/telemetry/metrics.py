"""The numbers of a process, as Prometheus reads them: a registry of its own, and a port of their own."""

from __future__ import annotations

import hmac
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, make_wsgi_app

from ouzel import secret_files
from ouzel.checks import is_loopback, within
from ouzel.errors import FailedPrecondition, InvalidArgument, OuzelError

_log = logging.getLogger(__name__)
_MOST = 8  # connections at a time
_PATIENCE = 10.0  # s for a connection that says nothing
# Seconds: from answers out of a cache to the limits of a call, and of jobs.
CALL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
JOB_BUCKETS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)


@dataclass(frozen=True)
class MetricsOptions:
    """Where the numbers of a process are read.

    Attributes:
        port: 0 selects a free one.
        host: Address to listen on.
        token_file: With the token that readers must show (`Authorization: Bearer ...`); it is read at each request.

    Raises:
        InvalidArgument: A value is out of its range, or strangers could read.
    """

    port: int
    host: str = "127.0.0.1"
    token_file: Path | None = None

    def __post_init__(self) -> None:
        within("metrics_port", self.port, 0, 65535)
        if self.token_file is None and not is_loopback(self.host):
            raise InvalidArgument(
                f"metrics_host: {self.host!r} is not loopback, and nothing says who may read; give a file with a token "
                "(metrics_token_file), or listen on 127.0.0.1",
                field="metrics_host",
            )


def registry() -> CollectorRegistry:
    """A new registry, with the memory, the files and the start of this process."""
    disable_created_metrics()  # else each counter has a second row, with the time of its first call
    made = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=made)
    return made


@contextmanager
def served(registry: CollectorRegistry, options: MetricsOptions | None) -> Iterator[str]:
    """Serves GET /metrics in threads as long as the context is open.

    Args:
        registry: Whose numbers.
        options: Where; None serves nothing.

    Yields:
        The URL; "" where nothing is served.

    Raises:
        FailedPrecondition: The port cannot be had, or others may read the token.
        InvalidArgument: The token cannot be read.
    """
    if options is None:
        yield ""
        return
    if options.token_file is not None:
        secret_files.check(options.token_file, "metrics_token_file")
    app = _guarded(make_wsgi_app(registry), options.token_file)
    try:
        server = make_server(options.host, options.port, app, _server_class(options.host), _Handler)
    except OSError as error:
        raise FailedPrecondition(
            f"metrics_port: {options.port} of {options.host} is in use or cannot be used; choose another",
            field="metrics_port",
        ) from error
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{host}:{server.server_port}/metrics"
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    _log.info("metrics are served at %s", url)
    try:
        yield url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False  # who is silent ends by the time of the handler

    def __init__(self, *args: Any, **more: Any) -> None:
        self._room = threading.BoundedSemaphore(_MOST)
        super().__init__(*args, **more)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("a reader of the metrics left", exc_info=True)

    def server_bind(self) -> None:
        self.server_name = ""  # else the name of the host would be looked up
        super(WSGIServer, self).server_bind()
        self.setup_environ()


def _server_class(host: str) -> type[_Server]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return type("_Server", (_Server,), {"address_family": family})


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def address_string(self) -> str:
        return str(self.client_address[0])


def _guarded(app: Callable[..., Iterable[bytes]], token_file: Path | None) -> Callable[..., Iterable[bytes]]:
    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/metrics":
            return _words(start_response, "404 Not Found")
        if environ.get("REQUEST_METHOD") != "GET":
            return _words(start_response, "405 Method Not Allowed", ("Allow", "GET"))
        if token_file is not None and not _shown(environ.get("HTTP_AUTHORIZATION", ""), token_file):
            return _words(start_response, "401 Unauthorized", ("WWW-Authenticate", "Bearer"))
        try:
            return app(environ, start_response)
        except Exception:  # noqa: BLE001 - a number that cannot be had; readers hear no more than that
            _log.exception("the metrics cannot be told")
            return _words(start_response, "500 Internal Server Error")

    return answer


def _shown(authorization: str, token_file: Path) -> bool:
    try:
        token = secret_files.read(token_file, "metrics_token_file").strip()
    except (OSError, OuzelError) as error:
        _log.error("%s", error)
        return False
    return bool(token) and hmac.compare_digest(authorization.encode("latin-1", "replace"), f"Bearer {token}".encode())


def _words(start_response: Callable[..., Any], status: str, *headers: tuple[str, str]) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), *headers])
    return [f"{status.partition(' ')[2]}\n".encode()]
