"""TorchServe's handler of the pool: it answers for all models of a store, each row for the model that it names.

    model      name of a model of the store
    version    its version; without it the default one
    digest     of the weights that are meant; without it any
    image, tensor, options    as of the handler of one model

A row that only estimates needs to name none: so the services are asked whether they are well. TorchServe wants exactly
one class in this module.
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from ouzel.explain import hosted, recorder
from ouzel.explain.pool.hosted import StorePool
from ouzel.telemetry import tracing

logger = logging.getLogger(__name__)


class PoolHandler:
    """One per worker process. `initialize` and `handle` are TorchServe's contract."""

    def initialize(self, context: Any) -> None:
        """Load a first model of the store. context: TorchServe's."""
        hosted.hush()
        tracing.start("ouzel-model")
        properties = context.system_properties
        device, gpu = hosted.device_of(properties.get("gpu_id"))
        self.pool = StorePool.from_environment(
            device=device, threads=torch.get_num_threads(), record=recorder(), warm_rows=hosted.warm_rows(properties)
        )
        self.pool.begin()
        logger.info("the pool of %s on %s", self.pool.folder, f"{device} {gpu}".strip())

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch: one body per row of `data`. Status and media type of each go into `context`."""
        bodies = []
        rows = [(row, hosted.headers_of(context, index)) for index, row in enumerate(data)]
        for index, (media_type, reply) in enumerate(self.pool.answer(rows)):
            body, rendered = reply.render(media_type)
            context.set_response_content_type(index, rendered)
            context.set_response_status(code=reply.http, idx=index)
            bodies.append(body)
        return bodies
