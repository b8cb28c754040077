"""The rows of a batch as spans, each below the one of its caller, with the stages of the batch as children."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from ouzel.explain.requests import RawRequest, Reply
from ouzel.explain.stages import STAGES
from ouzel.telemetry import tracing
from ouzel_protos.v1 import explain_pb2 as pb

_NS = 1e6  # of a millisecond


def tell(requests: Sequence[RawRequest], replies: Sequence[Reply], begun: int) -> None:
    """Tells of a batch that is answered; nothing where traces are not wanted.

    Rows without a caller's `traceparent` are not traced: they are warm-up, or their callers do not trace. The stages
    of a batch are told one after the other, as long as each took in all: parts of one may lie between those of others.

    Args:
        requests: As they came.
        replies: Their answers.
        begun: Nanoseconds since the epoch.
    """
    if not tracing.on():
        return
    ended = time.time_ns()
    for request, reply in zip(requests, replies, strict=True):
        if request.trace:
            _row(request.trace, reply.envelope, begun, ended)


def _row(parent: Mapping[str, str], envelope: pb.Explanation, begun: int, ended: int) -> None:
    timing = envelope.timing
    code = pb.Error.Code.Name(envelope.error.code) if envelope.HasField("error") else "OK"
    attributes: dict[str, str | int] = {
        "ouzel.model": envelope.model.name,
        "ouzel.version": envelope.model.version,
        "ouzel.batch_size": timing.batch_size,
        "ouzel.maps": len(envelope.saliency),
        "ouzel.code": code,
    }
    span = tracing.finished("explain", parent=parent, begun=begun, ended=ended, kind="server", attributes=attributes)
    since = begun
    for stage in STAGES:
        took = round(getattr(timing, f"{stage}_ms") * _NS)
        if took:
            tracing.finished(stage, parent=span, begun=since, ended=since + took)
        since += took
