"""The few REST calls that starting and watching TorchServe needs. Proxies of the environment do not apply."""

from __future__ import annotations

import http.client
import io
import json
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


class Unreachable(OSError):
    """Nobody answered."""


def call(
    method: str, url: str, token: str, *, body: bytes = b"", kind: str = "", timeout: float = 10.0
) -> tuple[int, bytes]:
    """One request; returns status and body. `kind` is the content type of `body`. Raises Unreachable."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    headers = {"Authorization": f"Bearer {token}"} | ({"Content-Type": kind} if kind else {})
    try:
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body or None, headers)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{method} {url}: {error}") from error
    finally:
        connection.close()


def workers(management: str, token: str, model: str, version: str = "") -> list[dict[str, Any]]:
    """TorchServe's description of the workers of `model`: each has "status" and "pid". Empty when unknown.

    version: "" is the default one, "all" takes them together.
    """
    status, body = call("GET", f"{management}/models/{model}{version and '/'}{version}", token)
    if status != 200:
        return []
    return [worker for found in json.loads(body) for worker in found["workers"]]


def probe(rest: str, token: str, model: str, timeout: float) -> tuple[int, str]:
    """A real request with a tiny picture, without the work of explaining it; returns status and, if not 200, why.

    model: a name, or "name/version".
    """
    status, answer = explain(rest, token, model, {"estimate_only": True}, timeout)
    return status, "" if status == 200 else message(answer)


def explain(rest: str, token: str, model: str, options: Mapping[str, Any], timeout: float) -> tuple[int, bytes]:
    """As `probe`, with these options; returns status and body."""
    boundary = uuid.uuid4().hex
    fields = {"image": _picture(), "options": json.dumps(options).encode()}
    head = '--{}\r\nContent-Disposition: form-data; name="{}"; filename="{}"\r\n\r\n'
    parts = (head.format(boundary, name, name).encode() + value + b"\r\n" for name, value in fields.items())
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    return call("POST", f"{rest}/predictions/{model}", token, body=body, kind=kind, timeout=timeout)


def message(answer: bytes) -> str:
    """The message in an answer that is an error: of TorchServe, or of the handler."""
    text = answer.decode("utf-8", errors="replace").strip()
    try:
        found = json.loads(text)
        found = found.get("error", found)
        return str(found["message"])
    except (ValueError, KeyError, AttributeError, TypeError):
        return " ".join(text.split())[:200]


def _picture() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(file, "PNG")
    return file.getvalue()
