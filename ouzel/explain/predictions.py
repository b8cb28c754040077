"""What models predict, from the logits of a batch to the answers of its rows: one kind for each task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ouzel import models
from ouzel.explain import conditions, encode
from ouzel.explain.plan import Plan
from ouzel.models.segmentation import background
from ouzel.saliency.transfer import Transfer
from ouzel.task_names import SEGMENTATION, Task
from ouzel_protos.v1 import explain_pb2 as pb


class Prediction(Protocol):
    """Of some rows of one model."""

    def unmet(self, plans: Sequence[Plan], labels: Sequence[str]) -> list[str]:
        """Why each row's condition does not hold, or nothing. Waits for the prediction."""

    def take(self, transfer: Transfer) -> None:
        """Has what answers need brought to the host."""

    def write(self, answer: pb.Explanation, number: int, plan: Plan, labels: Sequence[str], view: pb.View) -> None:
        """Puts the prediction of a row into its answer, once what was taken is there."""


class Scores:
    """Of a classifier.

    Args:
        logits: (n, K).
    """

    def __init__(self, logits: Tensor) -> None:
        self._logits, self._probabilities = logits, models.probabilities(logits)

    def unmet(self, plans: Sequence[Plan], labels: Sequence[str]) -> list[str]:
        """See `Prediction`."""
        return conditions.skipped(plans, labels, self._logits, self._probabilities)

    def take(self, transfer: Transfer) -> None:
        """See `Prediction`."""
        self._logits, self._probabilities = transfer.take(self._logits), transfer.take(self._probabilities)

    def write(self, answer: pb.Explanation, number: int, plan: Plan, labels: Sequence[str], view: pb.View) -> None:
        """See `Prediction`."""
        of_row = encode.scores(self._logits[number], self._probabilities[number], labels, plan.top_k)
        answer.scores.extend(of_row)


class LabelMaps:
    """Of a segmentation model.

    Args:
        logits: (n, K, H, W).
    """

    def __init__(self, logits: Tensor) -> None:
        found = models.segments(logits)
        self._maps = found.label_map
        self._figures = torch.stack([found.areas, found.confidences], dim=1)

    def unmet(self, plans: Sequence[Plan], labels: Sequence[str]) -> list[str]:
        """See `Prediction`."""
        return conditions.skipped_of_areas(plans, labels, self._figures[:, 0])

    def take(self, transfer: Transfer) -> None:
        """See `Prediction`."""
        self._maps, self._figures = transfer.take(self._maps), transfer.take(self._figures)

    def write(self, answer: pb.Explanation, number: int, plan: Plan, labels: Sequence[str], view: pb.View) -> None:
        """See `Prediction`."""
        areas, confidences = self._figures[number].tolist()
        there = [index for index, area in enumerate(areas) if area > 0]
        last = background(labels)
        there.sort(key=lambda index: (index == last, -areas[index], index))
        message = answer.segmentation
        message.label_map.CopyFrom(encode.label_map(self._maps[number], view if plan.original_label_map else None))
        message.size = pb.ORIGINAL_IMAGE if plan.original_label_map else pb.MODEL_INPUT
        for index in there[: plan.top_k]:
            message.classes.add(index=index, label=labels[index], area=areas[index], confidence=confidences[index])


def predicted(task: Task, logits: Tensor) -> Prediction:
    """The prediction in the logits of a model's rows."""
    return LabelMaps(logits) if task == SEGMENTATION else Scores(logits)
