"""HTTP services to be asked: one that classifies images, and ones that say exactly what a test wants."""

from __future__ import annotations

import base64
import contextlib
import email.parser
import email.policy
import io
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np
from PIL import Image

from support.oip import serving


def image_of(path: str, body: bytes, content_type: str) -> bytes:
    """The file in a request: as the body, in a form, or in JSON."""
    if path.startswith("/body"):
        return body
    if path.startswith("/form"):
        head = f"Content-Type: {content_type}\r\n\r\n".encode()
        form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        parts = {part.get_param("name", header="content-disposition"): part for part in form.iter_parts()}
        assert parts["top"].get_content() == "all"
        return parts["file"].get_payload(decode=True)
    document = json.loads(body)
    assert document["top"] == 3
    return base64.b64decode(document["instances"][0]["image"].removeprefix("data:image/png;base64,"))


@contextlib.contextmanager
def classifier(predict: Callable[[np.ndarray], list[float]], labels: tuple[str, ...]) -> Iterator[str]:
    """The URL of a service with /body, /form and /json, each with ?as=array, mapping, list or best (two of them).

    predict: (H, W, 3) uint8 to scores.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            picture = Image.open(io.BytesIO(image_of(self.path, body, self.headers["Content-Type"])))
            found = predict(np.asarray(picture.convert("RGB")))
            pairs = sorted(zip(labels, found, strict=True), key=lambda pair: -pair[1])
            answer: dict[str, Any] = {
                "array": {"predictions": [{"scores": found}]},
                "mapping": dict(pairs),
                "best": dict(pairs[:2]),
                "list": {"result": [{"name": label, "p": score} for label, score in pairs]},
            }[self.path.partition("?as=")[2]]
            text = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    with serving(Handler) as url:
        yield url


class Scripted:
    """A server that reads a request and then does what it is told.

    Attributes:
        requests: Heads of the requests that came.
        actions: What to do with each connection's requests, in order; the last one for all that follow.
    """

    def __init__(self, *actions: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.actions = list(actions)
        self.requests: list[str] = []
        self.over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            stack.enter_context(connection)
            if self._tls is not None:
                connection = stack.enter_context(self._tls.wrap_socket(connection, server_side=True))
            data = b""
            while b"\r\n\r\n" not in data:
                if not (chunk := connection.recv(65536)):
                    return
                data += chunk
            head, _, body = data.partition(b"\r\n\r\n")
            text = head.decode("latin-1")
            self.requests.append(text)
            lengths = [line for line in text.split("\r\n") if line.lower().startswith("content-length:")]
            missing = int(lengths[0].split(":")[1]) - len(body) if lengths else 0
            while missing > 0 and (chunk := connection.recv(65536)):
                missing -= len(chunk)
            self.actions[min(len(self.requests), len(self.actions)) - 1](connection)


def says(status: int = 200, body: bytes | str = b"", **headers: str) -> Callable[[socket.socket], None]:
    """An action: one answer. In header names, _ is -."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return lambda connection: connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + content)


def hangs_up(connection: socket.socket) -> None:
    """An action: nothing."""
