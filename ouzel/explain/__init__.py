"""One request in, one envelope out: the explain service, free of any server.

`ExplainService.answer` takes the raw rows of a batch and returns one `Explanation` message per row, each with a result
or an error. The TorchServe handler is a thin adapter over it. What reads requests does without torch, which is loaded
with the first use of `ExplainService`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ouzel.explain.accept import JSON, PNG, PROTOBUF, negotiate
from ouzel.explain.forms import header_text
from ouzel.explain.forms import read as read_row
from ouzel.explain.limits import Limits
from ouzel.explain.recording import recorder
from ouzel.explain.requests import RawRequest, Reply
from ouzel.explain.stages import STAGES

if TYPE_CHECKING:
    from ouzel.explain.service import ExplainService

__all__ = [
    "JSON",
    "PNG",
    "PROTOBUF",
    "STAGES",
    "ExplainService",
    "Limits",
    "RawRequest",
    "Reply",
    "header_text",
    "negotiate",
    "read_row",
    "recorder",
]


def __getattr__(name: str) -> Any:
    if name == "ExplainService":
        from ouzel.explain.service import ExplainService

        return ExplainService
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
