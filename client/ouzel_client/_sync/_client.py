# Generated from _async/_client.py by scripts/unasync.py (`make sync`). Do not edit.
# ruff: noqa: I001, SIM117, RUF100
# fmt: off
"""The connection to the services and what hangs on it."""

from __future__ import annotations

import logging
import math
import time
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import Message

from ouzel_client._sync._datasets import Datasets
from ouzel_client._sync._jobs import Jobs
from ouzel_client._sync._models import Models
from ouzel_client._codec import explanation
from ouzel_client._transport import config
from ouzel_client._transport import grpc_sync as backend
from ouzel_client._transport.retry import RETRIED, Retry
from ouzel_client.errors import (
    ConfigurationError,
    DeadlineExceeded,
    InvalidArgument,
    OuzelError,
    Unauthenticated,
    Unavailable,
)
from ouzel_protos.torchserve.inference_pb2 import PredictionsRequest
from ouzel_protos.v1 import explain_pb2 as pb

if TYPE_CHECKING:
    import grpc

M = TypeVar("M", bound=Message)
logger = logging.getLogger(__name__)


class Client:
    """Calls Ouzel's services over gRPC. Close it, or use it as a context manager.

    target: "host:port" of the services' gRPC; without it OUZEL_GRPC, else the services that `ouzel up` started here.
    token: the inference token; without it OUZEL_TOKEN, else that of the local services. timeout: seconds that a call
    may take, retries included, unless it says otherwise. retry: when to try again after Unavailable and Overloaded.
    max_request_bytes: what the services take; checked before anything is sent. max_response_bytes: what is accepted.
    credentials: gRPC channel credentials for TLS; None speaks plain text, as local services do.
    worker, worker_token: where jobs go; without them OUZEL_WORKER and OUZEL_WORKER_TOKEN, else the worker started here.
    Raises ConfigurationError when no services are found.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        token: str | None = None,
        timeout: float = config.TIMEOUT,
        retry: Retry | None = None,
        max_request_bytes: int = config.MAX_REQUEST_BYTES,
        max_response_bytes: int = config.MAX_RESPONSE_BYTES,
        credentials: grpc.ChannelCredentials | None = None,
        worker: str | None = None,
        worker_token: str | None = None,
    ) -> None:
        address, self._missing = _found(target, token, worker)
        for name, value in (("max_request_bytes", max_request_bytes), ("max_response_bytes", max_response_bytes)):
            if value < 1:
                raise ConfigurationError(f"{name}: {value} is less than 1")
        self._timeout = _checked_timeout(timeout)
        self._retry = retry or Retry()
        self._max_request_bytes = max_request_bytes
        self._credentials = credentials
        self._max_response_bytes = max_response_bytes
        self._asked = (target, token)
        self._address = address
        self._connection = backend.Connection(address, max_response_bytes, credentials)
        self._replaced: list[backend.Connection] = []  # calls of other threads may still be in flight there
        self._target = address.target
        self._models = Models(self)
        self._jobs = Jobs(self)
        self._datasets = Datasets(self)
        self._worker_address = (worker, worker_token)
        self._worker_connection: backend.Connection | None = None

    @property
    def models(self) -> Models:
        """The served models: `client.models["efficientnet-lite0"]`."""
        return self._models

    @property
    def jobs(self) -> Jobs:
        """The jobs of the worker: `client.jobs.maximize("efficientnet-lite0", logit="tabby")`."""
        return self._jobs

    @property
    def datasets(self) -> Datasets:
        """The data sets that jobs learn from: `client.datasets.upload("folder/")`."""
        return self._datasets

    def close(self) -> None:
        """Close the connections; calls in flight end with an error. More than once does no harm."""
        for connection in (*self._replaced, self._connection):
            connection.close()
        if self._worker_connection is not None:
            self._worker_connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        worker, _ = self._worker_address
        parts = [repr(self._target) if self._target else "", f"worker={worker!r}" if worker else ""]
        return f"{type(self).__name__}({', '.join(filter(None, parts))})"

    def _predict(self, request: PredictionsRequest, timeout: float | None) -> pb.Explanation:
        """Call until there is an answer, attempts are used up, or time is. Raises the error that the answer carries."""
        if self._missing is not None:
            raise self._missing
        deadline = time.monotonic() + self._seconds(timeout)
        size = request.ByteSize()
        if size > self._max_request_bytes:
            raise InvalidArgument(
                f"image: the request of {size} bytes is larger than max_request_bytes, {self._max_request_bytes}",
                field="image",
            )
        pauses = self._retry.pauses()
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise DeadlineExceeded(f"{self._target}: no time left to send the request")
            try:
                return explanation.envelope(self._connection.predict(request, remaining))
            except RETRIED as error:
                self._pause(next(pauses, None), deadline, error)
                self._look_again()
            except Unauthenticated:
                if self._look_again():
                    continue
                if not config.restarting(*self._asked, self._address):
                    raise
                gone = Unavailable(f"{self._target}: the services are being started again; `ouzel status` shows them")
                self._pause(next(pauses, None), deadline, gone)

    def _look_again(self) -> bool:
        """Local services that were started again have new tokens, and perhaps another address; returns whether so."""
        try:
            address = config.find(*self._asked)
        except ConfigurationError:
            return False
        if address == self._address or not address.token:
            return False
        self._replaced.append(self._connection)
        self._address, self._target = address, address.target
        self._connection = backend.Connection(address, self._max_response_bytes, self._credentials)
        return True

    def _ask(self, method: str, request: Message, answer: type[M], timeout: float | None = None) -> M:
        """Call the worker until there is an answer, attempts are used up, or time is; all of its methods allow that."""
        deadline = time.monotonic() + self._seconds(timeout)
        pauses = self._retry.pauses()
        while True:
            try:
                left = max(deadline - time.monotonic(), 0.001)
                return self._worker().call(method, request, answer, left)
            except Unavailable as error:
                self._pause(next(pauses, None), deadline, error)

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else _checked_timeout(timeout)

    def _worker(self) -> backend.Connection:
        """The connection to the worker, looked for when it is first needed. Raises ConfigurationError."""
        if self._worker_connection is None:
            address = config.find_worker(*self._worker_address)
            self._worker_connection = backend.Connection(address, self._max_response_bytes, self._credentials)
        return self._worker_connection

    def _pause(self, seconds: float | None, deadline: float, error: OuzelError) -> None:
        """Wait before the next attempt. Raises `error` if there is to be none."""
        if seconds is None or time.monotonic() + seconds >= deadline:
            raise error
        logger.debug("trying again in %.2f s: %s", seconds, error)
        backend.sleep(seconds)


def _found(
    target: str | None, token: str | None, worker: str | None
) -> tuple[config.Address, ConfigurationError | None]:
    """Where to explain; and why nowhere, if there is at least a worker. Raises ConfigurationError."""
    try:
        return config.find(target, token), None
    except ConfigurationError as missing:
        if target or not config.has_worker(worker):
            raise
        return config.Address(""), missing


def _checked_timeout(timeout: float) -> float:
    if not 0 < timeout < math.inf:
        raise InvalidArgument(f"timeout: {timeout} is not a positive number of seconds", field="timeout")
    return timeout
