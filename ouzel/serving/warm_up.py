"""Warms Java up before callers come: it compiles what it runs often, and until then a request costs it several times.

Requests go the way of real ones, over gRPC to a model's process and back, but nothing is computed for them.
$OUZEL_WARM_UP_ROUNDS bounds them: services that live for a test alone need none.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from typing import Any

from ouzel.serving import processes
from ouzel.serving.running import RunningServing
from ouzel.torchserve import rest
from ouzel_protos.torchserve import PREDICTIONS
from ouzel_protos.torchserve.inference_pb2 import PredictionsRequest

logger = logging.getLogger(__name__)
ROUNDS = "OUZEL_WARM_UP_ROUNDS"
ROUND = 200  # requests
MOST = 5  # rounds
SECONDS = 3.0  # after which no further round begins
STEADY = 0.9  # of the cost of the round before: it hardly falls any more
_IN_FLIGHT = 4
_PATIENCE = 10.0  # s for an answer
_OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]


class WarmUp:
    """Runs beside the loading of further models, which leaves Java idle. Leaving the context waits for it to end.

    Args:
        serving: The TorchServe.
    """

    def __init__(self, serving: RunningServing) -> None:
        self._serving = serving
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, model: str, version: str) -> None:
        """Sends requests to a version that is loaded, unless some are being sent, or were."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(model, version), name="ouzel-warm-up", daemon=True)
            self._thread.start()

    def __enter__(self) -> WarmUp:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, model: str, version: str) -> None:
        import grpc

        start, costs = time.monotonic(), list[float]()
        try:
            most = min(MOST, int(os.environ.get(ROUNDS) or MOST))
            with grpc.insecure_channel(self._serving.grpc, _OPTIONS) as channel:
                ask = channel.unary_unary(
                    PREDICTIONS, request_serializer=PredictionsRequest.SerializeToString, response_deserializer=bytes
                )
                while len(costs) < most and time.monotonic() - start < SECONDS and not self._stopped.is_set():
                    before = processes.cpu_seconds(self._serving.pid)
                    self._round(ask, model, version)
                    costs.append((processes.cpu_seconds(self._serving.pid) - before) / ROUND * 1e3)
                    if len(costs) > 1 and costs[-1] > STEADY * costs[-2]:
                        break
        except (grpc.RpcError, OSError, ValueError) as error:  # not worth failing the start
            logger.warning("Java was not warmed up: %s", error)
        told = ", ".join(f"{cost:.2f}" for cost in costs)
        logger.info("Java, ms per request in rounds of %d: %s; %.1f s", ROUND, told, time.monotonic() - start)

    def _round(self, ask: Any, model: str, version: str) -> None:
        request = PredictionsRequest(
            model_name=model,
            model_version=version,
            input={"image": rest.picture(), "options": b'{"estimate_only": true}'},
        )
        metadata = (("authorization", f"Bearer {self._serving.inference_token}"),)
        waiting: deque[Any] = deque()
        for _ in range(ROUND):
            if self._stopped.is_set():
                break
            if len(waiting) == _IN_FLIGHT:
                waiting.popleft().result()
            waiting.append(ask.future(request, timeout=_PATIENCE, metadata=metadata))
        for each in waiting:
            each.result()
