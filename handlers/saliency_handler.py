"""TorchServe's handler: decode -> ouzel -> encode.

TorchServe wants exactly one class in this module. An exception here would fail every request of a batch, so each row is
answered on its own, with an envelope that holds a result or an error.
"""

from __future__ import annotations

import logging
import re
import socket
import sys
import time
from typing import Any

import psutil
import torch

from ouzel import gpus, models
from ouzel.errors import InvalidArgument, OuzelError
from ouzel.explain import (
    JSON,
    PROTOBUF,
    STAGES,
    ExplainService,
    Limits,
    RawRequest,
    Reply,
    negotiate,
    read_row,
    recorder,
)
from ouzel.telemetry import tracing
from ouzel_protos.v1.explain_pb2 import Error

logger = logging.getLogger(__name__)
_HOST = socket.gethostname()
_MEMORY_SECONDS = 5.0  # between two looks at the memory
_PER_BATCH = "Backend received inference at"  # begins what TorchServe says to each batch

# Headers that every REST request has and no gRPC request can have: gRPC metadata does not reach the worker.
_REST_MARKS = ("host", "user-agent", "accept", "content-length")


class SaliencyHandler:
    """One per worker process. `initialize` and `handle` are TorchServe's contract."""

    _looked = float("-inf")  # when the memory was looked at

    def initialize(self, context: Any) -> None:
        """Load the model of this process and warm it up. context: TorchServe's."""
        # Java would have to read these lines of each batch, and drops them: the arrival, and the metric PredictionTime.
        logging.getLogger().addFilter(lambda record: not str(record.msg).startswith(_PER_BATCH))
        logging.getLogger("ts.metrics.caching_metric").setLevel(logging.WARNING)
        tracing.start("ouzel-model")
        properties = context.system_properties
        device, gpu = _device(properties.get("gpu_id"))
        model = models.load(properties["model_dir"], device=device)
        self.service = ExplainService(
            model, Limits.from_environment(), threads=torch.get_num_threads(), record=recorder()
        )
        for rows in {1, int(properties.get("batch_size") or 1)}:
            self.service.warm_up(rows)
        told = (model.name, model.version, f"{device} {gpu}".strip(), self.service.explainer.precision, model.digest)
        logger.info("%s version %s on %s, %s, weights %s", *told)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch: one body per row of `data`. Status and media type of each go into `context`."""
        headers = [self._headers(context, index) for index in range(len(data))]
        requests = [self._request(row, header) for row, header in zip(data, headers, strict=True)]
        bodies = []
        replies = self.service.answer(requests)
        for index, (request, reply) in enumerate(zip(requests, replies, strict=True)):
            body, media_type = reply.render(request.media_type)
            context.set_response_content_type(index, media_type)
            context.set_response_status(code=reply.http, idx=index)
            bodies.append(body)
        self._observe(replies)
        return bodies

    def _observe(self, replies: list[Reply]) -> None:
        """Tell TorchServe's metrics of a batch; `metrics.yaml` of `ouzel.serving` declares them.

        As its Java process reads them from the output of its Python processes, and all at once: `context.metrics`
        writes them one by one.
        """
        model, timing = self.service.model, replies[0].envelope.timing
        whose, end = f"ModelName:{model.name},ModelVersion:{model.version}", f"|#hostname:{_HOST},{int(time.time())}"
        lines = []
        if timing.batch_size:  # else nothing was computed
            values = {f"{stage}_seconds.s": f"{getattr(timing, f'{stage}_ms') / 1e3:.6f}" for stage in STAGES}
            values["batch_rows.Count"] = str(timing.batch_size)
            lines += [f"explain_{name}:{value}|#{whose}|#type:HISTOGRAM" for name, value in values.items()]
        codes = [Error.Code.Name(each.envelope.error.code) if each.http != 200 else "OK" for each in replies]
        for code in dict.fromkeys(codes):
            lines.append(f"explain_rows_total.Count:{codes.count(code)}|#{whose},Code:{code}|#type:COUNTER")
        if (now := time.monotonic()) - self._looked >= _MEMORY_SECONDS:
            self._looked = now
            memory = {"resident": psutil.Process().memory_info().rss}
            if torch.cuda.is_initialized():
                memory["gpu"] = torch.cuda.memory_reserved()
            worker = _worker(sys.argv)
            for kind, size in memory.items():
                lines.append(f"explain_{kind}_bytes.Bytes:{size}|#{whose},Worker:{worker}|#type:GAUGE")
        sys.stdout.write("".join(f"[METRICS]ouzel_{line}{end}\n" for line in lines))

    @staticmethod
    def _headers(context: Any, index: int) -> dict[str, str]:
        return {
            key.lower(): value
            for key, value in (context.get_all_request_header(index) or {}).items()
            if isinstance(value, str)
        }

    def _request(self, row: dict[str, Any], headers: dict[str, str]) -> RawRequest:
        media_type = PROTOBUF
        try:
            if any(mark in headers for mark in _REST_MARKS):
                media_type = JSON  # also of the refusal of an Accept that nothing satisfies
                media_type = negotiate(headers.get("accept"))
            if headers.get("explain", "").lower() == "true":
                raise InvalidArgument(
                    "explanations: not served here; ask /predictions and name saliency in its options"
                )
            return read_row(row, headers.get("x-ouzel-options"), media_type, headers.get(tracing.PARENT))
        except OuzelError as error:
            return RawRequest(media_type=media_type, refusal=error)


def _worker(words: list[str]) -> str:
    """The number of this process among TorchServe's, which the one that follows it has, too; "0" elsewhere."""
    return next((match[1] for word in words if (match := re.search(r"\.ts\.sock\.(\d+)$", word))), "0")


def _device(number: int | None) -> tuple[str, str]:
    """What to compute on, and the GPU's id: `ouzel up` shares GPUs out by claims, another TorchServe by a number."""
    claimed = gpus.claim_shared()
    gpu = claimed or ("" if number is None else str(number))
    if not gpu:
        return "cpu", ""
    if not torch.cuda.is_available():
        logger.warning("GPU %s cannot be used by this torch, %s", gpu, torch.__version__)
        return "cpu", gpu
    return ("cuda" if claimed else f"cuda:{gpu}"), gpu
