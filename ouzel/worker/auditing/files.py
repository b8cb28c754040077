"""Further files that are made of the evidence of an audit, for people and for auditors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ouzel_protos.v1 import audit_pb2 as pb

if TYPE_CHECKING:
    from ouzel.audit import PredictionEvidence


def further_files(evidence: PredictionEvidence, answer: pb.PredictionAudit) -> list[pb.AuditFile]:
    """Makes the files that an answer carries besides its pictures.

    Args:
        evidence: Of the audit.
        answer: With everything but these files; `answer.record` is final.

    Returns:
        None so far: pages and bundles belong here.
    """
    return []
