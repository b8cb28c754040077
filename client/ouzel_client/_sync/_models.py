# Generated from _async/_models.py by scripts/unasync.py (`make sync`). Do not edit.
# ruff: noqa: I001, SIM117, RUF100
# fmt: off
"""Models by name, and what can be asked of one."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterator, Iterable, Sized
from contextlib import closing
from typing import Any, Literal, TypedDict, Unpack, overload

from google.protobuf.empty_pb2 import Empty

from ouzel_client._sync._transport import Transport
from ouzel_client._codec import explanation, images
from ouzel_client._codec.images import ImageInput
from ouzel_client._codec.message import made, put
from ouzel_client._codec.options import encode
from ouzel_client._display.progress import progress_bar
from ouzel_client._pictures.upload import Upload
from ouzel_client._transport import grpc_sync as backend
from ouzel_client._types.explanation import Estimate, Explanation
from ouzel_client._types.models import ModelDetails, StoredModel, model_details, reference, stored_model
from ouzel_client._types.saliency import Target, When, Wishes
from ouzel_client.errors import InvalidArgument, OuzelError
from ouzel_protos.torchserve.inference_pb2 import PredictionsRequest
from ouzel_protos.v1 import explain_pb2 as pb
from ouzel_protos.v1 import model_pb2

SERVICE = "/ouzel.v1.ModelService/"
_END: Any = object()


class ExplainOptions(TypedDict, total=False):
    """Options that `explain` and `explain_many` share; see `explain`."""

    saliency: Wishes
    target: Target
    top_k: int | None
    when: When | None


class Models:
    """The served models, by name. Nothing is asked of the services until a model is used."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def __getitem__(self, name: str) -> Model:
        """A model by "NAME", its default version, or by "NAME@VERSION"."""
        return self.get(name)

    def get(self, name: str, *, version: str = "") -> Model:
        """One version of a model, "NAME@VERSION" as well; empty for the default version."""
        return Model(self._transport, *reference(name, version))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(of {self._transport})"

    def list(self, name: str = "") -> tuple[StoredModel, ...]:
        """What the worker's store holds, by name and version; of one model if it is named, also as "NAME@VERSION"."""
        name, version = reference(name) if name else ("", "")
        answer = self._transport.call(
            SERVICE + "ListModels", made(model_pb2.ListModelsRequest, name=name), model_pb2.ListModelsResponse
        )
        return tuple(stored_model(each) for each in answer.models if version in ("", each.version))

    def describe(self, name: str, version: str = "", timeout: float = 300.0) -> ModelDetails:
        """Layers, labels and preprocessing of a model of the store; takes seconds the first time. Raises NotFound.

        name: "NAME", or "NAME@VERSION" instead of version.
        """
        name, version = reference(name, version)
        request = made(model_pb2.GetModelRequest, name=name, version=version)
        answer = self._transport.call(SERVICE + "GetModel", request, model_pb2.ModelDetails, timeout)
        return model_details(answer)

    def promote(self, name: str, version: str = "", timeout: float = 300.0) -> StoredModel:
        """Give callers who name no version this one; calls in flight are not disturbed. A version that is not loaded is
        loaded first, which takes seconds. Raises NotFound, or FailedPrecondition for a model of the operator.

        name: "NAME", or "NAME@VERSION" instead of version.
        """
        name, version = reference(name, version, needed=True)
        request = made(model_pb2.PromoteModelRequest, name=name, version=version)
        return stored_model(self._transport.call(SERVICE + "PromoteModel", request, model_pb2.Model, timeout))

    def delete(self, name: str, version: str = "") -> None:
        """Remove one version of a tuned model. Raises NotFound, or FailedPrecondition for the default beside others.

        name: "NAME", or "NAME@VERSION" instead of version.
        """
        name, version = reference(name, version, needed=True)
        request = made(model_pb2.DeleteModelRequest, name=name, version=version)
        self._transport.call(SERVICE + "DeleteModel", request, Empty)


