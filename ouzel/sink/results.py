"""From the worker's answer to what a data-set audit keeps of an image, so that the same statistics can be made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from ouzel.audit.counterfactuals import LARGEST, SMALLEST, Change
from ouzel.audit.dataset.flips import flips, weight
from ouzel.audit.dataset.rows import ImageRow
from ouzel.audit.evidence import Effect, MaskSource, Outcome, Verdict
from ouzel.errors import FailedPrecondition
from ouzel_protos.v1 import audit_pb2 as pb

_NO_PICTURE = np.zeros((0, 0, 3), np.uint8)


def row_of(answer: pb.PredictionAudit, name: str, service: str, time: str, *, nominated: bool) -> ImageRow:
    """The row of a pair.

    Args:
        answer: Of the worker.
        name: Id of the pair.
        service: That predicted.
        time: When its first half came, in ISO 8601.
        nominated: Whether regions that a map marks count as known.
    """
    verdict = pb.Verdict.Name(answer.verdict).lower()
    agreement, effects = answer.agreement, _effects(answer.effects)
    agrees, known = agreement.rank == 0, nominated or answer.mask_source in ("mask", "boxes")
    tested = known and SMALLEST <= answer.object_share <= LARGEST
    return ImageRow(
        name=name,
        claimed=agreement.claimed.label,
        predicted=agreement.predicted.label,
        agrees=agrees,
        probability=agreement.claimed.probability,
        verdict=cast(Verdict, verdict),
        reason=answer.reason,
        concern=answer.concern,
        evidence=weight(effects) if agrees and known else 0.0,
        mask_source=cast(MaskSource, answer.mask_source),
        object_share=answer.object_share,
        flips=flips(_outcomes(answer.counterfactuals)) if tested else None,
        service=service,
        time=time,
    )


def refused(name: str, claimed: str, service: str, time: str, reason: str) -> ImageRow:
    """The row of a pair whose prediction is known, and which could not be audited."""
    return ImageRow(name, claimed, verdict="refused", reason=reason, service=service, time=time)


def check_seen(answer: pb.PredictionAudit) -> None:
    """Refuses an answer about a part of the tensor: the service saw all of it. Raises FailedPrecondition."""
    view = answer.view
    whole = (view.left, view.top, view.right, view.bottom) == (0, 0, view.image_width, view.image_height)
    if not whole:
        raise FailedPrecondition(
            "the audited model crops what it is shown, but the tensor of the stream is what the service saw: audit an "
            "endpoint without `resize`, or a model that does not crop"
        )


def _effects(effects: Sequence[pb.AuditEffect]) -> tuple[Effect, ...]:
    return tuple(
        Effect(
            cast(Change, each.change),
            each.kind,
            each.probability,
            each.control,
            each.effect,
            each.flips,
            each.control_flips,
            each.pictures,
        )
        for each in effects
    )


def _outcomes(some: Sequence[pb.Counterfactual]) -> tuple[Outcome, ...]:
    return tuple(
        Outcome(
            each.name,
            cast(Change, each.change),
            each.kind,
            each.changed_pixels,
            each.probability,
            each.predicted,
            each.flipped,
            _NO_PICTURE,
        )
        for each in some
    )
