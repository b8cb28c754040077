"""From envelopes of the engine to tensors of the protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ouzel.errors import OuzelError
from ouzel.gateway.answers import check_answers
from ouzel.gateway.engine import Description
from ouzel.gateway.oip import metadata
from ouzel.gateway.oip.rows import Ask
from ouzel.gateway.oip.tensors import OutputTensor
from ouzel_protos import tensors
from ouzel_protos.v1 import explain_pb2 as pb


def outputs(asked: Ask, answers: Sequence[pb.Explanation], model: Description) -> list[OutputTensor]:
    """The tensors that were asked for, in their order.

    Args:
        asked: The request.
        answers: One envelope per row.
        model: That answered.

    Raises:
        OuzelError: The error of a row: an answer of tensors has no place for it.
    """
    check_answers(answers)
    made: list[OutputTensor] = []
    for name in asked.outputs:
        if model.detects and name != metadata.SALIENCY:
            made.append(_detections(name, answers))
        elif (count := asked.classification.get(name)) is not None:
            made.append(_classification(name, answers, count))
        else:
            made.append(_MAKERS[name](name, asked, answers, model))
    return made


def _of_all_classes(name: str, _asked: Ask, answers: Sequence[pb.Explanation], model: Description) -> OutputTensor:
    values = np.full((len(answers), len(model.labels)), np.nan, np.float32)
    for row, answer in zip(values, answers, strict=True):
        for score in answer.scores:
            if not 0 <= score.index < len(row):
                raise OuzelError("the answer has other classes than the model's description")
            row[score.index] = _value(name, score)
    if np.isnan(values).any():
        raise OuzelError("the answer does not hold a finite score of each class")
    return OutputTensor(name, "FP32", values.shape, values)


def _classification(name: str, answers: Sequence[pb.Explanation], count: int) -> OutputTensor:
    """The best classes as Triton writes them: "value:index:label"."""
    elements = [
        f"{_value(name, score):f}:{score.index}:{score.label}".encode()
        for answer in answers
        for score in answer.scores[:count]
    ]
    return OutputTensor(name, "BYTES", (len(answers), count), elements)


def _value(name: str, score: pb.Score) -> float:
    return score.probability if name == metadata.SCORES else score.logit


def _labels(name: str, asked: Ask, answers: Sequence[pb.Explanation], _model: Description) -> OutputTensor:
    elements = [score.label.encode() for answer in answers for score in answer.scores[: asked.top_k]]
    return OutputTensor(name, "BYTES", (len(answers), asked.top_k), elements)


def _classes(name: str, asked: Ask, answers: Sequence[pb.Explanation], _model: Description) -> OutputTensor:
    values = np.array([[score.index for score in answer.scores[: asked.top_k]] for answer in answers], np.int32)
    return OutputTensor(name, "INT32", values.shape, values)


def _saliency(name: str, _asked: Ask, answers: Sequence[pb.Explanation], _model: Description) -> OutputTensor:
    values: npt.NDArray[np.float32] = np.stack([tensors.decode(answer.saliency[0].values) for answer in answers])
    return OutputTensor(name, "FP32", values.shape, values)


def _faithfulness(name: str, _asked: Ask, answers: Sequence[pb.Explanation], _model: Description) -> OutputTensor:
    measures = [answer.saliency[0].measures for answer in answers]
    values = np.array([[each["deletion"], each["insertion"]] for each in measures], np.float32)
    return OutputTensor(name, "FP32", values.shape, values)


def _label_map(name: str, _asked: Ask, answers: Sequence[pb.Explanation], _model: Description) -> OutputTensor:
    values: npt.NDArray[np.uint8] = np.stack([tensors.decode(answer.segmentation.label_map) for answer in answers])
    return OutputTensor(name, "UINT8", values.shape, values)


def _of_regions(name: str, _asked: Ask, answers: Sequence[pb.Explanation], model: Description) -> OutputTensor:
    """Of all classes; 0 of those that have no pixel."""
    values = np.zeros((len(answers), len(model.labels)), np.float32)
    for row, answer in zip(values, answers, strict=True):
        for each in answer.segmentation.classes:
            if not 0 <= each.index < len(row):
                raise OuzelError("the answer has other classes than the model's description")
            row[each.index] = each.area if name == metadata.AREAS else each.confidence
    return OutputTensor(name, "FP32", values.shape, values)


def _detections(name: str, answers: Sequence[pb.Explanation]) -> OutputTensor:
    """Of each row's detections, filled up to as many as the row with the most has."""
    if not all(answer.HasField("detected") for answer in answers):
        raise OuzelError("the answer holds no detections, although the model is described as a detector")
    rows = [answer.detected.detections for answer in answers]
    if name == metadata.COUNTS:
        counts = np.array([len(row) for row in rows], np.int32)
        return OutputTensor(name, "INT32", counts.shape, counts)
    most = max(map(len, rows))
    if name == metadata.LABELS:
        texts = [row[place].label.encode() if place < len(row) else b"" for row in rows for place in range(most)]
        return OutputTensor(name, "BYTES", (len(rows), most), texts)
    if name == metadata.CLASSES:
        classes = np.full((len(rows), most), -1, np.int32)
        for line, row in zip(classes, rows, strict=True):
            line[: len(row)] = [each.index for each in row]
        return OutputTensor(name, "INT32", classes.shape, classes)
    values = np.zeros((len(rows), most, 4) if name == metadata.BOXES else (len(rows), most), np.float32)
    for line, row in zip(values, rows, strict=True):
        for place, each in enumerate(row):
            box = each.box
            line[place] = (box.left, box.top, box.right, box.bottom) if name == metadata.BOXES else each.score
    return OutputTensor(name, "FP32", values.shape, values)


_Maker = Callable[[str, Ask, Sequence[pb.Explanation], Description], OutputTensor]
_MAKERS: Mapping[str, _Maker] = {
    metadata.SCORES: _of_all_classes,
    metadata.LOGITS: _of_all_classes,
    metadata.LABELS: _labels,
    metadata.CLASSES: _classes,
    metadata.LABEL_MAP: _label_map,
    metadata.AREAS: _of_regions,
    metadata.CONFIDENCES: _of_regions,
    metadata.SALIENCY: _saliency,
    metadata.FAITHFULNESS: _faithfulness,
}
