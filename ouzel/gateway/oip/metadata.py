"""What the protocol says of a model: its inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass

import ouzel
from ouzel.gateway.engine import Description

IMAGE, INPUT = "image", "input"
SCORES, LOGITS, LABELS, CLASSES = "scores", "logits", "labels", "classes"
SALIENCY, FAITHFULNESS = "saliency", "faithfulness"
OUTPUTS = (SCORES, LOGITS, LABELS, CLASSES, SALIENCY, FAITHFULNESS)
USUAL = (SCORES, LABELS)  # what is answered to those who ask for nothing by name
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

    `scores` and `logits` are of all classes in their order, `labels` and `classes` of the best ones (`top_k`).
    `saliency` is one map per row, `faithfulness` the areas under its deletion and its insertion curve.
    """
    _, height, width = model.input_shape
    classes = len(model.labels)
    return [
        TensorSpec(SCORES, "FP32", (-1, classes)),
        TensorSpec(LOGITS, "FP32", (-1, classes)),
        TensorSpec(LABELS, "BYTES", (-1, -1)),
        TensorSpec(CLASSES, "INT32", (-1, -1)),
        TensorSpec(SALIENCY, "FP32", (-1, height, width)),
        TensorSpec(FAITHFULNESS, "FP32", (-1, 2)),
    ]
