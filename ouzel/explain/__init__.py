"""One request in, one envelope out: the explain service, free of any server.

`ExplainService.answer` takes the raw rows of a batch and returns one `Explanation` message per row, each with a result
or an error. The TorchServe handler is a thin adapter over it.
"""

from ouzel.explain.accept import JSON, PNG, PROTOBUF, negotiate
from ouzel.explain.forms import read as read_row
from ouzel.explain.limits import Limits
from ouzel.explain.recording import recorder
from ouzel.explain.requests import RawRequest, Reply
from ouzel.explain.service import ExplainService
from ouzel.explain.stages import STAGES

__all__ = [
    "JSON",
    "PNG",
    "PROTOBUF",
    "STAGES",
    "ExplainService",
    "Limits",
    "RawRequest",
    "Reply",
    "negotiate",
    "read_row",
    "recorder",
]
