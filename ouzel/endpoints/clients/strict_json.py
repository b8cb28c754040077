"""JSON of a service that may be hostile."""

from __future__ import annotations

import json
from typing import Any

from ouzel.bounded_json import elements
from ouzel.endpoints.transport.http import Answer
from ouzel.errors import FailedPrecondition

MOST = 5_000_000  # elements of a document: 32 pictures of 3 x 224 x 224 as numbers
NOT_READ = f"is not JSON, names a key twice, or has more than {MOST} values and members"


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
        what = "a page of HTML, not JSON" if page else f"something that {NOT_READ}"
        raise FailedPrecondition(f"{who}: answered with {what}") from None


def document(body: bytes) -> Any:
    """The JSON document in these bytes.

    Raises:
        ValueError: It is no JSON, names a key twice, or has more than `MOST` elements.
        RecursionError: It is nested too deeply.
    """
    if elements(body, MOST) > MOST:
        raise ValueError(f"more than {MOST} values and members")
    return json.loads(body, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key comes twice")
    return content
