# Generated from _async/_client.py by scripts/unasync.py (`make sync`). Do not edit.
# ruff: noqa: I001, SIM117, RUF100
# fmt: off
"""The client: it owns a transport and the resources that use it."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from ouzel_client._sync._audit import Audit
from ouzel_client._sync._datasets import Datasets
from ouzel_client._sync._jobs import Jobs
from ouzel_client._sync._models import Models
from ouzel_client._sync._transport import Transport
from ouzel_client._transport import config
from ouzel_client._transport.options import TransportOptions
from ouzel_client._transport.retry import Retry

if TYPE_CHECKING:
    import grpc


class Client:
    """Calls Ouzel's services over gRPC. Close it, or use it as a context manager.

    Args:
        target: "host:port" of the services' gRPC. Default: OUZEL_GRPC, else the services that `ouzel up` started here.
        token: The inference token. Default: OUZEL_TOKEN, else that of the local services.
        timeout: Seconds that a call may take, retries included, unless the call gives its own.
        retry: When to try again after Unavailable and Overloaded.
        max_request_bytes: Largest request that the services take; checked before anything is sent.
        max_response_bytes: Largest answer that is accepted.
        credentials: gRPC channel credentials for TLS. None speaks plain text, as local services do.
        worker: "host:port" of the worker, for jobs. Default: OUZEL_WORKER, else the worker that was started here.
        worker_token: Its token. Default: OUZEL_WORKER_TOKEN, else that of the local worker.

    Raises:
        ConfigurationError: No services are found, or a limit is less than one byte.
        InvalidArgument: The timeout is not a positive number.
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
        options = TransportOptions(
            target=target,
            token=token,
            timeout=timeout,
            retry=retry or Retry(),
            max_request_bytes=max_request_bytes,
            max_response_bytes=max_response_bytes,
            credentials=credentials,
            worker=worker,
            worker_token=worker_token,
        )
        self._transport = Transport(options, owner=type(self).__name__)
        self._models = Models(self._transport)
        self._jobs = Jobs(self._transport)
        self._datasets = Datasets(self._transport)
        self._audit = Audit(self._transport)

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

    @property
    def audit(self) -> Audit:
        """Audits of predictions: `client.audit("goat.jpg", claimed="goat", model="lite0", mask="goat.mask.png")`."""
        return self._audit

    def close(self) -> None:
        """Close the connections; calls in flight end with an error. More than once does no harm."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return str(self._transport)
