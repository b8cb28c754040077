"""TorchServe's handler: decode -> ouzel -> encode.

TorchServe wants exactly one class in this module. An exception here would fail every request of a batch, so each row is
answered on its own, with an envelope that holds a result or an error.
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from ouzel import models
from ouzel.explain import ExplainService, Limits, hosted, recorder
from ouzel.explain.batch_metrics import BatchMetrics
from ouzel.telemetry import tracing

logger = logging.getLogger(__name__)


class SaliencyHandler:
    """One per worker process. `initialize` and `handle` are TorchServe's contract."""

    def initialize(self, context: Any) -> None:
        """Load the model of this process and warm it up. context: TorchServe's."""
        hosted.hush()
        tracing.start("ouzel-model")
        properties = context.system_properties
        device, gpu = hosted.device_of(properties.get("gpu_id"))
        model = models.load(properties["model_dir"], device=device)
        self.service = ExplainService(
            model, Limits.from_environment(), threads=torch.get_num_threads(), record=recorder()
        )
        self.metrics = BatchMetrics(model.name, model.version)
        for rows in hosted.warm_rows(properties):
            self.service.warm_up(rows)
        told = (model.name, model.version, f"{device} {gpu}".strip(), self.service.explainer.precision, model.digest)
        logger.info("%s version %s on %s, %s, weights %s", *told)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch: one body per row of `data`. Status and media type of each go into `context`."""
        requests = [hosted.request_of(row, hosted.headers_of(context, index)) for index, row in enumerate(data)]
        bodies = []
        replies = self.service.answer(requests)
        for index, (request, reply) in enumerate(zip(requests, replies, strict=True)):
            body, media_type = reply.render(request.media_type)
            context.set_response_content_type(index, media_type)
            context.set_response_status(code=reply.http, idx=index)
            bodies.append(body)
        self.metrics.tell(replies)
        return bodies
