"""Audits: from messages of the wire to results."""

from __future__ import annotations

from datetime import UTC
from types import MappingProxyType
from typing import Any, cast

from ouzel_client._codec import ledger
from ouzel_client._pictures.upload import Upload
from ouzel_client._types.audit import AuditEndpoint, PredictionAudit
from ouzel_client._types.audit_evidence import (
    Agreement,
    AuditEffect,
    AuditMap,
    AuditSource,
    ClassScore,
    Counterfactual,
    Faithfulness,
    ReportedMapComparison,
)
from ouzel_client._types.explanation import ResolvedTarget, SaliencyMap, View
from ouzel_client.errors import ServerError
from ouzel_protos import tensors
from ouzel_protos.v1 import audit_pb2 as pb

_OPTIONS = ("scenes", "steps", "random_orders", "effect_margin", "control_margin", "seed")


def prediction_audit(message: pb.PredictionAudit, upload: Upload) -> PredictionAudit:
    """The result of an answer. Raises ServerError if it cannot be read."""
    view = View(
        message.view.image_width,
        message.view.image_height,
        message.view.left,
        message.view.top,
        message.view.right,
        message.view.bottom,
    )
    agreement = Agreement(
        _score(message.agreement.claimed),
        _score(message.agreement.predicted),
        _score(message.agreement.rival),
        message.agreement.rank,
    )
    try:
        maps = tuple(_map(each, agreement, view, upload) for each in message.maps)
    except ValueError as error:
        raise ServerError(f"the answer holds a map that cannot be read: {error}") from error
    return PredictionAudit(
        verdict=cast(Any, pb.Verdict.Name(message.verdict).lower()),
        reason=message.reason,
        concern=message.concern,
        scene=message.scene,
        source=AuditSource(
            cast(Any, pb.AuditSource.Kind.Name(message.source.kind).lower()),
            message.source.name,
            message.source.version,
            message.source.digest,
        ),
        agreement=agreement,
        maps=maps,
        maps_from=message.maps_from,
        effects=tuple(_effect(each) for each in message.effects),
        counterfactuals=tuple(_counterfactual(each) for each in message.counterfactuals),
        mask_source=cast(Any, message.mask_source),
        object_share=message.object_share,
        limits=tuple(message.limits),
        options=MappingProxyType(
            {name: getattr(message.options, name) for name in _OPTIONS} | {"fills": tuple(message.options.fills)}
        ),
        reported_map=_compared(message),
        image_sha256=message.image_sha256,
        view=view,
        record=message.record,
        record_sha256=message.record_sha256,
        time=message.time.ToDatetime(tzinfo=UTC),
        request_id=message.request_id,
        files=MappingProxyType({each.name: each.data for each in message.files}),
        ledger=ledger.entry(message.ledger) if message.HasField("ledger") else None,
        _picture=message.picture,
        _mask=message.mask,
    )


def endpoint(message: pb.ListAuditSourcesResponse.Source) -> AuditEndpoint:
    """An endpoint that audits may name."""
    size = (message.height, message.width) if message.height else None
    return AuditEndpoint(message.name, message.kind, message.classes, size)


def _score(message: pb.AuditScore) -> ClassScore:
    return ClassScore(message.index, message.label, message.probability)


def _map(message: pb.AuditMap, agreement: Agreement, view: View, upload: Upload) -> AuditMap:
    array = tensors.decode(message.values)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"shape {array.shape} is not (H, W)")
    claimed, rival = agreement.claimed, agreement.rival
    target = {
        "rival": ResolvedTarget(rival.index, rival.label),
        "contrast": ResolvedTarget(claimed.index, claimed.label, rival.index, rival.label),
    }.get(message.of, ResolvedTarget(claimed.index, claimed.label))
    low, high = float(array.min()), float(array.max())
    saliency = SaliencyMap(
        method=message.method,
        target=target,
        array=array,
        minimum=low,
        maximum=high,
        reduction="signed_sum" if low < 0 else "max_abs",
        size="model",
        caveats=tuple(message.caveats),
        view=view,
        _upload=upload,
    )
    return AuditMap(
        message.of,
        saliency,
        message.share_on_object if message.HasField("share_on_object") else None,
        message.pointing if message.HasField("pointing") else None,
        _faithfulness(message),
    )


def _faithfulness(message: pb.AuditMap) -> Faithfulness | None:
    if not message.HasField("faithfulness"):
        return None
    figures = message.faithfulness
    return Faithfulness(figures.deletion, figures.insertion, figures.random_deletion, figures.random_insertion)


def _compared(message: pb.PredictionAudit) -> ReportedMapComparison | None:
    if not message.HasField("reported_map"):
        return None
    return ReportedMapComparison(message.reported_map.rank_correlation, message.reported_map.top_overlap)


def _effect(message: pb.AuditEffect) -> AuditEffect:
    return AuditEffect(
        message.change,
        message.kind,
        message.probability,
        message.control,
        message.effect,
        message.flips,
        message.control_flips,
        message.pictures,
    )


def _counterfactual(message: pb.Counterfactual) -> Counterfactual:
    return Counterfactual(
        message.name,
        message.change,
        message.kind,
        message.changed_pixels,
        message.probability,
        message.predicted,
        message.flipped,
        message.picture,
    )
