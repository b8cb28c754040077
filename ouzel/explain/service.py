"""Explains batches of requests: each row on its own, the computing together."""

from __future__ import annotations

import io
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ouzel import gpus, models
from ouzel.errors import InvalidArgument, OuzelError, ResourceExhausted
from ouzel.explain import encode, faithfulness, inputs, media, options, recording, spans
from ouzel.explain.accept import PNG
from ouzel.explain.conditions import skipped
from ouzel.explain.faults import internal, raise_if_fatal
from ouzel.explain.limits import Limits
from ouzel.explain.memory import give_back
from ouzel.explain.plan import Plan, check_cost, check_response, make_plan
from ouzel.explain.requests import RawRequest, Reply
from ouzel.explain.stages import Stages
from ouzel.models import Model
from ouzel.precision_names import VARIABLE, Precision, check_precision
from ouzel.saliency import Explainer
from ouzel.saliency.transfer import Transfer
from ouzel_protos import tensors
from ouzel_protos.v1 import explain_pb2 as pb

logger = logging.getLogger(__name__)
FORMATS, WARM_UP_ROWS = "OUZEL_MEMORY_FORMATS", "OUZEL_WARM_UP_ROWS"


@dataclass
class _Row:
    """A row on its way: read and planned, or failed."""

    reply: Reply
    source: inputs.Input | None = None
    pixels: Tensor | None = None
    plan: Plan | None = None
    asked: pb.ExplainOptions | None = None
    sent: recording.Sent = recording.NOTHING
    stages: Stages = field(default_factory=Stages)  # of its reading
    error: OuzelError | None = None
    deadline: float | None = None


