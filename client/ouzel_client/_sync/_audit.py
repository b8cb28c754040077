# Generated from _async/_audit.py by scripts/unasync.py (`make sync`). Do not edit.
# ruff: noqa: I001, SIM117, RUF100
# fmt: off
"""Audits of predictions: of a model, of another service, or of a function of the caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack, overload

from ouzel_client._sync._transport import Transport
from ouzel_client._codec import audit_results, audits
from ouzel_client._codec.audits import SERVICE, About
from ouzel_client._codec.images import ImageInput
from ouzel_client._codec.message import made
from ouzel_client._codec.options import text
from ouzel_client._pictures.upload import Upload
from ouzel_client._transport import grpc_sync as backend
from ouzel_client._transport.options import checked_timeout
from ouzel_client._types.audit import AuditArguments, AuditEndpoint, Predict, PredictionAudit
from ouzel_client._types.saliency import Class
from ouzel_client.errors import InvalidArgument, ServerError
from ouzel_protos import tensors
from ouzel_protos.v1 import audit_pb2 as pb

_SECONDS = 120.0
_PER_IMAGE = ("mask", "boxes", "reported")
_SOURCES = ("model", "endpoint", "predict")
_OF_PREDICT = ("labels", "size", "resize", "name", "version")


class Audit:
    """Audits predictions. Call it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @overload
    def __call__(
        self,
        image: list[ImageInput] | tuple[ImageInput, ...],
        *,
        claimed: Class | Sequence[Class],
        **arguments: Unpack[AuditArguments],
    ) -> list[PredictionAudit]: ...

    @overload
    def __call__(
        self, image: ImageInput, *, claimed: Class, **arguments: Unpack[AuditArguments]
    ) -> PredictionAudit: ...

    def __call__(
        self,
        image: ImageInput | list[ImageInput] | tuple[ImageInput, ...],
        *,
        claimed: Class | Sequence[Class],
        **arguments: Unpack[AuditArguments],
    ) -> PredictionAudit | list[PredictionAudit]:
        """Audit whether a prediction rests on the object, or on what is behind it.

        Args:
            image: A path or the bytes of a PNG, JPEG or WebP file, a PIL image, or an array uint8 (H, W, 3) or (H, W).
                A list of these gives a list of results, one after the other; for thousands there are jobs.
            claimed: The class that was claimed: its label, or its index. With a list of images one, or a list.
            **arguments: See `AuditArguments`. One of `model`, `endpoint` and `predict` says whose prediction it is.

        Returns:
            The evidence, with a verdict; a list for a list.

        Raises:
            OuzelError: The tree of errors is at the top of `ouzel_client.errors`. What `predict` raises is raised.
        """
        named: dict[str, Any] = dict(arguments)
        per_image = {name: named.pop(name, None) for name in _PER_IMAGE}
        if isinstance(image, list | tuple):
            each = audits.each_about(image, claimed, per_image)
            return [self._audit(about, dict(named)) for about in each]
        if not isinstance(claimed, str | int):
            raise InvalidArgument(f"claimed: {claimed!r:.80} is neither a label nor an index", field="claimed")
        per_image = {name: value for name, value in per_image.items() if value is not None}
        return self._audit(About(image, claimed, **per_image), named)

    def sources(self) -> tuple[AuditEndpoint, ...]:
        """The other services that the worker's operator has registered, by name."""
        answer = self._transport.call(
            SERVICE + "ListAuditSources", pb.ListAuditSourcesRequest(), pb.ListAuditSourcesResponse
        )
        return tuple(audit_results.endpoint(each) for each in answer.sources)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(of {self._transport})"

    def _audit(self, about: About, arguments: dict[str, Any]) -> PredictionAudit:
        given = [name for name in _SOURCES if arguments.get(name) not in (None, "")]
        if len(given) != 1:
            several = f", not {' and '.join(given)}" if given else ""
            raise InvalidArgument(f"model: give one of {', '.join(_SOURCES)}{several}", field=(given or _SOURCES)[0])
        timeout = checked_timeout(arguments.pop("timeout", None) or _SECONDS)
        source: Any = {name: arguments.pop(name, None) for name in _SOURCES}[given[0]]
        predictor = {name: arguments.pop(name) for name in _OF_PREDICT if name in arguments}
        if predictor and given[0] != "predict":
            name = next(iter(predictor))
            raise InvalidArgument(f"{name}: belongs to predict", field=name)
        limit = self._transport.options.max_request_bytes
        request, upload = backend.run(_request, about, limit, arguments)
        if given[0] == "predict":
            if not callable(source):
                raise InvalidArgument(f"predict: {source!r:.80} cannot be called", field="predict")
            return self._reported(request, upload, source, predictor, timeout)
        setattr(request, given[0], text(source, given[0]))
        answer = self._transport.call(SERVICE + "AuditPrediction", request, pb.PredictionAudit, timeout)
        return audit_results.prediction_audit(answer, upload)

    def _reported(
        self,
        request: pb.AuditPredictionRequest,
        upload: Upload,
        predict: Predict,
        predictor: dict[str, Any],
        timeout: float,
    ) -> PredictionAudit:
        """A conversation: the worker sends pictures, and the caller's function answers them."""
        start = audits.start(request, **predictor)
        conversation = self._transport.converse(SERVICE + "AuditReported", pb.AuditReportedResponse, timeout)
        try:
            conversation.send(pb.AuditReportedRequest(start=start))
            while (response := conversation.receive()) is not None:
                if response.HasField("audit"):
                    return audit_results.prediction_audit(response.audit, upload)
                if response.HasField("question"):
                    pictures = tensors.decode(response.question.pictures)
                    scores = backend.run(_scores, predict, pictures, len(start.labels))
                    answer = made(pb.ReportedAnswer, number=response.question.number, scores=tensors.encode(scores))
                    conversation.send(pb.AuditReportedRequest(answer=answer))
        finally:
            conversation.close()
        raise ServerError("the worker ended without an answer")


def _request(about: About, limit: int, arguments: dict[str, Any]) -> tuple[pb.AuditPredictionRequest, Upload]:
    message, upload = audits.request(about, limit=limit, **arguments)
    audits.check_size(message)
    return message, upload


def _scores(predict: Predict, pictures: Any, classes: int) -> Any:
    return audits.answered(predict(pictures), len(pictures), classes)
