"""Audits for `testing.FakeServer`: invented figures in the form of real ones. Nothing is computed."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np

from ouzel_client.testing.explain import invented_entry
from ouzel_client.testing.models import FakeModels
from ouzel_protos import classes, tensors
from ouzel_protos.v1 import audit_pb2 as pb
from ouzel_protos.v1 import explain_pb2

_SIZE = (8, 8)
_LARGEST = 4096
_AT_A_TIME = 2
_PROBABILITY = 0.9
_CHANGES = (("rearranged/0", "rearranged", ""), ("background/grass", "background", "texture"))


class FakeAudits:
    """The audits of a fake server.

    Attributes:
        verdict: Of the next audits: "RESTS_ON_OBJECT", "RESTS_ON_BACKGROUND", "DISAGREES" or "INCONCLUSIVE".
        endpoints: The labels of other services by name.
        requests: The requests, in the order of their arrival.
    """

    def __init__(self, models: FakeModels) -> None:
        self._models = models
        self.verdict = "RESTS_ON_OBJECT"
        self.endpoints: dict[str, tuple[str, ...]] = {}
        self.requests: list[pb.AuditPredictionRequest] = []

    def call(self, name: str, request: Any, context: grpc.ServicerContext) -> Any:
        """Answer a method with one answer."""
        if name == "ListAuditSources":
            sources = [
                pb.ListAuditSourcesResponse.Source(name=each, kind="fake", classes=len(labels))
                for each, labels in sorted(self.endpoints.items())
            ]
            return pb.ListAuditSourcesResponse(sources=sources)
        self.requests.append(request)
        source = pb.AuditSource(kind=pb.AuditSource.ENDPOINT, name=request.endpoint)
        labels = self.endpoints.get(request.endpoint)
        if request.model:
            stored = self._models.find(*_parts(request.model))
            labels = None if stored is None else stored[1]
            if stored is not None:
                source = pb.AuditSource(
                    kind=pb.AuditSource.MODEL, name=stored[0].name, version=stored[0].version, digest=stored[0].digest
                )
        if labels is None:
            field = request.WhichOneof("source") or "model"
            context.abort(grpc.StatusCode.NOT_FOUND, f"{field}: no {field} {getattr(request, field)!r}")
        return self._audit(request, source, labels, lambda _: np.full((1, len(labels)), _PROBABILITY), context)

    def stream(self, name: str, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        """Answer AuditReported: it asks about two pictures, once."""
        start = next(requests).start
        self.requests.append(start.request)
        for edge in ("height", "width"):
            if not 0 <= getattr(start, edge) <= _LARGEST:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"start.{edge}: is not within 0..{_LARGEST}")
        shape = (start.height or _SIZE[0], start.width or _SIZE[1], 3)
        pictures = np.zeros((_AT_A_TIME, *shape), np.uint8)
        yield pb.AuditReportedResponse(plan=pb.ReportedPlan(pictures=_AT_A_TIME, at_a_time=_AT_A_TIME, patience=30))
        question = pb.ReportedQuestion(number=1, pictures=tensors.encode(pictures))
        yield pb.AuditReportedResponse(question=question)
        answer = next(requests).answer
        scores = tensors.decode(answer.scores)
        if answer.number != 1 or scores.shape != (_AT_A_TIME, len(start.labels)):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"answer: shape {scores.shape}")
        source = pb.AuditSource(kind=pb.AuditSource.CALLABLE, name=start.name or "predict", version=start.version)
        labels = tuple(start.labels)
        yield pb.AuditReportedResponse(audit=self._audit(start.request, source, labels, lambda _: scores, context))

    def _audit(
        self,
        request: pb.AuditPredictionRequest,
        source: pb.AuditSource,
        labels: tuple[str, ...],
        score: Callable[[None], Any],
        context: grpc.ServicerContext,
    ) -> pb.PredictionAudit:
        named = request.claimed
        text = named.label if named.HasField("label") else f"index:{named.index}"
        readings = {index for meant in classes.readings(labels, text, len(labels)).values() for index in meant}
        if len(readings) != 1:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"claimed: the model has no class {text!r}")
        index = readings.pop()
        rival = 1 if index == 0 else 0
        claimed = pb.AuditScore(index=index, label=labels[index], probability=float(score(None)[0][index]))
        png = _png() if request.include_pictures else b""
        audit = pb.PredictionAudit(
            request_id=request.request_id,
            verdict=self.verdict,
            reason="Invented: nothing was computed.",
            concern=self.verdict in ("DISAGREES", "RESTS_ON_BACKGROUND") and not request.scene,
            scene=request.scene,
            source=source,
            agreement=pb.Agreement(
                claimed=claimed,
                predicted=claimed,
                rival=pb.AuditScore(index=rival, label=labels[rival], probability=0.1),
            ),
            maps_from="nothing",
            maps=[
                pb.AuditMap(of=of, method=request.method or "grad_cam", values=tensors.encode(_values()))
                for of in ("claim", "rival", "contrast")
            ],
            effects=[
                pb.AuditEffect(
                    change="background", kind="texture", probability=0.8, control=0.9, effect=0.1, pictures=1
                )
            ],
            counterfactuals=[
                pb.Counterfactual(
                    name=name, change=change, kind=kind, changed_pixels=32, probability=0.8, predicted=claimed.label,
                    picture=png,
                )
                for name, change, kind in _CHANGES
            ],
            mask_source="boxes" if request.boxes else "mask" if _masked(request) else "nominated",
            object_share=0.5,
            limits=["Invented: nothing was computed."],
            options=request.options,
            image_sha256=hashlib.sha256(request.image).hexdigest(),
            view=explain_pb2.View(image_width=30, image_height=20, right=30, bottom=20),
            picture=png,
            mask=png,
        )  # fmt: skip
        audit.time.GetCurrentTime()
        if request.HasField("reported"):
            audit.reported.CopyFrom(request.reported)
        audit.record = json.dumps({"form": "fake", "verdict": self.verdict.lower()}, separators=(",", ":")).encode()
        audit.record_sha256 = hashlib.sha256(audit.record).hexdigest()
        audit.ledger.CopyFrom(invented_entry("audit", {"verdict": self.verdict.lower()}))
        return audit


def _parts(reference: str) -> tuple[str, str]:
    name, _, version = reference.partition("@")
    return name, version


def _masked(request: pb.AuditPredictionRequest) -> bool:
    return request.HasField("mask") or bool(request.mask_file)


def _values() -> Any:
    return np.linspace(0, 1, _SIZE[0] * _SIZE[1], dtype=np.float32).reshape(_SIZE)


def _png() -> bytes:
    """A grey picture of 8 x 8 pixels, written without Pillow."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    rows, columns = _SIZE
    header = struct.pack("!IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\x80" * 3 * columns) * rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
