"""Requests of the wire, checked."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.duration_pb2 import Duration

from ouzel.checks import one_of, within
from ouzel.errors import InvalidArgument
from ouzel.telemetry import tracing
from ouzel.worker import kinds
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.store.job import NewJob, Query, State
from ouzel_protos.v1 import job_pb2 as pb

_LONGEST_ID = 128
_MOST_LABELS = 32
_MOST_STATES = 32
_LONGEST_LABEL = 128
_LARGEST_SPEC = 2**20  # bytes
_LARGEST = {"audit": 3 * 2**20}  # with the recorded predictions on 20,000 images
_PRIORITIES = (-100, 100)
_DAYS, _MOST_DAYS = 30, 366
_TIMEOUTS = (1.0, 30 * 86_400.0)  # seconds


def new_job(request: pb.CreateJobRequest, catalogue: Catalogue) -> NewJob:
    """Checks a request for a job.

    Args:
        request: The request.
        catalogue: The models as the owner sees them.

    Returns:
        The job to create.

    Raises:
        OuzelError: It can never work. The check may take seconds where a model is new.
    """
    kind = request.spec.WhichOneof("kind") or ""
    module = kinds.find(kind)
    size = request.spec.ByteSize()
    if size > (largest := _LARGEST.get(kind, _LARGEST_SPEC)):
        raise InvalidArgument(f"spec: {size} bytes are more than {largest}", field="spec")
    if len(request.request_id) > _LONGEST_ID or "\0" in request.request_id:
        raise InvalidArgument(
            f"request_id: {request.request_id!r:.40} is not at most {_LONGEST_ID} characters, none of them 0",
            field="request_id",
        )
    for key, longest in tracing.LONGEST.items():
        if len(getattr(request.spec, key)) > longest:
            raise InvalidArgument(f"{key}: has more than {longest} characters", field=key)
    within("priority", request.priority, *_PRIORITIES)
    _check_labels(request.labels)
    timeout = _seconds("max_duration", request.max_duration) if request.HasField("max_duration") else None
    if request.spec.HasField("max_cost"):
        _seconds("spec.max_cost", request.spec.max_cost)
    module.validate(getattr(request.spec, kind), catalogue)
    spec = kinds.pinned(kind, request.spec, catalogue)
    asked = pb.JobSpec()
    asked.CopyFrom(request.spec)
    asked.ClearField("traceparent")  # a request that comes again has another one
    asked.ClearField("tracestate")
    asked.ClearField("scale")  # the worker's own
    asked.ClearField("work_units")
    return NewJob(spec, request.request_id, request.priority, dict(request.labels), timeout, asked=asked)


def usage_days(request: pb.GetUsageRequest) -> int:
    """Checks a request for usage. Raises InvalidArgument."""
    within("days", request.days, 0, _MOST_DAYS)
    return request.days or _DAYS


def query(request: pb.ListJobsRequest) -> Query:
    """Checks a request for a list of jobs. Raises InvalidArgument."""
    known = {int(state) for state in State} - {0}
    within("states", len(request.states), 0, _MOST_STATES, unit="states")
    for number in request.states:
        if number not in known:
            raise InvalidArgument(f"states: {number} is no state", field="states")
    if request.kind:
        one_of("kind", request.kind, kinds.NAMES)
    _check_labels(request.labels)
    states = frozenset(State(number) for number in request.states)
    return Query(states, request.kind, dict(request.labels), request.page_size or 50, request.page_token)


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > _MOST_LABELS:
        raise InvalidArgument(f"labels: {len(labels)} are more than {_MOST_LABELS}", field="labels")
    for name, value in labels.items():
        if not name or max(len(name), len(value)) > _LONGEST_LABEL or "\0" in name + value:
            raise InvalidArgument(
                f"labels: {name!r:.80} or its value is empty or longer than {_LONGEST_LABEL} characters", field="labels"
            )


def _seconds(field: str, message: Duration) -> float:
    seconds = message.seconds + message.nanos / 1e9
    within(field, seconds, *_TIMEOUTS, unit="s")
    return seconds
