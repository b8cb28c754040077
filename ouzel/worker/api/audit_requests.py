"""Requests for audits, checked as far as that needs no torch."""

from __future__ import annotations

from collections.abc import Collection

from ouzel.checks import did_you_mean, one_of
from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound
from ouzel.task_names import CLASSIFICATION, need_task
from ouzel.worker.auditing.task import Archive, Task
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.datasets.store import Datasets
from ouzel.worker.kinds.audit import check_contact
from ouzel_protos.methods import METHODS
from ouzel_protos.text import LONGEST_LABEL, is_label, shown
from ouzel_protos.v1 import audit_pb2 as pb

LARGEST_REQUEST = 32 * 2**20  # bytes: an image, a mask of pixels and a map of floats
LARGEST_ANSWER = 63 * 2**20
_LARGEST_IMAGE = 6_553_500  # bytes, as explain takes them
_MOST_BOXES = 1000
_MOST_SCORES = 1000
_LONGEST_ID = 128  # characters
_LONGEST_NAME = 200
_LABELS = (2, 100_000)
_TIMES = (-62_135_596_800, 253_402_300_799)  # of google.protobuf.Timestamp


def task_of(
    request: pb.AuditPredictionRequest,
    catalogue: Catalogue,
    datasets: Datasets,
    owner: str,
    *,
    endpoints: Collection[str] | None,
) -> Task:
    """Checks a request, and finds its models.

    Args:
        request: The request.
        catalogue: The models as the owner sees them.
        datasets: The data sets.
        owner: Who calls.
        endpoints: Names of those that callers may name; None where the caller answers itself, and no source is named.

    Returns:
        What the process that audits must know.

    Raises:
        OuzelError: The request can never work.
    """
    _check_image(request)
    _check_texts(request)
    if request.claimed.WhichOneof("kind") is None:
        raise InvalidArgument("claimed: missing; name the class that was claimed", field="claimed")
    _check_region(request)
    check_contact(request.contact)
    if request.method:
        one_of("method", request.method, METHODS)
    source = request.WhichOneof("source")
    if endpoints is None and source is not None:
        raise InvalidArgument(f"{source}: must be absent where the caller answers", field=source)
    if endpoints is not None and not getattr(request, source or "model"):
        raise InvalidArgument("model: missing; name a model or an endpoint", field="model")
    if source == "endpoint" and request.endpoint not in (endpoints or ()):
        known = ", ".join(sorted(endpoints or ())) or "nothing"
        hint = did_you_mean(request.endpoint, endpoints or ())
        raise NotFound(
            f"endpoint: no endpoint {shown(request.endpoint, 80)}{hint}; there is {known:.400}", field="endpoint"
        )
    if request.dataset:
        datasets.get(owner, request.dataset)
    return Task(
        owner,
        _archive(catalogue, request.model, "model"),
        _archive(catalogue, request.surrogate, "surrogate"),
    )


def checked_start(part: pb.AuditReportedRequest) -> pb.ReportedStart:
    """The first message of a caller who answers itself. Raises InvalidArgument."""
    start = part.start
    for name in ("name", "version"):
        if len(getattr(start, name)) > _LONGEST_NAME:
            raise InvalidArgument(f"{name}: is longer than {_LONGEST_NAME} characters", field=name)
    if not _LABELS[0] <= len(start.labels) <= _LABELS[1]:
        raise InvalidArgument(f"labels: {len(start.labels)} is not within {_LABELS[0]}..{_LABELS[1]}", field="labels")
    seen: set[str] = set()
    for number, label in enumerate(start.labels):
        where = f"labels[{number}]"
        if label in seen:
            raise InvalidArgument(f"{where}: {shown(label, 80)} is the label of another class already", field=where)
        seen.add(label)
        if not is_label(label):
            raise InvalidArgument(
                f"{where}: {shown(label, 80)} is not a line of 1 to {LONGEST_LABEL} characters", field=where
            )
    return start


def _check_image(request: pb.AuditPredictionRequest) -> None:
    if not request.image:
        raise InvalidArgument("image: missing; send PNG, JPEG or WebP bytes", field="image")
    for name in ("image", "mask_file"):
        if (size := len(getattr(request, name))) > _LARGEST_IMAGE:
            raise InvalidArgument(f"{name}: {size} bytes are more than {_LARGEST_IMAGE}", field=name)


def _check_texts(request: pb.AuditPredictionRequest) -> None:
    if len(request.request_id) > _LONGEST_ID:
        raise InvalidArgument(f"request_id: is longer than {_LONGEST_ID} characters", field="request_id")
    reported = request.reported
    for name in ("model", "version"):
        if len(getattr(reported, name)) > _LONGEST_NAME:
            raise InvalidArgument(
                f"reported.{name}: is longer than {_LONGEST_NAME} characters", field=f"reported.{name}"
            )
    if len(reported.scores) > _MOST_SCORES:
        raise InvalidArgument(
            f"reported.scores: {len(reported.scores)} are more than {_MOST_SCORES}", field="reported.scores"
        )
    time = reported.time
    if not (_TIMES[0] <= time.seconds <= _TIMES[1] and 0 <= time.nanos < 10**9):
        raise InvalidArgument(
            f"reported.time: {time.seconds} s is not a time of the years 1 to 9999", field="reported.time"
        )
    for number, score in enumerate(reported.scores):
        where = f"reported.scores[{number}]"
        if not is_label(score.label):
            raise InvalidArgument(
                f"{where}.label: {shown(score.label, 80)} is not a line of 1 to {LONGEST_LABEL} characters",
                field=f"{where}.label",
            )
        if not 0 <= score.probability <= 1:
            raise InvalidArgument(
                f"{where}.probability: {score.probability:g} is not within 0..1", field=f"{where}.probability"
            )


def _check_region(request: pb.AuditPredictionRequest) -> None:
    if len(request.boxes) > _MOST_BOXES:
        raise InvalidArgument(f"boxes: {len(request.boxes)} are more than {_MOST_BOXES}", field="boxes")
    given = [
        name
        for name, there in (
            ("mask", request.HasField("mask")),
            ("mask_file", bool(request.mask_file)),
            ("boxes", bool(request.boxes)),
        )
        if there
    ]
    if len(given) > 1:
        raise InvalidArgument(f"{given[1]}: give one of {', '.join(given)}, not several", field=given[1])


def _archive(catalogue: Catalogue, reference: str, field: str) -> Archive | None:
    if not reference:
        return None
    file = catalogue.file(reference, field)
    if file.error:
        raise FailedPrecondition(f"{field}: {reference!r:.80} cannot be used: {file.error:.400}", field=field)
    need_task(file.task, CLASSIFICATION, "audits", file.name, field)
    try:
        changed = file.path.stat().st_mtime_ns
    except FileNotFoundError:
        raise NotFound(f"{field}: {reference!r:.80} was removed just now", field=field) from None
    return Archive(str(file.path.absolute()), file.digest, changed)
