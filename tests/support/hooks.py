"""A receiver of webhooks, which answers what a test wants."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import trustme


@dataclass(frozen=True)
class Request:
    """What was sent; the names of headers are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Hook:
    """What has come. `statuses` are answered one after the other, then 200."""

    port: int
    requests: list[Request] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)  # paths that redirects lead to

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/"


@contextlib.contextmanager
def listening(*, silent: bool = False, certificate: trustme.LeafCert | None = None) -> Iterator[Hook]:
    """silent: it takes requests and never answers."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.requests.append(Request(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            if silent:
                ended.wait(30)
                return
            status = hook.statuses.pop(0) if hook.statuses else 200
            hook.answered.append(status)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            hook.elsewhere.append(self.path)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(tls)
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    hook = Hook(server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
