"""Reads and plans single rows, each with an error of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from ouzel.errors import InvalidArgument, OuzelError
from ouzel.explain import encode, inputs, media, options, recording
from ouzel.explain.accept import PNG
from ouzel.explain.faults import internal
from ouzel.explain.limits import Limits
from ouzel.explain.plan import Plan, check_cost, check_response, make_plan
from ouzel.explain.requests import RawRequest, Reply
from ouzel.explain.served import Served
from ouzel.explain.stages import Stages
from ouzel.task_names import DETECTION, SEGMENTATION
from ouzel_protos.v1 import explain_pb2 as pb


@dataclass
class Row:
    """A row on its way: read and planned, or failed."""

    served: Served
    request: RawRequest
    reply: Reply
    view: pb.View | None = None
    pixels: Tensor | None = None
    coded: bytes | None = None  # in place of pixels: what a device is to decode
    plan: Plan | None = None
    asked: pb.ExplainOptions | None = None
    sent: recording.Sent = recording.NOTHING
    stages: Stages = field(default_factory=Stages)  # of its reading
    error: OuzelError | None = None
    over: Callable[[], bool] | None = None  # whether its caller has stopped waiting

    @property
    def live(self) -> bool:
        """Whether there is something to compute."""
        return self.error is None and (self.pixels is not None or self.coded is not None)

    def finished(self) -> Reply:
        """What its caller gets."""
        if self.error is None:
            return self.reply
        return refused(self.reply.envelope, self.error)


def refused(kept: pb.Explanation, error: OuzelError) -> Reply:
    """An error as a reply, with what is known beside it."""
    envelope = pb.Explanation(model=kept.model, request_id=kept.request_id, timing=kept.timing)
    envelope.error.CopyFrom(encode.error(error))
    return Reply(envelope, error.http)


@dataclass(frozen=True)
class Reader:
    """Reads rows.

    Attributes:
        limits: Of requests.
        record: Makes entries of a log; None keeps none.
    """

    limits: Limits
    record: recording.Record | None

    def read(self, served: Served, request: RawRequest, began: float | None = None) -> Row:
        """A row for a model. began: when its caller began to wait, on the clock of `time.monotonic`; None is now."""
        row = Row(served, request, Reply(pb.Explanation(model=served.info), limit=self.limits.response_bytes))
        try:
            self._read_into(row, request, time.monotonic() if began is None else began)
        except OuzelError as error:
            row.error = error
        except Exception as error:  # noqa: BLE001 - a bug in reading one row is no reason to fail the others
            row.error = internal(error)
        row.stages.lap("decode")
        return row

    def _read_into(self, row: Row, request: RawRequest, start: float) -> None:
        if request.refusal is not None:
            raise request.refusal
        model = row.served.model
        asked = row.asked = options.parse(request.options)
        if asked.record:
            row.sent = recording.sent(request.image, request.tensor)
        row.reply.envelope.request_id = asked.request_id[: self.limits.request_id]
        # Pictures are drawn on the host, and a record is compared with a repetition on any machine.
        later = row.served.decoder is not None and request.media_type != PNG and not asked.record
        source = inputs.read(request.image, request.tensor, model, later=later)
        plan = make_plan(asked, row.served, source.view, self.limits)
        if asked.record:
            recording.check(self.record, estimate=plan.estimate_only, picture=request.media_type == PNG)
        drawn = model.task == SEGMENTATION or (model.task == DETECTION and source.picture is not None)
        if request.media_type == PNG and not plan.presentations and not drawn:
            raise InvalidArgument("saliency: image/png needs at least one map to draw", field="saliency")
        size = self._response_bytes(row.served, plan, source, request.media_type, asked.record)
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
            row.coded = source.coded
            if source.coded is None:
                row.pixels = source.pixels(model.preprocessing)
            row.stages.lap("preprocess")
        row.view, row.plan = source.view, plan
        row.over = _over(None if plan.timeout is None else start + plan.timeout, request.gone)
        if request.media_type == PNG:  # nothing else needs it any more, and it may be large
            row.reply.picture = source.picture
        row.reply.envelope.view.CopyFrom(source.view)

    def _response_bytes(self, served: Served, plan: Plan, source: inputs.Input, media_type: str, record: bool) -> int:
        """Size of the answer, at most."""
        if media_type != PNG:
            proof = recording.LARGEST if record else 0
            return int((plan.response_bytes + proof) * media.RESPONSE_FACTORS[media_type])
        _, height, width = served.model.input_shape
        legend, original = 0, [each.original_size for each in plan.presentations]
        if not original and served.detector is not None:  # the picture with boxes
            original = [False]
        elif not original:  # of a segmentation model: the label map
            legend, original = media.legend_bytes(plan.top_k), [plan.original_label_map]
        sizes = media.tiles(source.view, (height, width), original, self.limits.response_bytes - legend)
        return media.picture_bytes(sizes) + legend


def _over(deadline: float | None, gone: Callable[[], bool] | None) -> Callable[[], bool] | None:
    """deadline: on the clock of `time.monotonic`."""
    if deadline is None:
        return gone
    return lambda: time.monotonic() > deadline or (gone is not None and gone())
