"""From the evidence of an audit to the message of the wire and its record."""

from __future__ import annotations

import hashlib
import io
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from google.protobuf import json_format
from PIL import Image

from ouzel.audit import PredictionEvidence, PredictionOptions, View
from ouzel.audit.evidence import ClassScore, MapEvidence, Outcome
from ouzel.canonical import canonical
from ouzel.errors import FailedPrecondition
from ouzel.precision_names import EXACT
from ouzel_protos import tensors
from ouzel_protos.v1 import audit_pb2 as pb
from ouzel_protos.v1 import explain_pb2

FORM = "ouzel.audit/1"
_SOFTWARE = ("ouzel", "torch", "numpy", "pillow")


@dataclass(frozen=True)
class Audited:
    """What was audited, and how.

    Attributes:
        request: The request.
        image_size: (width, height) of the image, in pixels.
        view: Of the audited model.
        options: In force.
        method: Of the maps, as it was asked for.
        surrogate: "NAME VERSION (DIGEST)" of the model whose maps stand in; "" for none.
    """

    request: pb.AuditPredictionRequest
    image_size: tuple[int, int]
    view: View
    options: PredictionOptions
    method: str
    surrogate: str


def answer(evidence: PredictionEvidence, audited: Audited) -> pb.PredictionAudit:
    """The answer to a request, with its record.

    Raises:
        FailedPrecondition: A map is not finite.
    """
    for each in evidence.maps:
        if not np.isfinite(each.values).all():
            raise FailedPrecondition(f"method: the map {each.of!r} by {each.method} has values that are not finite")
    request, options = audited.request, audited.options
    message = pb.PredictionAudit(
        request_id=request.request_id,
        verdict=evidence.verdict.upper(),
        reason=evidence.reason,
        concern=evidence.concern,
        scene=evidence.scene,
        source=_source(evidence),
        agreement=_agreement(evidence),
        maps_from=evidence.maps_from,
        maps=[_map(each) for each in evidence.maps],
        effects=[pb.AuditEffect(**asdict(each)) for each in evidence.effects],
        mask_source=evidence.mask_source,
        object_share=evidence.object_share,
        limits=evidence.limits,
        options=_options(options),
        image_sha256=hashlib.sha256(request.image).hexdigest(),
        view=_view(audited),
    )
    message.time.FromNanoseconds(time.time_ns())
    if evidence.reported_map is not None:
        message.reported_map.CopyFrom(pb.ReportedMapComparison(**asdict(evidence.reported_map)))
    if request.HasField("reported"):
        message.reported.CopyFrom(request.reported)
        message.reported.ClearField("saliency")
    pictures = {
        "picture": _png(evidence.picture),
        "mask": _png(np.where(evidence.mask, 255, 0).astype(np.uint8)),
        **{each.name: _png(each.picture) for each in evidence.outcomes},
    }
    shown = pictures if request.include_pictures or request.include_files else {}
    message.picture, message.mask = shown.get("picture", b""), shown.get("mask", b"")
    message.counterfactuals.extend(_counterfactual(each, shown.get(each.name, b"")) for each in evidence.outcomes)
    message.record = canonical(_record(evidence, audited, message, pictures))
    message.record_sha256 = hashlib.sha256(message.record).hexdigest()
    return message


def clear_pictures(message: pb.PredictionAudit) -> None:
    """Takes the pictures out of an answer."""
    for field in ("picture", "mask"):
        message.ClearField(field)
    for each in message.counterfactuals:
        each.ClearField("picture")


