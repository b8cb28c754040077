"""JSON of a service that may be hostile."""

from __future__ import annotations

import json
from typing import Any

from ouzel.endpoints.transport.http import Answer
from ouzel.errors import FailedPrecondition


def read_json(answer: Answer, who: str) -> Any:
    """The document of an answer.

    Args:
        answer: Whose body should be JSON.
        who: The endpoint, for messages.

    Raises:
        FailedPrecondition: It is something else, or names a key twice.
    """
    try:
        return document(answer.body)
    except (ValueError, RecursionError):
        kind = answer.headers.get("content-type", "").split(";")[0].strip().lower()
        page = kind == "text/html" or answer.body.lstrip()[:1] == b"<"
        what = "a page of HTML, not JSON" if page else "something that is not JSON"
        raise FailedPrecondition(f"{who}: answered with {what}") from None


def document(body: bytes) -> Any:
    """The JSON document in these bytes. Raises ValueError or RecursionError if it is none, or names a key twice."""
    return json.loads(body, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key comes twice")
    return content