class ExplainService:
    """Answers requests for one model. Threads may share it.

    $OUZEL_MEMORY_FORMATS is the folder in which the faster memory format is remembered, so that the next process need
    not measure it. $OUZEL_PRECISION is what to compute in, whatever the model's archive says.

    Args:
        model: That answers.
        limits: Of requests.
        threads: How many images are decoded at a time; None is one per processor.
        record: Makes entries of a log; None keeps none.
        precision: What to compute in; None is that of $OUZEL_PRECISION, else the model's.

    Raises:
        InvalidArgument: There is no such precision.
    """

    def __init__(
        self,
        model: Model,
        limits: Limits | None = None,
        *,
        threads: int | None = None,
        record: recording.Record | None = None,
        precision: Precision | None = None,
    ) -> None:
        self.model, self._record = model, record
        if precision is None:
            precision = check_precision(VARIABLE, os.environ.get(VARIABLE) or model.precision)
        self.limits = limits or Limits()
        known = os.environ.get(FORMATS)
        self.explainer = Explainer(
            model,
            memory_bytes=self.limits.memory_bytes,
            known_formats=Path(known) if known else None,
            precision=precision,
        )
        self._info = encode.model_info(model, self.explainer)
        if self.explainer.device.type == "cpu" and os.environ.get(gpus.SHARED) and torch.cuda.is_available():
            logger.warning("computes on the processor although there are GPUs: add this model to the store again")
        if (deviation := self.explainer.deviation) is not None:
            logger.info("computes in %s; measured against exact: %s", self.explainer.precision, deviation)
        self._warm: set[int] = set()  # sizes of batches
        self._decoders = ThreadPoolExecutor(threads or os.cpu_count() or 1, thread_name_prefix="ouzel-decode")

    def warm_up(self, rows: int) -> None:
        """Answer a made-up batch with every kind of backward pass, so that the first caller does not wait for it.

        $OUZEL_WARM_UP_ROWS bounds the batch, where many models start and larger ones can wait until they are asked for.
        """
        rows = min(rows, int(os.environ.get(WARM_UP_ROWS) or rows))
        if rows in self._warm:
            return
        self._warm.add(rows)
        asked = b'{"saliency": ["gradient", "grad_cam"]}'
        if self.model.preprocessing.takes_images:
            file = io.BytesIO()
            Image.new("RGB", (256, 256), "gray").save(file, "JPEG")
            request = RawRequest(image=file.getvalue(), options=asked)
        else:
            zeros = tensors.encode(np.zeros(self.model.input_shape, np.float32))
            request = RawRequest(tensor=zeros.SerializeToString(), options=asked)
        self.answer([request] * rows)
        give_back()

    def answer(self, requests: Sequence[RawRequest]) -> list[Reply]:
        """Answer a batch.

        Args:
            requests: One or more.

        Returns:
            One reply per request, in order. What a request holds never raises: each error is that row's answer.
        """
        begun, stages = time.time_ns(), Stages()
        rows = list(self._decoders.map(self._read, requests)) if len(requests) > 1 else [self._read(requests[0])]
        stages.share(row.stages for row in rows)
        live = [row for row in rows if row.error is None and row.pixels is not None]
        if live:
            self._answer(live, stages)
        timing = stages.message(len(live))
        for row in rows:
            row.reply.envelope.timing.CopyFrom(timing)
        wanted = [row for row in rows if row.asked is not None and row.asked.record]
        for _ in self._decoders.map(self._record_row, wanted):  # each waits for a disk: side by side they wait once
            pass
        replies = [self._finish(row) for row in rows]
        spans.tell(requests, replies, begun)
        return replies

    def _read(self, request: RawRequest) -> _Row:
        row = _Row(Reply(pb.Explanation(model=self._info), limit=self.limits.response_bytes))
        try:
            self._read_into(row, request)
        except OuzelError as error:
            row.error = error
        except Exception as error:  # noqa: BLE001 - a bug in reading one row is no reason to fail the others
            row.error = internal(error)
        row.stages.lap("decode")
        return row

    def _read_into(self, row: _Row, request: RawRequest) -> None:
        start = time.monotonic()
        if request.refusal is not None:
            raise request.refusal
        asked = row.asked = options.parse(request.options)
        if asked.record:
            row.sent = recording.sent(request.image, request.tensor)
        row.reply.envelope.request_id = asked.request_id[: self.limits.request_id]
        source = inputs.read(request.image, request.tensor, self.model)
        plan = make_plan(asked, self.explainer, self.model, source.view, self.limits)
        if asked.record:
            recording.check(self._record, estimate=plan.estimate_only, picture=request.media_type == PNG)
        if request.media_type == PNG and not plan.presentations:
            raise InvalidArgument("saliency: image/png needs at least one map to draw", field="saliency")
        size = self._response_bytes(plan, source, request.media_type, asked.record)
        if plan.estimate_only:
            row.reply.envelope.estimate.CopyFrom(
                pb.Estimate(
                    passes=plan.saliency.passes, response_bytes=size, response_limit_bytes=self.limits.response_bytes
                )
            )
        else:
            check_response(size, self.limits.response_bytes)
            check_cost(plan.saliency, self.limits.passes)
            row.stages.lap("decode")
            row.pixels = source.pixels(self.model.preprocessing)
            row.stages.lap("preprocess")
        row.source, row.plan = source, plan
        row.deadline = None if plan.timeout is None else start + plan.timeout
        row.reply.picture = source.picture
        row.reply.envelope.view.CopyFrom(source.view)

    def _response_bytes(self, plan: Plan, source: inputs.Input, media_type: str, record: bool) -> int:
        """Size of the answer, at most."""
        if media_type != PNG:
            proof = recording.LARGEST if record else 0
            return int((plan.response_bytes + proof) * media.RESPONSE_FACTORS[media_type])
        _, height, width = self.model.input_shape
        original = [each.original_size for each in plan.presentations]
        return media.picture_bytes(media.tiles(source.view, (height, width), original, self.limits.response_bytes))

    def _answer(self, rows: Sequence[_Row], stages: Stages) -> None:
        """Computes rows together, in halves if the device's memory does not suffice. Each is answered in any case."""
        halves: list[Sequence[_Row]] = []
        try:
            self._compute(rows, stages)
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
                for part in ("scores", "saliency", "skipped"):
                    row.reply.envelope.ClearField(part)
            self._answer(half, stages)

    def _compute(self, rows: Sequence[_Row], stages: Stages) -> None:
        pixels = [row.pixels for row in rows if row.pixels is not None]
        x = inputs.batched(pixels, self.model.preprocessing, self.explainer.device, stages)
        plans = [row.plan for row in rows if row.plan]
        certain, transfer, labels = all(plan.when is None for plan in plans), Transfer(), self.model.labels
        with models.computing(self.explainer.precision):  # once for all passes
            batch = self.explainer.forward(x, [plan.saliency for plan in plans], certain=certain)
            logits = batch.logits.float()
            probabilities = models.probabilities(logits)
            reasons = [""] * len(rows) if certain else skipped(plans, labels, logits, probabilities)
            logits, probabilities = transfer.take(logits), transfer.take(probabilities)
            answers = batch.explain([not reason for reason in reasons], [row.deadline for row in rows], transfer)
        stages.lap("compute")
        stages.move("compute", "copy", transfer.seconds)
        for number, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            if isinstance(answer, OuzelError):
                row.error = answer
                continue
            assert row.plan is not None
            assert row.source is not None
            envelope = row.reply.envelope
            envelope.scores.extend(encode.scores(logits[number], probabilities[number], labels, row.plan.top_k))
            envelope.skipped = reasons[number]
            if not reasons[number]:
                try:
                    steps = [each.faithfulness for each in row.plan.presentations]
                    maps = faithfulness.measured(answer, steps, self.model, x[number], row.deadline)
                    envelope.saliency.extend(encode.saliency_maps(maps, row.plan, row.source.view, labels))
                except OuzelError as error:
                    row.error = error

    def _record_row(self, row: _Row) -> None:
        """Makes a row an entry of the log, also if it was refused; one that cannot be recorded becomes an error."""
        if self._record is None or row.asked is None:  # it was refused for that
            return
        try:
            entry = recording.entry(self._record, row.asked, row.error or row.reply.envelope, row.sent)
            if row.error is None:
                row.reply.envelope.ledger.CopyFrom(entry)
        except OuzelError as error:
            row.error = error
        except Exception as error:  # noqa: BLE001 - fail closed
            row.error = internal(error)

    def _finish(self, row: _Row) -> Reply:
        if row.error is not None:
            kept = row.reply.envelope
            envelope = pb.Explanation(model=kept.model, request_id=kept.request_id, timing=kept.timing)
            envelope.error.CopyFrom(encode.error(row.error))
            return Reply(envelope, row.error.http)
        return row.reply
