"""The client: it owns a transport and the resources that use it."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from ouzel_client._async._audit import AsyncAudit
from ouzel_client._async._datasets import AsyncDatasets
from ouzel_client._async._jobs import AsyncJobs
from ouzel_client._async._models import AsyncModels
from ouzel_client._async._transport import AsyncTransport
from ouzel_client._transport import config
from ouzel_client._transport.options import TransportOptions
from ouzel_client._transport.retry import Retry

if TYPE_CHECKING:
    import grpc


class AsyncClient:
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
        self._transport = AsyncTransport(options, owner=type(self).__name__)
        self._models = AsyncModels(self._transport)
        self._jobs = AsyncJobs(self._transport)
        self._datasets = AsyncDatasets(self._transport)
        self._audit = AsyncAudit(self._transport)

    @property
    def models(self) -> AsyncModels:
        """The served models: `client.models["efficientnet-lite0"]`."""
        return self._models

    @property
    def jobs(self) -> AsyncJobs:
        """The jobs of the worker: `client.jobs.maximize("efficientnet-lite0", logit="tabby")`."""
        return self._jobs

    @property
    def datasets(self) -> AsyncDatasets:
        """The data sets that jobs learn from: `client.datasets.upload("folder/")`."""
        return self._datasets

    @property
    def audit(self) -> AsyncAudit:
        """Audits of predictions: `client.audit("goat.jpg", claimed="goat", model="lite0", mask="goat.mask.png")`."""
        return self._audit

    async def close(self) -> None:
        """Close the connections; calls in flight end with an error. More than once does no harm."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return str(self._transport)