def _record(
    evidence: PredictionEvidence, audited: Audited, message: pb.PredictionAudit, pictures: dict[str, bytes]
) -> dict[str, Any]:
    """All that was shown, as values of JSON; pictures and maps by their digests."""
    request = audited.request
    claimed = request.claimed
    return evidence.to_dict() | {
        "form": FORM,
        "time": datetime.fromtimestamp(message.time.seconds, UTC).isoformat(),
        "request_id": request.request_id,
        "image": {
            "sha256": message.image_sha256,
            "width": audited.image_size[0],
            "height": audited.image_size[1],
            "view": json_format.MessageToDict(
                message.view, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            ),
            "size": audited.view.size,
            "resize": audited.view.resize,
            "interpolation": audited.view.interpolation,
        },
        "claimed": claimed.label if claimed.HasField("label") else claimed.index,
        "method": audited.method,
        "surrogate": audited.surrogate,
        "dataset": request.dataset,
        "options": asdict(audited.options),
        "given_mask": _given_mask(request),
        "reported": _reported(request, message),
        "sha256": {
            "pictures": {name: hashlib.sha256(data).hexdigest() for name, data in pictures.items()},
            "maps": {each.of: hashlib.sha256(each.values.data).hexdigest() for each in message.maps},
        },
        "software": {name: version(name) for name in _SOFTWARE},
        "precision": EXACT,  # of what was computed here, whatever the model is served in: see `KnownModels`
    }


def _given_mask(request: pb.AuditPredictionRequest) -> dict[str, Any] | None:
    """Where the object is, as the caller said it."""
    if request.boxes:
        return {"boxes": [[each.left, each.top, each.right, each.bottom] for each in request.boxes]}
    data = request.mask_file or request.mask.data
    return {"sha256": hashlib.sha256(data).hexdigest()} if data else None


def _reported(request: pb.AuditPredictionRequest, message: pb.PredictionAudit) -> dict[str, Any] | None:
    if not request.HasField("reported"):
        return None
    values: dict[str, Any] = json_format.MessageToDict(message.reported, preserving_proto_field_name=True)
    if request.reported.HasField("saliency"):
        values["saliency_sha256"] = hashlib.sha256(request.reported.saliency.data).hexdigest()
    return values


def _source(evidence: PredictionEvidence) -> pb.AuditSource:
    source = evidence.source
    return pb.AuditSource(kind=source.kind.upper(), name=source.name, version=source.version, digest=source.digest)


def _agreement(evidence: PredictionEvidence) -> pb.Agreement:
    def score(each: ClassScore) -> pb.AuditScore:
        return pb.AuditScore(index=each.index, label=each.label, probability=each.probability)

    agreement = evidence.agreement
    return pb.Agreement(
        claimed=score(agreement.claimed),
        predicted=score(agreement.predicted),
        rival=score(agreement.rival),
        rank=agreement.rank,
    )


def _map(each: MapEvidence) -> pb.AuditMap:
    return pb.AuditMap(
        of=each.of,
        method=each.method,
        values=tensors.encode(each.values.astype(np.float32, copy=False)),
        caveats=each.caveats,
        share_on_object=each.share_on_object,
        pointing=each.pointing,
        faithfulness=None if each.faithfulness is None else pb.MapFaithfulness(**asdict(each.faithfulness)),
    )


def _counterfactual(each: Outcome, picture: bytes) -> pb.Counterfactual:
    return pb.Counterfactual(
        name=each.name,
        change=each.change,
        kind=each.kind,
        changed_pixels=each.changed_pixels,
        probability=each.probability,
        predicted=each.predicted,
        flipped=each.flipped,
        picture=picture,
    )


def _options(options: PredictionOptions) -> pb.AuditOptions:
    return pb.AuditOptions(
        fills=options.fills,
        scenes=options.scenes,
        steps=options.steps,
        random_orders=options.random_orders,
        effect_margin=options.margins.effect,
        control_margin=options.margins.control,
        seed=options.seed,
    )


def _view(audited: Audited) -> explain_pb2.View:
    width, height = audited.image_size
    left, top, right, bottom = audited.view.rectangle(width, height)
    return explain_pb2.View(image_width=width, image_height=height, left=left, top=top, right=right, bottom=bottom)


def _png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()