class Model:
    """One served model."""

    def __init__(self, transport: Transport, name: str, version: str = "") -> None:
        if not isinstance(name, str) or not name:
            raise InvalidArgument(f"model: {name!r} is not a model's name", field="model")
        self._transport = transport
        self.name = name
        self.version = version

    def __repr__(self) -> str:
        version = f"version {self.version!r}" if self.version else "its default version"
        return f"{type(self).__name__}({self.name!r}, {version}, of {self._transport})"

    def explain(
        self,
        image: ImageInput,
        *,
        saliency: Wishes = (),
        target: Target = None,
        top_k: int | None = None,
        when: When | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> Explanation:
        """Predict, and compute saliency maps of the prediction, in one call.

        image: a path or the bytes of a PNG, JPEG or WebP file, a PIL image, an array uint8 (H, W, 3) or (H, W) of
        pixels, or an array float32 (C, H, W), normalised, of the model's input size.
        saliency: methods by name, or `Saliency` objects; one or several. target: of those that name none themselves;
        None is the predicted class. top_k: how many classes to return. when: compute saliency only if this holds.
        timeout: seconds for the whole call, retries included; None is the client's. request_id: at most 128
        characters, comes back in the result; made up if not given. A repeated call changes nothing on the server.
        Raises OuzelError; the tree is at the top of `ouzel_client.errors`.
        """
        options = encode(saliency, target=target, top_k=top_k, when=when)
        return self._explain(image, options, timeout, request_id)

    @overload
    def explain_many(
        self,
        images: Iterable[ImageInput],
        *,
        in_flight: int = ...,
        progress: bool | None = ...,
        on_error: Literal["raise"] = ...,
        timeout: float | None = ...,
        **options: Unpack[ExplainOptions],
    ) -> Iterator[Explanation]: ...

    @overload
    def explain_many(
        self,
        images: Iterable[ImageInput],
        *,
        in_flight: int = ...,
        progress: bool | None = ...,
        on_error: Literal["return"],
        timeout: float | None = ...,
        **options: Unpack[ExplainOptions],
    ) -> Iterator[Explanation | OuzelError]: ...

    def explain_many(
        self,
        images: Iterable[ImageInput],
        *,
        in_flight: int = 8,
        progress: bool | None = None,
        on_error: Literal["raise", "return"] = "raise",
        timeout: float | None = None,
        **options: Unpack[ExplainOptions],
    ) -> Iterator[Explanation | OuzelError]:
        """Explain many images and yield the results in the order of the images, each as soon as it can be.

        images: read as results are consumed, at most 2 * in_flight ahead. in_flight: requests at a time. progress: show
        a bar; None does so on a terminal if rich is installed. on_error: "raise" ends at the first image that fails;
        "return" yields its OuzelError in the result's place. The other options, and timeout for each image, are those
        of `explain`. Leaving the loop early calls off what is in flight.
        """
        if in_flight < 1:
            raise InvalidArgument(f"in_flight: {in_flight} is less than 1", field="in_flight")
        if on_error not in ("raise", "return"):
            raise InvalidArgument(f"on_error: {on_error!r} is neither 'raise' nor 'return'", field="on_error")
        message = encode(options.pop("saliency", ()), **options)  # type: ignore[misc]  # what is left fits
        results = self._explain_many(images, message, in_flight, timeout)
        total = len(images) if isinstance(images, Sized) else None
        return _presented(results, on_error == "raise", progress, total)

    def estimate(
        self,
        image: ImageInput,
        *,
        saliency: Wishes = (),
        target: Target = None,
        top_k: int | None = None,
        timeout: float | None = None,
    ) -> Estimate:
        """What `explain` with the same options would cost; nothing is computed."""
        options = encode(saliency, target=target, top_k=top_k, estimate_only=True)
        upload = self._upload(image)
        return explanation.estimate(self._call(upload, options, timeout, None))

    def _explain_many(
        self, images: Iterable[ImageInput], options: pb.ExplainOptions, in_flight: int, timeout: float | None
    ) -> Iterator[Explanation | OuzelError]:
        with backend.Tasks(in_flight) as tasks:
            waiting: deque[backend.Task[Explanation | OuzelError]] = deque()
            source = iter(images)
            while (image := backend.run(next, source, _END)) is not _END:
                waiting.append(tasks.start(self._result, image, options, timeout))
                # A slow one must not keep the others from being sent: up to in_flight may be done and wait for it.
                while waiting and (waiting[0].done() or len(waiting) >= 2 * in_flight):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _result(
        self, image: ImageInput, options: pb.ExplainOptions, timeout: float | None
    ) -> Explanation | OuzelError:
        try:
            return self._explain(image, options, timeout, None)
        except OuzelError as error:
            return error

    def _explain(
        self, image: ImageInput, options: pb.ExplainOptions, timeout: float | None, request_id: str | None
    ) -> Explanation:
        upload = self._upload(image)
        return explanation.explanation(self._call(upload, options, timeout, request_id), upload)

    def _upload(self, image: ImageInput) -> Upload:
        return backend.run(images.read, image, self._transport.options.max_request_bytes)

    def _call(
        self, upload: Upload, options: pb.ExplainOptions, timeout: float | None, request_id: str | None
    ) -> pb.Explanation:
        named = pb.ExplainOptions()
        named.CopyFrom(options)
        put(named, "request_id", _checked_id(request_id))
        named.timeout = (
            self._transport.options.timeout if timeout is None else timeout
        )  # lets the server stop after our deadline
        request = made(
            PredictionsRequest,
            model_name=self.name,
            model_version=self.version,
            input={upload.key: upload.data, "options": named.SerializeToString()},
        )
        return self._transport.predict(request, timeout)


def _presented(
    results: Iterator[Explanation | OuzelError], raises: bool, progress: bool | None, total: int | None
) -> Iterator[Explanation | OuzelError]:
    """Results with a progress bar, errors raised if so wished. Closes `results` in any case."""
    with closing(results):  # type: ignore[type-var]  # a generator
        with progress_bar(progress, total) as advance:
            for result in results:
                advance()
                if raises and isinstance(result, OuzelError):
                    raise result
                yield result


def _checked_id(request_id: str | None) -> str:
    if request_id is None:
        return uuid.uuid4().hex
    if not isinstance(request_id, str) or len(request_id) > 128:
        raise InvalidArgument(
            f"request_id: {request_id!r:.140} is not a text of at most 128 characters", field="request_id"
        )
    return request_id
