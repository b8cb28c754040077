"""What handlers of TorchServe have in common: devices, headers, requests, and lines that its metrics are read from."""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from ouzel import gpus
from ouzel.errors import InvalidArgument, OuzelError
from ouzel.explain.accept import JSON, PROTOBUF, negotiate
from ouzel.explain.forms import read
from ouzel.explain.requests import RawRequest
from ouzel.explain.stages import STAGES
from ouzel_protos.v1 import explain_pb2 as pb

logger = logging.getLogger(__name__)
_HOST = socket.gethostname()
_PER_BATCH = "Backend received inference at"  # begins what TorchServe says to each batch

# Headers that every REST request has and no gRPC request can have: gRPC metadata does not reach the worker.
_REST_MARKS = ("host", "user-agent", "accept", "content-length")


def hush() -> None:
    """Keep out of the log what Java would have to read of each batch, and drops: the arrival, and a metric."""
    logging.getLogger().addFilter(lambda record: not str(record.msg).startswith(_PER_BATCH))
    logging.getLogger("ts.metrics.caching_metric").setLevel(logging.WARNING)


def device_of(number: int | None) -> tuple[str, str]:
    """What to compute on, and the GPU's id: `ouzel up` shares GPUs out by claims, another TorchServe by a number."""
    claimed = gpus.claim_shared()
    gpu = claimed or ("" if number is None else str(number))
    if not gpu:
        return "cpu", ""
    if not torch.cuda.is_available():
        logger.warning("GPU %s cannot be used by this torch, %s", gpu, torch.__version__)
        return "cpu", gpu
    return ("cuda" if claimed else f"cuda:{gpu}"), gpu


def headers_of(context: Any, index: int) -> dict[str, str]:
    """Headers of a row, by names in lower case. context: TorchServe's."""
    return {
        key.lower(): value
        for key, value in (context.get_all_request_header(index) or {}).items()
        if isinstance(value, str)
    }


def request_of(row: Mapping[str, Any], headers: Mapping[str, str]) -> RawRequest:
    """A row as a request, or as its refusal."""
    media_type = PROTOBUF
    try:
        if any(mark in headers for mark in _REST_MARKS):
            media_type = JSON  # also of the refusal of an Accept that nothing satisfies
            media_type = negotiate(headers.get("accept"))
        if headers.get("explain", "").lower() == "true":
            raise InvalidArgument("explanations: not served here; ask /predictions and name saliency in its options")
        return read(row, headers.get("x-ouzel-options"), media_type)
    except OuzelError as error:
        return RawRequest(media_type=media_type, refusal=error)


def tell_stages(timing: pb.Timing, model: str, version: str) -> None:
    """Tell TorchServe's metrics where the time of a batch went, unless nothing was computed."""
    if timing.batch_size:
        stages = ((f"ouzel_{stage}_seconds.s", getattr(timing, f"{stage}_ms") / 1e3) for stage in STAGES)
        tell_metrics(((name, f"{seconds:.6f}", "HISTOGRAM") for name, seconds in stages), model, version)


def tell_metrics(values: Iterable[tuple[str, str, str]], model: str, version: str) -> None:
    """Tell TorchServe's metrics; `metrics.yaml` of `ouzel.serving` declares them.

    As its Java process reads them from the output of its Python processes, and all at once: `context.metrics` writes
    them one by one.

    Args:
        values: ("NAME.UNIT", value, "COUNTER", "GAUGE" or "HISTOGRAM") of each.
        model: The model's name.
        version: Its version.
    """
    where = f"|#ModelName:{model},ModelVersion:{version}"
    end = f"|#hostname:{_HOST},{int(time.time())}"
    lines = [f"[METRICS]{name}:{value}{where}|#type:{kind}{end}" for name, value, kind in values]
    if lines:
        sys.stdout.write("\n".join(lines) + "\n")
