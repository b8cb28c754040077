"""Calls to the services: connections, retries, deadlines, and local services that were started again."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Iterator
from typing import TypeVar

from google.protobuf.message import Message

from ouzel_client._codec import explanation
from ouzel_client._transport import config
from ouzel_client._transport import grpc_async as backend
from ouzel_client._transport.options import TransportOptions, checked_timeout
from ouzel_client._transport.retry import RETRIED
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

M = TypeVar("M", bound=Message)
logger = logging.getLogger(__name__)

_PATIENCE = 60.0  # s
_PATIENT_PAUSE = 0.25  # s


class AsyncTransport:
    """What a client and all of its resources share.

    Args:
        options: Where the services are, and limits.
        owner: Name of the class of the client; `str()` of the transport is the client's repr.

    Raises:
        ConfigurationError: No services are found.
    """

    def __init__(self, options: TransportOptions, owner: str) -> None:
        self.options = options
        self._owner = owner
        self._address, self._missing = _located(options)
        self._connection = backend.Connection(self._address, options.max_response_bytes, options.credentials)
        self._replaced: list[backend.Connection] = []  # calls of other threads may still be in flight there
        self._worker_connection: backend.Connection | None = None

    def __str__(self) -> str:
        target, worker = self._address.target, self.options.worker
        parts = [repr(target) if target else "", f"worker={worker!r}" if worker else ""]
        return f"{self._owner}({', '.join(filter(None, parts))})"

    async def close(self) -> None:
        """Close the connections; calls in flight end with an error."""
        for connection in (*self._replaced, self._connection):
            await connection.close()
        if self._worker_connection is not None:
            await self._worker_connection.close()

    async def predict(self, request: PredictionsRequest, timeout: float | None) -> pb.Explanation:
        """Call TorchServe until there is an answer, attempts are used up, or time is.

        Raises:
            OuzelError: The error of the last attempt, or the one that the answer carries.
        """
        if self._missing is not None:
            raise self._missing
        deadline = time.monotonic() + self._seconds(timeout)
        size, limit = request.ByteSize(), self.options.max_request_bytes
        if size > limit:
            raise InvalidArgument(
                f"image: the request of {size} bytes is larger than max_request_bytes, {limit}", field="image"
            )
        pauses = self.options.retry.pauses()
        while True:
            target = self._address.target
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise DeadlineExceeded(f"{target}: no time left to send the request")
            try:
                return explanation.envelope(await self._connection.predict(request, remaining))
            except RETRIED as error:
                await self.pause(next(pauses, None), deadline, error)
                self._look_again()
            except Unauthenticated:
                if self._look_again():
                    continue
                if not config.restarting(self.options.target, self.options.token, self._address):
                    raise
                gone = Unavailable(f"{target}: the services are being started again; `ouzel status` shows them")
                await self.pause(next(pauses, None), deadline, gone)

    async def call(self, method: str, request: Message, answer: type[M], timeout: float | None = None) -> M:
        """Call the worker until there is an answer, attempts are used up, or time is; all of its methods allow that.

        Args:
            method: Its path: "/ouzel.v1.JobService/GetJob".
            request: Its message.
            answer: The type of the answer.
            timeout: Seconds for all attempts together, None for the client's.
        """
        deadline = time.monotonic() + self._seconds(timeout)
        pauses = self.options.retry.pauses()
        while True:
            try:
                left = max(deadline - time.monotonic(), 0.001)
                return await self._worker().call(method, request, answer, left)
            except Unavailable as error:
                await self.pause(next(pauses, None), deadline, error)

    def stream(self, method: str, request: Message, answer: type[M], timeout: float) -> AsyncGenerator[M]:
        """One attempt of a method of the worker with a stream of answers. Close it, or read it to its end."""
        return self._worker().stream(method, request, answer, timeout)

    async def send(self, method: str, requests: Iterator[Message], answer: type[M], timeout: float) -> M:
        """One attempt of a method of the worker that is sent a stream."""
        return await self._worker().send(method, requests, answer, timeout)

    def converse(self, method: str, answer: type[M], timeout: float) -> backend.Conversation[M]:
        """One attempt of a method of the worker with streams in both directions. Close it."""
        return self._worker().converse(method, answer, timeout)

    async def pause(self, seconds: float | None, deadline: float, error: OuzelError) -> None:
        """Wait before the next attempt. Raises `error` if there is no further attempt, or no time for it."""
        if seconds is None or time.monotonic() + seconds >= deadline:
            raise error
        logger.debug("trying again in %.2f s: %s", seconds, error)
        await backend.sleep(seconds)

    async def patient_pause(self, since: float, error: OuzelError) -> None:
        """Wait for a worker that is away, restarting say: a minute from `since` on. Raises `error` after that."""
        if time.monotonic() - since > _PATIENCE:
            raise error
        await backend.sleep(_PATIENT_PAUSE)

    def _look_again(self) -> bool:
        """Local services that were started again have new tokens, and perhaps another address; returns whether so."""
        try:
            address = config.find(self.options.target, self.options.token)
        except ConfigurationError:
            return False
        if address == self._address or not address.token:
            return False
        self._replaced.append(self._connection)
        self._address = address
        self._connection = backend.Connection(address, self.options.max_response_bytes, self.options.credentials)
        return True

    def _worker(self) -> backend.Connection:
        """The connection to the worker, looked for when it is first needed. Raises ConfigurationError."""
        if self._worker_connection is None:
            address = config.find_worker(self.options.worker, self.options.worker_token)
            self._worker_connection = backend.Connection(
                address, self.options.max_response_bytes, self.options.credentials
            )
        return self._worker_connection

    def _seconds(self, timeout: float | None) -> float:
        return self.options.timeout if timeout is None else checked_timeout(timeout)


def _located(options: TransportOptions) -> tuple[config.Address, ConfigurationError | None]:
    """Where to explain; and why nowhere, if there is at least a worker. Raises ConfigurationError."""
    try:
        return config.find(options.target, options.token), None
    except ConfigurationError as missing:
        if options.target or not config.has_worker(options.worker):
            raise
        return config.Address(""), missing
