"""Explanations as entries of a log: what was asked, what came out, and enough figures to compare a repetition with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import json_format

from ouzel.errors import FailedPrecondition, InvalidArgument, OuzelError
from ouzel.ledger_folder import VARIABLE
from ouzel.precision_names import EXACT
from ouzel_protos import tensors
from ouzel_protos.v1 import explain_pb2 as pb
from ouzel_protos.v1.ledger_pb2 import LedgerEntry

LARGEST = 2**18  # bytes that an entry and its proof take of an answer, at most
_LARGEST_OPTIONS = 24_000  # characters of JSON; an entry has 65,535 bytes
_PATIENCE = 10.0  # s for publishing; the other rows of the batch wait as well
_CLASSES = 16  # of a segmentation; an entry has room for more, and nobody compares what is a few pixels large
_DETECTIONS = 16  # the same of a detector
_GRID = 4  # a map's means over so many places along each edge
# Records something before an answer leaves. The arguments are those of `ouzel.ledger.recorder.Event`.
Record = Callable[..., LedgerEntry]


def recorder() -> Record | None:
    """What records in the log of $OUZEL_LEDGER; None if it names none. The log is opened with the first entry."""
    folder = os.environ.get(VARIABLE, "")
    if not folder:
        return None
    from ouzel.ledger.recorder import Event, Recorder  # few explanations are recorded

    log = Recorder(Path(folder))

    def record(kind: str, facts: dict[str, Any], **more: Any) -> LedgerEntry:
        entry = log.proven(Event(kind, facts, **more), _PATIENCE)
        assert entry is not None  # there is a folder
        return LedgerEntry(index=entry.index, entry=entry.entry, salt=entry.salt, proof=entry.proof)

    return record


def check(record: Record | None, *, estimate: bool, picture: bool) -> None:
    """Refuses to record what cannot be.

    Args:
        record: What records; None without a log.
        estimate: Whether the answer is the cost alone.
        picture: Whether it is a picture.

    Raises:
        FailedPrecondition: There is no log.
        InvalidArgument: The answer has no room for a proof.
    """
    if record is None:
        raise FailedPrecondition("record: this service keeps no log", field="record")
    if estimate:
        raise InvalidArgument("record: an estimate is not recorded", field="record")
    if picture:
        raise InvalidArgument("record: a picture carries no proof; ask for application/json", field="record")


@dataclass(frozen=True)
class Sent:
    """What a request is about.

    Attributes:
        form: "image" or "tensor".
        sha256: Of its bytes, in hex.
    """

    form: str
    sha256: str


NOTHING = Sent("image", "")


def sent(image: bytes | None, tensor: bytes | None) -> Sent:
    """What a request is about."""
    form, data = ("tensor", tensor) if image is None else ("image", image)
    return Sent(form, hashlib.sha256(data or b"").hexdigest())


def entry(record: Record, options: pb.ExplainOptions, outcome: pb.Explanation | OuzelError, about: Sent) -> LedgerEntry:
    """Makes an answer, or a refusal, an entry of the log.

    Args:
        record: What records.
        options: As they were asked for.
        outcome: The answer, complete but for the entry; or why there is none.
        about: What was sent.

    Raises:
        OuzelError: It is not known to be recorded.
    """
    salted = {"request_id": options.request_id} if options.request_id else {}
    images = [about.sha256] if about.sha256 else []
    if isinstance(outcome, OuzelError):
        return record("refusal", refusal(outcome), images=images, salted=salted | {"message": str(outcome)})
    return record("explanation", facts(options, outcome, about.form), images=images, salted=salted)


def facts(options: pb.ExplainOptions, answer: pb.Explanation, form: str) -> dict[str, Any]:
    """What an entry says of an explanation.

    Args:
        options: As they were asked for.
        answer: Complete but for the entry.
        form: What was sent, "image" or "tensor".

    Returns:
        JSON. Of each map the SHA-256 of its values, and figures that allow for rounding: its norm, and its means over
        4 x 4 places.
    """
    model = {"name": answer.model.name, "version": answer.model.version, "digest": answer.model.weights_digest}
    if answer.model.precision != EXACT:  # an entry that says nothing is of an exact answer
        model["precision"] = answer.model.precision
    facts: dict[str, Any] = {
        "model": model,
        "input": form,
        "options": _options(options),
        "scores": [
            {"index": each.index, "label": each.label, "probability": each.probability, "logit": each.logit}
            for each in answer.scores[:5]
        ],
        "skipped": answer.skipped,
        "maps": [_map(each) for each in answer.saliency],
    }
    if answer.HasField("segmentation"):
        facts["segmentation"] = _segmentation(answer.segmentation)
    if answer.HasField("detected"):
        facts["detected"] = _detected(answer.detected)
    return facts


def _detected(answer: pb.Detected) -> dict[str, Any]:
    """How many were found, and the most probable of those that were answered."""
    return {
        "found": answer.found,
        "answered": len(answer.detections),
        "detections": [
            {"index": each.index, "label": each.label, "score": each.score, "box": _box(each.box)}
            for each in answer.detections[:_DETECTIONS]
        ],
    }


def _box(box: pb.Region.Box) -> list[float]:
    return [box.left, box.top, box.right, box.bottom]


def _segmentation(found: pb.Segmentation) -> dict[str, Any]:
    """The label map by its SHA-256, and the largest classes."""
    return {
        "sha256": hashlib.sha256(found.label_map.data).hexdigest(),
        "shape": list(found.label_map.shape),
        "classes": [
            {"index": each.index, "label": each.label, "area": each.area, "confidence": each.confidence}
            for each in found.classes[:_CLASSES]
        ],
    }


def refusal(error: OuzelError) -> dict[str, Any]:
    """What an entry says of a request that was refused."""
    return {"method": "explain", "code": error.code, "field": error.top_field}


def _options(options: pb.ExplainOptions) -> dict[str, Any]:
    kept = pb.ExplainOptions()
    kept.CopyFrom(options)
    for name in ("request_id", "record", "timeout"):
        kept.ClearField(name)
    if any(
        request.target.region.HasField("mask") or any(each.HasField("tensor") for each in request.parameters.values())
        for request in kept.saliency
    ):
        return {"left_out": "tensors"}  # pixels, perhaps of a person
    text = json_format.MessageToJson(kept, indent=None, sort_keys=True, preserving_proto_field_name=True)
    if len(text) > _LARGEST_OPTIONS:
        return {"sha256": hashlib.sha256(text.encode()).hexdigest()}
    values: dict[str, Any] = json_format.MessageToDict(kept, preserving_proto_field_name=True)
    return values


def _map(each: pb.SaliencyMap) -> dict[str, Any]:
    values = tensors.decode(each.values)
    flat = np.abs(values.astype(np.float64)).reshape(-1, *values.shape[-2:]).mean(0)
    rows = np.array_split(flat, min(_GRID, len(flat)))
    means = [[float(cell.mean()) for cell in np.array_split(row, min(_GRID, flat.shape[1]), axis=1)] for row in rows]
    return {
        "method": each.method,
        "index": each.target.index,
        "minus": each.target.minus_index if each.target.HasField("minus_index") else None,
        **({"region": each.target.region, "area": each.target.region_area} if each.target.region else {}),
        **({"box": _box(each.target.box)} if each.target.HasField("box") else {}),
        "shape": list(values.shape),
        "sha256": hashlib.sha256(each.values.data).hexdigest(),
        "norm": float(np.linalg.norm(values.astype(np.float64))),
        "means": means,
    }
