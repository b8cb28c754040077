"""Endpoints as predictors, which audits ask."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

import numpy as np

from ouzel.audit.predictor import check_probabilities
from ouzel.audit.source import Source
from ouzel.audit.view import View
from ouzel.endpoints.clients.client import Client
from ouzel.endpoints.clients.http_json import HttpJsonClient
from ouzel.endpoints.clients.oip_rest import OipRestClient
from ouzel.endpoints.clients.torchserve import TorchServeClient
from ouzel.endpoints.description.config import Endpoint
from ouzel.endpoints.description.protocols import HttpJson, TorchServe


class EndpointPredictor:
    """An `ouzel.audit.predictor.Predictor` that asks an endpoint.

    Args:
        endpoint: As the operator describes it.
        client: That asks it.
    """

    def __init__(self, endpoint: Endpoint, client: Client) -> None:
        self._endpoint = endpoint
        self._client = client
        self.source = Source("endpoint", endpoint.name, client.version, client.digest)
        self.labels = client.labels
        self.view = View(endpoint.size, endpoint.resize, endpoint.interpolation)
        self._threads = ThreadPoolExecutor(endpoint.limits.concurrency, thread_name_prefix="ouzel-endpoints")

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """See `Predictor`: (N, H, W, 3) uint8 to (N, K) probabilities, in as many requests as the kind needs.

        Raises:
            OuzelError: A request failed; the others are given up.
        """
        step, stop = self._client.batch, threading.Event()
        parts = [pictures[first : first + step] for first in range(0, len(pictures), step)]
        futures = [self._threads.submit(self._client.ask, part, stop) for part in parts]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        failed = [error for future in futures if future in done and (error := future.exception())]
        if failed:
            stop.set()
            for future in futures:
                future.cancel()
            raise failed[0]
        answers = np.concatenate([future.result() for future in futures])
        return check_probabilities(answers, len(pictures), len(self.labels), self._endpoint.who)

    def close(self) -> None:
        """End the connections. The predictor cannot be asked any more."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_endpoint(endpoint: Endpoint) -> EndpointPredictor:
    """Make a predictor of an endpoint.

    Args:
        endpoint: As `ouzel.endpoints.description.file` reads it.

    Returns:
        A predictor, to be closed. An OIP model is compared with its description first; another Ouzel is asked for its
        labels.

    Raises:
        OuzelError: The service does not answer, or is not as the operator describes it.
    """
    how = endpoint.protocol
    client: Client
    if isinstance(how, HttpJson):
        client = HttpJsonClient(endpoint, how)
    elif isinstance(how, TorchServe):
        client = TorchServeClient(endpoint, how)
    elif endpoint.grpc:
        from ouzel.endpoints.clients.oip_grpc import OipGrpcClient

        client = OipGrpcClient(endpoint, how)
    else:
        client = OipRestClient(endpoint, how)
    return EndpointPredictor(endpoint, client)
