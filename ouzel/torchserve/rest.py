"""The few REST calls that starting and watching TorchServe needs. Proxies of the environment do not apply."""

from __future__ import annotations

import base64
import http.client
import io
import json
import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

# How a model of other channels than grey and colour refuses a picture; the shape is that of the tensors that it takes.
_TENSORS_ALONE = re.compile(r"only float32 tensors \((\d+), (\d+), (\d+)\)")


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
    trial: dict[str, Any] = {"image": base64.b64encode(_picture()).decode()}
    status, answer = _predict(rest, token, model, trial | {"options": options}, timeout)
    if status == 400 and (found := _TENSORS_ALONE.search(message(answer))):
        shape = [int(size) for size in found.groups()]
        zeros = base64.b64encode(bytes(4 * math.prod(shape))).decode()
        trial = {"tensor": {"dtype": "FLOAT32", "shape": shape, "data": zeros}}
        status, answer = _predict(rest, token, model, trial | {"options": options}, timeout)
    return status, answer


def _predict(rest: str, token: str, model: str, request: Mapping[str, Any], timeout: float) -> tuple[int, bytes]:
    url, body = f"{rest}/predictions/{model}", json.dumps(request).encode()
    return call("POST", url, token, body=body, kind="application/json", timeout=timeout)


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
