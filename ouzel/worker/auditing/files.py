"""Further files that are made of the evidence of an audit, for people and for auditors."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ouzel.audit.report import (
    Case,
    Files,
    Operator,
    article86_page,
    bundle,
    map_files,
    prediction_facts,
    prediction_page,
)
from ouzel_protos.v1 import audit_pb2 as pb

if TYPE_CHECKING:
    from ouzel.audit import PredictionEvidence, PredictionOptions

_HTML, _PNG = "text/html; charset=utf-8", "image/png"


def further_files(
    evidence: PredictionEvidence, options: PredictionOptions, answer: pb.PredictionAudit, contact: pb.AuditContact
) -> list[pb.AuditFile]:
    """Makes the files that an answer carries besides its pictures.

    Args:
        evidence: Of the audit.
        options: In force.
        answer: With all pictures, and everything but these files; `answer.record` is final.
        contact: Whom the person concerned may ask.

    Returns:
        `page.html`; `article86.html`, for the person concerned; and `bundle.zip`, for auditors, which holds the record,
        the pictures and the pages.
    """
    reported = answer.reported
    case = Case(
        digest=answer.image_sha256,
        service=" ".join(filter(None, (reported.model, reported.version))),
        decided=reported.time.ToDatetime(tzinfo=UTC) if reported.HasField("time") else None,
        audited=datetime.fromtimestamp(answer.time.seconds, UTC),
        options=options,
        operator=Operator(contact.organisation, contact.contact),
    )
    page = prediction_page(evidence, case, record=answer.record_sha256).encode()
    person = article86_page(evidence, case).encode()
    whole: Files = {
        "record.json": ("application/json", answer.record),
        "page.html": (_HTML, page),
        "article86.html": (_HTML, person),
        "picture.png": (_PNG, answer.picture),
        "mask.png": (_PNG, answer.mask),
        **map_files(evidence),
    }
    for number, changed in enumerate(answer.counterfactuals):
        whole[f"counterfactuals/{number:03}.png"] = (_PNG, changed.picture)
    archive = bundle(whole, prediction_facts(evidence, case))
    return [
        pb.AuditFile(name="page.html", media_type=_HTML, data=page),
        pb.AuditFile(name="article86.html", media_type=_HTML, data=person),
        pb.AuditFile(name="bundle.zip", media_type="application/zip", data=archive),
    ]
