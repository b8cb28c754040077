"""Envelopes of the engine as what they tell: answers, or errors."""

from __future__ import annotations

from collections.abc import Sequence

from ouzel.errors import OuzelError, kind_of
from ouzel_protos.v1 import explain_pb2 as pb


def check_answers(answers: Sequence[pb.Explanation]) -> None:
    """Raises the error of the first row that has one; of several rows, it says which."""
    for number, answer in enumerate(answers):
        if answer.HasField("error"):
            where = f"row {number}: " if len(answers) > 1 else ""
            raise _error_of(answer.error, where)


def _error_of(error: pb.Error, where: str) -> OuzelError:
    """The exception of an error that an envelope carries."""
    code = pb.Error.Code.Name(error.code)
    return kind_of(code, error.http_status)(f"{where}{error.message}", field=error.field)
