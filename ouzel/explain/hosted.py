"""What handlers of TorchServe have in common: devices, headers, requests."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ouzel import gpus, left_calls
from ouzel.errors import InvalidArgument, OuzelError
from ouzel.explain.accept import JSON, PROTOBUF, negotiate
from ouzel.explain.forms import header_text, read
from ouzel.explain.requests import RawRequest
from ouzel.forking import child
from ouzel.telemetry import tracing

logger = logging.getLogger(__name__)
_PER_BATCH = "Backend received inference at"  # begins what TorchServe says to each batch

# Headers that every REST request has and no gRPC request can have: gRPC metadata does not reach the worker.
_REST_MARKS = ("host", "user-agent", "accept", "content-length")


def hush() -> None:
    """Keep out of the log what Java would have to read of each batch, and drops: the arrival, and a metric."""
    logging.getLogger().addFilter(lambda record: not str(record.msg).startswith(_PER_BATCH))
    logging.getLogger("ts.metrics.caching_metric").setLevel(logging.WARNING)


def started_again() -> bool:
    """Whether this process takes the place of one that has died. Then callers wait already."""
    return bool(os.environ.get(child.AGAIN))


def warm_rows(properties: Mapping[str, Any]) -> tuple[int, ...]:
    """Sizes of the made-up batches that are answered before callers come.

    None if they wait already: the first one of them then warms up what all need.

    Args:
        properties: TorchServe's, of the process.
    """
    return () if started_again() else tuple(sorted({1, int(properties.get("batch_size") or 1)}))


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
        given = headers.get("x-ouzel-options")
        request = read(row, given and header_text(given), media_type, tracing.read(headers), (left_calls.PART,))
        return request if (call := row.get(left_calls.PART)) is None else replace(request, gone=_gone(call))
    except OuzelError as error:
        return RawRequest(media_type=media_type, refusal=error)


def _gone(call: object) -> Callable[[], bool] | None:
    """Whether the caller has left, as far as this process belongs to services that say so."""
    run = os.environ.get("OUZEL_RUN")
    return left_calls.gone(Path(run) / left_calls.FOLDER, call) if run else None
