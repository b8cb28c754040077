"""Audits as entries of the log."""

from __future__ import annotations

import hashlib
from typing import Any

from google.protobuf import json_format

from ouzel.ledger.recorder import Event
from ouzel_protos.v1 import audit_pb2 as pb

_LARGEST_REQUEST = 32_000  # characters of JSON; an entry has 65,535 bytes
# What the entry does not say of a request: pixels, and texts that may name persons.
_LEFT_OUT = ("image", "mask", "mask_file", "reported", "request_id", "contact", "include_pictures", "include_files")


def event(request: pb.AuditPredictionRequest, answer: pb.PredictionAudit, owner: str) -> Event:
    """What is recorded of an audit of one prediction.

    Args:
        request: The request.
        answer: With its record.
        owner: Who asked.
    """
    salted = {"record": answer.record_sha256}
    if answer.source.kind == pb.AuditSource.CALLABLE:
        salted["source"] = f"{answer.source.name}@{answer.source.version}"
    if request.request_id:
        salted["request_id"] = request.request_id
    return Event("audit", facts(request, answer), images=[answer.image_sha256], owner=owner, salted=salted)


def facts(request: pb.AuditPredictionRequest, answer: pb.PredictionAudit) -> dict[str, Any]:
    """What an entry says of an audit: what was asked, and what came out.

    Of a model of the caller's own, the name and the labels are the caller's texts, and left out.
    """
    agreement, source = answer.agreement, answer.source
    own = source.kind == pb.AuditSource.CALLABLE
    return {
        "request": _request(request, own),
        "source": {
            "kind": pb.AuditSource.Kind.Name(source.kind).lower(),
            "name": "" if own else source.name,
            "version": "" if own else source.version,
            "digest": source.digest,
        },
        "verdict": pb.Verdict.Name(answer.verdict).lower(),
        "concern": answer.concern,
        "claimed": _score(agreement.claimed, own),
        "predicted": _score(agreement.predicted, own),
        "object": {"source": answer.mask_source, "share": answer.object_share},
        "effects": [
            {
                "change": each.change,
                "kind": each.kind,
                "probability": each.probability,
                "control": each.control,
                "effect": each.effect,
            }
            for each in answer.effects
        ],
    }


def _score(score: pb.AuditScore, own: bool) -> dict[str, Any]:
    return {"index": score.index, "label": "" if own else score.label, "probability": score.probability}


def _request(request: pb.AuditPredictionRequest, own: bool) -> dict[str, Any]:
    """What has to be asked again to compute it again; of a long request its digest."""
    kept = pb.AuditPredictionRequest()
    kept.CopyFrom(request)
    for name in (*_LEFT_OUT, "claimed") if own else _LEFT_OUT:
        kept.ClearField(name)
    text = json_format.MessageToJson(kept, indent=None, sort_keys=True, preserving_proto_field_name=True)
    if len(text) > _LARGEST_REQUEST:
        return {"sha256": hashlib.sha256(text.encode()).hexdigest()}
    values: dict[str, Any] = json_format.MessageToDict(kept, preserving_proto_field_name=True)
    return values
