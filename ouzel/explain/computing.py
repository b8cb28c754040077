"""Computes rows together that have been read: of one model, or of several that share a network."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from ouzel import models
from ouzel.errors import OuzelError, ResourceExhausted
from ouzel.explain import encode, faithfulness, inputs
from ouzel.explain.faults import internal, raise_if_fatal
from ouzel.explain.memory import give_back
from ouzel.explain.predictions import Prediction, predicted
from ouzel.explain.reading import Row
from ouzel.explain.served import Served
from ouzel.explain.stages import Stages
from ouzel.saliency import SaliencyPlan
from ouzel.saliency.boxes import BoxPlan, DetectionExplainer
from ouzel.saliency.transfer import Transfer, sent

logger = logging.getLogger(__name__)


def compute_rows(rows: Sequence[Row], stages: Stages) -> None:
    """Computes rows, in halves if the device's memory does not suffice. Each is answered in any case.

    Args:
        rows: One or more, read without error. Their models share an explainer.
        stages: Are told the time.
    """
    for part in _parts(rows):
        _answer(part, stages)


def _parts(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that can be computed together: all, but for those that look at what depends on their model's head."""
    together: dict[int, list[Row]] = {}
    for row in rows:
        assert row.plan is not None
        layers = {spec.layer for one in row.plan.saliency.maps for spec in one.method.gradient_specs()}
        together.setdefault(id(row.served) if layers & row.served.apart else 0, []).append(row)
    return list(together.values())


def _answer(rows: Sequence[Row], stages: Stages) -> None:
    halves: list[Sequence[Row]] = []
    try:
        _compute(rows, stages)
    except torch.OutOfMemoryError as error:
        raise_if_fatal(error)
        logger.warning("the device's memory does not suffice for %d rows: %s", len(rows), error)
        halves = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    except Exception as error:  # noqa: BLE001
        raise_if_fatal(error)
        for row in rows:
            row.error = internal(error)
        stages.lap("compute")
    stages.lap("encode")
    if not halves:
        return
    give_back()  # what the traceback held is gone by now
    if len(rows) == 1:
        rows[0].error = ResourceExhausted("the device's memory does not suffice for this request; try it later")
        return
    for half in halves:
        for row in half:  # part of it may be there already
            for part in ("scores", "segmentation", "detected", "saliency", "skipped"):
                row.reply.envelope.ClearField(part)
        _answer(half, stages)


def _compute(rows: Sequence[Row], stages: Stages) -> None:
    if rows[0].served.detector is not None:
        _detect(rows, rows[0].served.detector, stages)
        return
    explainer, preprocessing = rows[0].served.classifier, rows[0].served.model.preprocessing
    pixels = [row.pixels for row in rows if row.pixels is not None]
    transfer = Transfer()
    # Who shares an explainer normalises alike.
    x = inputs.batched(pixels, preprocessing, explainer.device, stages, transfer)
    plans = [row.plan for row in rows if row.plan]
    certain = all(plan.when is None for plan in plans)
    heads = [row.served.head for row in rows if row.served.head is not None]
    with models.computing(explainer.precision):  # once for all passes
        asked = [plan.saliency for plan in plans if isinstance(plan.saliency, SaliencyPlan)]
        batch = explainer.forward(x, asked, certain=certain, heads=heads or None)
        reasons = [""] * len(rows)
        predictions: dict[int, tuple[Prediction, int]] = {}
        for served, numbers in _by_model(rows):
            logits = _own(batch.logits, len(served.model.labels), numbers).float()
            prediction = predicted(served.model.task, logits)
            if not certain:
                told = prediction.unmet([plans[number] for number in numbers], served.model.labels)
                for number, reason in zip(numbers, told, strict=True):
                    reasons[number] = reason
            prediction.take(transfer)
            predictions |= {number: (prediction, place) for place, number in enumerate(numbers)}
        answers = batch.explain([not reason for reason in reasons], [row.over for row in rows], transfer)
    _lap(stages, transfer)
    for number, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        if isinstance(answer, OuzelError):
            row.error = answer
            continue
        assert row.plan is not None
        assert row.view is not None
        envelope, model = row.reply.envelope, row.served.model
        prediction, place = predictions[number]
        prediction.write(envelope, place, row.plan, model.labels, row.view)
        envelope.skipped = reasons[number]
        if not reasons[number]:
            try:
                steps = [each.faithfulness for each in row.plan.presentations]
                stages.lap("encode")
                maps = faithfulness.measured(answer, steps, model, x[number], row.over)
                stages.lap("compute")
                envelope.saliency.extend(encode.saliency_maps(maps, row.plan, row.view, model.labels))
            except OuzelError as error:
                row.error = error


def _detect(rows: Sequence[Row], explainer: DetectionExplainer, stages: Stages) -> None:
    """The same of a detector, which no other model shares."""
    model = rows[0].served.model
    pixels = [row.pixels for row in rows if row.pixels is not None]
    transfer = Transfer()
    x = inputs.batched(pixels, model.preprocessing, explainer.device, stages, transfer)
    plans = [row.plan.saliency for row in rows if row.plan is not None and isinstance(row.plan.saliency, BoxPlan)]
    answer = explainer(x, plans, [row.over for row in rows])
    transfer.wait()
    _lap(stages, transfer)
    for row, found, maps in zip(rows, answer.detections, answer.maps, strict=True):
        if isinstance(maps, OuzelError):
            row.error = maps
            continue
        assert row.plan is not None
        assert row.view is not None
        view, size = row.view, model.preprocessing.input_size
        try:
            row.reply.envelope.saliency.extend(encode.saliency_maps(maps, row.plan, view, model.labels))
            row.reply.envelope.detected.CopyFrom(encode.detected(found, row.plan, view, size, model.labels))
        except OuzelError as error:
            row.error = error


def _lap(stages: Stages, transfer: Transfer) -> None:
    """Counts the computing, in which the host has waited for all that the device did before it."""
    stages.lap("compute")
    for stage, seconds in transfer.seconds.items():
        stages.move("compute", stage, seconds)


def _by_model(rows: Sequence[Row]) -> list[tuple[Served, list[int]]]:
    """The numbers of each model's rows."""
    numbers: dict[int, list[int]] = {}
    for number, row in enumerate(rows):
        numbers.setdefault(id(row.served), []).append(number)
    return [(rows[mine[0]].served, mine) for mine in numbers.values()]


def _own(logits: Tensor, classes: int, numbers: Sequence[int]) -> Tensor:
    """(n, K) of these rows, without the padding of models with fewer classes than others."""
    if len(numbers) < len(logits):
        logits = logits.index_select(0, sent(numbers, logits.device, torch.int64))
    return logits if logits.shape[1] == classes else logits[:, :classes]
