"""Asks the worker for audits, over gRPC as any client does."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import grpc

from ouzel.errors import FailedPrecondition
from ouzel.pages.texts import visible
from ouzel.sink.config import SinkConfig
from ouzel_protos import local
from ouzel_protos.v1 import audit_pb2 as pb
from ouzel_protos.v1.audit_pb2_grpc import AuditServiceStub

_PROBE = 5.0  # s
_LARGEST_ANSWER = 64 * 2**20
_OPTIONS = [("grpc.max_receive_message_length", _LARGEST_ANSWER), ("grpc.use_local_subchannel_pool", 1)]
_BUSY = grpc.StatusCode.RESOURCE_EXHAUSTED
_CLOSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED)
# Of the worker's log, which takes no entries now, whatever the audit: the log is refused, or its database is down.
_UNRECORDED = re.compile("the audit could not be recorded, so it is not done(: the log is refused|$)")
_AGAIN = (
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.DATA_LOSS,
)


class WorkerDown(Exception):
    """The worker takes no audit now, whichever it is. The message says why."""


class AskAgain(Exception):
    """This audit did not end, and may do so later."""


class Refused(Exception):
    """The worker refuses this audit for good."""


class Auditing(Protocol):
    """Who audits."""

    def audit(self, request: pb.AuditPredictionRequest) -> pb.PredictionAudit:
        """One audit. Raises WorkerDown, AskAgain or Refused."""

    def close(self) -> None:
        """Ends what is under way."""


class Worker:
    """A worker, or the one of this machine, which may start again at another address.

    Args:
        config: Where it is.
    """

    def __init__(self, config: SinkConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._target = ""
        self._call: grpc.Future | None = None
        self._closed = False

    def audit(self, request: pb.AuditPredictionRequest) -> pb.PredictionAudit:
        """See `Auditing`."""
        stub, metadata = self._open()
        call = stub.AuditPrediction.future(request, timeout=self._config.audit_s, metadata=metadata)
        with self._lock:
            self._call = call
            closed = self._closed
        if closed:
            call.cancel()
        try:
            answer: pb.PredictionAudit = call.result()
            return answer
        except (grpc.FutureCancelledError, grpc.RpcError):
            raise self._meaning(call.code(), call.details() or "", lambda: self._alive(stub, metadata)) from None

    def close(self) -> None:
        """See `Auditing`."""
        with self._lock:
            self._closed = True
            call, channel = self._call, self._channel
        if call is not None:
            call.cancel()
        if channel is not None:
            channel.close()

    def _meaning(self, code: grpc.StatusCode, details: str, alive: Callable[[], str]) -> Exception:
        told = f"{code.name}: {visible(details, 400)}"
        if code is _BUSY:
            return WorkerDown(f"the worker is busy ({told})")
        if _UNRECORDED.match(details):
            return WorkerDown(f"the worker's log takes no entries ({told})")
        if code in _CLOSED:
            return WorkerDown(f"the worker does not take audits ({told})")
        if code is grpc.StatusCode.UNAVAILABLE:
            # The worker, or what it asked? Only the latter counts against the pair.
            return AskAgain(told) if not (problem := alive()) else WorkerDown(problem)
        return AskAgain(told) if code in _AGAIN else Refused(told)

    def _alive(self, stub: AuditServiceStub, metadata: list[tuple[str, str]]) -> str:
        """Why the worker does not answer; "" if it does."""
        try:
            stub.ListAuditSources(pb.ListAuditSourcesRequest(), timeout=_PROBE, metadata=metadata)
        except grpc.RpcError as error:
            with self._lock:  # a worker that starts again may have another address
                self._target = ""
            return f"the worker does not answer ({error.code().name})"
        return ""

    def _open(self) -> tuple[AuditServiceStub, list[tuple[str, str]]]:
        target, token = self._where()
        with self._lock:
            if self._channel is None or target != self._target:
                if self._channel is not None:
                    self._channel.close()
                self._channel, self._target = self._connect(target), target
            return AuditServiceStub(self._channel), [("authorization", f"Bearer {token}")] if token else []

    def _connect(self, target: str) -> grpc.Channel:
        if not self._config.worker_ca:
            return grpc.insecure_channel(target, _OPTIONS)
        try:
            roots = Path(self._config.worker_ca).read_bytes()
        except OSError as error:
            raise WorkerDown(f"worker_ca: cannot be read ({error.strerror})") from None
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(roots), _OPTIONS)

    def _where(self) -> tuple[str, str]:
        """Address and token."""
        try:
            own = self._config.worker_token.reveal() if self._config.worker_token else ""
        except FailedPrecondition as error:
            raise WorkerDown(f"worker_token: {error}") from None
        record = local.read_worker()
        if self._config.worker and (own or record is None or record["grpc"] != self._config.worker):
            return self._config.worker, own
        if record is None:
            raise WorkerDown("no worker is found on this machine; start one, or state `worker`")
        try:
            return record["grpc"], own or Path(record["token_file"]).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            raise WorkerDown("the token of this machine's worker cannot be read") from None
