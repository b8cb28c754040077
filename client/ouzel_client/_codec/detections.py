"""Detections from messages of the wire."""

from __future__ import annotations

from ouzel_client._pictures.upload import Upload
from ouzel_client._types.detection import Detection, Detections
from ouzel_client._types.regions import Box
from ouzel_protos.v1 import explain_pb2 as pb


def detections(answer: pb.Explanation, upload: Upload) -> Detections | None:
    """What a detector found; None of another model."""
    if not answer.HasField("detected"):
        return None
    found = tuple(Detection(box(one.box), one.index, one.label, one.score) for one in answer.detected.detections)
    return Detections(found, answer.detected.found, (answer.view.image_width, answer.view.image_height), upload)


def box(message: pb.Region.Box) -> Box:
    """A box."""
    return Box(message.left, message.top, message.right, message.bottom)
