"""The few REST calls that starting and watching TorchServe needs. Proxies of the environment do not apply."""

from __future__ import annotations

import base64
import http.client
import io
import json
import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

# How a model of other channels than grey and colour refuses a picture; the shape is that of the tensors that it takes.
_TENSORS_ALONE = re.compile(r"only float32 tensors \((\d+), (\d+), (\d+)\)")


class Unreachable(OSError):
    """There was no answer."""


def call(
    method: str,
    url: str,
    token: str,
    *,
    body: bytes = b"",
    kind: str = "",
    timeout: float = 10.0,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """Makes one request.

    Args:
        method: "GET", "POST", "PUT" or "DELETE".
        url: With its query.
        token: Sent as a bearer token.
        body: Of the request.
        kind: Content type of `body`.
        timeout: In seconds.
        headers: Further ones.

    Returns:
        Status and body of the answer.

    Raises:
        Unreachable: There was no answer.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    sent = {"Authorization": f"Bearer {token}"} | ({"Content-Type": kind} if kind else {}) | dict(headers or {})
    try:
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body or None, sent)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{method} {url}: {error}") from error
    finally:
        connection.close()


def workers(management: str, token: str, model: str, version: str = "") -> list[dict[str, Any]]:
    """TorchServe's description of the workers of a model.

    Args:
        management: URL of the management API.
        token: For the management API.
        model: The model's name.
        version: "" is the default one, "all" takes all together.

    Returns:
        One mapping for each worker, with "status" and "pid"; empty if the model is not known.
    """
    status, body = call("GET", f"{management}/models/{model}{version and '/'}{version}", token)
    if status != 200:
        return []
    return [worker for description in json.loads(body) for worker in description["workers"]]


def probe(rest: str, token: str, model: str, timeout: float) -> tuple[int, str]:
    """Makes a real request with a tiny picture, without the work of explaining it.

    Args:
        rest: URL of the inference API.
        token: For the inference API.
        model: "NAME", or "NAME/VERSION".
        timeout: In seconds.

    Returns:
        Status and, if that is not 200, why.
    """
    status, answer = explain(rest, token, model, {"estimate_only": True}, timeout)
    return status, "" if status == 200 else message(answer)


def explain(
    rest: str,
    token: str,
    model: str,
    options: Mapping[str, Any],
    timeout: float,
    *,
    address: Mapping[str, str] = MappingProxyType({}),
) -> tuple[int, bytes]:
    """Makes a real request with a tiny picture.

    Args:
        rest: URL of the inference API.
        token: For the inference API.
        model: "NAME", or "NAME/VERSION".
        options: What to explain, as JSON has it.
        timeout: In seconds.
        address: Further parts, by which a pool knows whom it is asked for.

    Returns:
        Status and body of the answer.
    """
    trial: dict[str, Any] = {"image": base64.b64encode(picture()).decode()}
    more = {"options": options, **address}
    status, answer = _predict(rest, token, model, trial | more, timeout)
    if status == 400 and (match := _TENSORS_ALONE.search(message(answer))):
        shape = [int(size) for size in match.groups()]
        zeros = base64.b64encode(bytes(4 * math.prod(shape))).decode()
        trial = {"tensor": {"dtype": "FLOAT32", "shape": shape, "data": zeros}}
        status, answer = _predict(rest, token, model, trial | more, timeout)
    return status, answer


def _predict(rest: str, token: str, model: str, request: Mapping[str, Any], timeout: float) -> tuple[int, bytes]:
    url, body = f"{rest}/predictions/{model}", json.dumps(request).encode()
    return call("POST", url, token, body=body, kind="application/json", timeout=timeout)


def message(answer: bytes) -> str:
    """The message in an answer that is an error: of TorchServe, or of the handler."""
    text = answer.decode("utf-8", errors="replace").strip()
    try:
        content = json.loads(text)
        content = content.get("error", content)
        return str(content["message"])
    except (ValueError, KeyError, AttributeError, TypeError):
        return " ".join(text.split())[:200]


def picture() -> bytes:
    """A small PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(file, "PNG")
    return file.getvalue()
