"""The models by name, and their versions in the worker's store."""

from __future__ import annotations

from typing import NoReturn

from google.protobuf.empty_pb2 import Empty

from ouzel_client._async._model import AsyncModel
from ouzel_client._async._transport import AsyncTransport
from ouzel_client._codec.message import made
from ouzel_client._codec.models import model_details, reference, stored_model
from ouzel_client._types.models import ModelDetails, StoredModel
from ouzel_protos.v1 import model_pb2

SERVICE = "/ouzel.v1.ModelService/"


class AsyncModels:
    """The served models, by name. Nothing is asked of the services until a model is used."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def __getitem__(self, name: str) -> AsyncModel:
        """A model by "NAME", which is its default version, or by "NAME@VERSION".

        Raises:
            InvalidArgument: It is not a name.
        """
        return self.get(name)

    def get(self, name: str, *, version: str = "") -> AsyncModel:
        """A version of a model.

        Args:
            name: "NAME" or "NAME@VERSION".
            version: The version, if the name does not have it. Empty for the default version.

        Raises:
            InvalidArgument: It is not a name, or two versions are named.
        """
        return AsyncModel(self._transport, *reference(name, version))

    def __iter__(self) -> NoReturn:
        """Refuses: models are named by callers, and listing them asks a service."""
        raise TypeError("models are not iterated over; list() gives those of the store")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(of {self._transport})"

    async def list(self, name: str = "") -> tuple[StoredModel, ...]:
        """The models of the worker's store, by name and version.

        Args:
            name: Only this model: "NAME", or "NAME@VERSION" for one version. Empty for all.
        """
        name, version = reference(name) if name else ("", "")
        answer = await self._transport.call(
            SERVICE + "ListModels", made(model_pb2.ListModelsRequest, name=name), model_pb2.ListModelsResponse
        )
        return tuple(stored_model(each) for each in answer.models if version in ("", each.version))

    async def describe(self, name: str, version: str = "", timeout: float = 300.0) -> ModelDetails:
        """Layers, labels and preprocessing of a model of the store. Takes seconds the first time.

        Args:
            name: "NAME" or "NAME@VERSION".
            version: The version, if the name does not have it. Empty for the default version.
            timeout: Seconds that the call may take, retries included.

        Raises:
            NotFound: There is no such model.
        """
        name, version = reference(name, version)
        request = made(model_pb2.GetModelRequest, name=name, version=version)
        answer = await self._transport.call(SERVICE + "GetModel", request, model_pb2.ModelDetails, timeout)
        return model_details(answer)

    async def promote(self, name: str, version: str = "", timeout: float = 300.0) -> StoredModel:
        """Make a version of a model its default: callers who name no version get it.

        Calls in flight are not disturbed. A version that is not loaded is loaded first, which takes seconds.

        Args:
            name: "NAME" or "NAME@VERSION".
            version: The version, if the name does not have it. One must be named.
            timeout: Seconds that the call may take, retries included.

        Raises:
            NotFound: There is no such version.
            FailedPrecondition: It is a model of the operator.
        """
        name, version = reference(name, version, needed=True)
        request = made(model_pb2.PromoteModelRequest, name=name, version=version)
        return stored_model(await self._transport.call(SERVICE + "PromoteModel", request, model_pb2.Model, timeout))

    async def delete(self, name: str, version: str = "") -> None:
        """Remove one version of a tuned model.

        Args:
            name: "NAME" or "NAME@VERSION".
            version: The version, if the name does not have it. One must be named.

        Raises:
            NotFound: There is no such version.
            FailedPrecondition: It is the default and there are other versions, or it is a model of the operator.
        """
        name, version = reference(name, version, needed=True)
        request = made(model_pb2.DeleteModelRequest, name=name, version=version)
        await self._transport.call(SERVICE + "DeleteModel", request, Empty)
