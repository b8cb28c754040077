"""What the protocol says of a model: its inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass

import ouzel
from ouzel.gateway.engine import Description

IMAGE, INPUT = "image", "input"
SCORES, LOGITS, LABELS, CLASSES = "scores", "logits", "labels", "classes"
SALIENCY, FAITHFULNESS = "saliency", "faithfulness"
BOXES, COUNTS = "boxes", "counts"
LABEL_MAP, AREAS, CONFIDENCES = "label_map", "areas", "confidences"
SERVER = "ouzel"
EXTENSIONS = ("binary_tensor_data", "classification", "model_repository(index)", "model_configuration", "statistics")


@dataclass(frozen=True)
class TensorSpec:
    """A tensor as metadata tell it; -1 is any extent."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def version() -> str:
    """Of the server."""
    return ouzel.__version__


def inputs(model: Description) -> list[TensorSpec]:
    """What the model takes: one of these, for one row or several."""
    image = [TensorSpec(IMAGE, "BYTES", (-1,))] if model.takes_images else []
    return [*image, TensorSpec(INPUT, "FP32", (-1, *model.input_shape))]


def outputs(model: Description) -> list[TensorSpec]:
    """What it answers, as asked.

    `scores` and `logits` are of all classes in their order, `labels` and `classes` of the best ones (`top_k`). A
    segmentation model has none of these: `label_map` is the class of each pixel, `areas` and `confidences` are of all
    classes in their order.

    A detector has `boxes` (left, top, right, bottom, in pixels of the image), `scores`, `labels` and `classes` of its
    detections, the most probable first, and `counts`, how many each row has: rows with fewer than others are filled up
    with boxes and scores of 0, empty labels and class -1.

    `saliency` is one map per row, `faithfulness` the areas under its deletion and its insertion curve.
    """
    _, height, width = model.input_shape
    classes = len(model.labels)
    maps = [TensorSpec(SALIENCY, "FP32", (-1, height, width)), TensorSpec(FAITHFULNESS, "FP32", (-1, 2))]
    if model.segments:
        return [
            TensorSpec(LABEL_MAP, "UINT8", (-1, height, width)),
            TensorSpec(AREAS, "FP32", (-1, classes)),
            TensorSpec(CONFIDENCES, "FP32", (-1, classes)),
            *maps,
        ]
    if model.detects:
        return [
            TensorSpec(BOXES, "FP32", (-1, -1, 4)),
            TensorSpec(SCORES, "FP32", (-1, -1)),
            TensorSpec(LABELS, "BYTES", (-1, -1)),
            TensorSpec(CLASSES, "INT32", (-1, -1)),
            TensorSpec(COUNTS, "INT32", (-1,)),
            maps[0],
        ]
    return [
        TensorSpec(SCORES, "FP32", (-1, classes)),
        TensorSpec(LOGITS, "FP32", (-1, classes)),
        TensorSpec(LABELS, "BYTES", (-1, -1)),
        TensorSpec(CLASSES, "INT32", (-1, -1)),
        *maps,
    ]


def usual(model: Description) -> tuple[str, ...]:
    """What is answered to those who ask for nothing by name."""
    if model.detects:
        return BOXES, SCORES, LABELS, COUNTS
    return (LABEL_MAP,) if model.segments else (SCORES, LABELS)
