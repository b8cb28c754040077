"""A served model: predictions and explanations."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sized
from contextlib import aclosing
from typing import Any, Literal, Unpack, overload

from ouzel_client._async._transport import AsyncTransport
from ouzel_client._codec import explanation, images
from ouzel_client._codec.images import ImageInput
from ouzel_client._codec.message import made, put
from ouzel_client._codec.options import encode
from ouzel_client._display.progress import progress_bar
from ouzel_client._pictures.upload import Upload
from ouzel_client._transport import grpc_async as backend
from ouzel_client._types.explanation import Estimate, Explanation
from ouzel_client._types.saliency import ExplainOptions, SaliencyInput, Size, Target, When
from ouzel_client.errors import InvalidArgument, OuzelError
from ouzel_protos.limits import too_small
from ouzel_protos.torchserve.inference_pb2 import PredictionsRequest
from ouzel_protos.v1 import explain_pb2 as pb

_END: Any = object()


class AsyncModel:
    """A served model.

    Attributes:
        name: Its name.
        version: Its version, or empty for the default version.
    """

    def __init__(self, transport: AsyncTransport, name: str, version: str = "") -> None:
        if not isinstance(name, str) or not name:
            raise InvalidArgument(f"model: {name!r} is not a model's name", field="model")
        self._transport = transport
        self.name = name
        self.version = version

    def __repr__(self) -> str:
        version = f"version {self.version!r}" if self.version else "its default version"
        return f"{type(self).__name__}({self.name!r}, {version}, of {self._transport})"

    async def explain(
        self,
        image: ImageInput,
        *,
        saliency: SaliencyInput = (),
        target: Target = None,
        top_k: int | None = None,
        when: When | None = None,
        record: bool = False,
        label_map_size: Size | None = None,
        min_score: float | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> Explanation:
        """Predict, and compute saliency maps of the prediction, in one call.

        A repeated call changes nothing on the server.

        Args:
            image: A path or the bytes of a PNG, JPEG or WebP file, a PIL image, an array uint8 (H, W, 3) or (H, W) of
                pixels, or an array float32 (C, H, W), normalised, of the model's input size.
            saliency: Methods by name, or `Saliency` objects; one or several.
            target: The target of the methods without a target of their own. None is the predicted class.
            top_k: How many classes to return, at least 1. None leaves it to the service.
            when: Compute saliency only if this holds.
            record: Whether the answer becomes an entry of the service's log before it leaves; `ledger` of the result
                proves it. A call that is repeated makes another entry.
            label_map_size: Of a segmentation model: "model" for the resolution of the model's input, "original" for
                that of the image. None is "model", and right for every model.
            min_score: Of a detector: detections that are less probable are left out, in [0, 1]. None is the network's
                own threshold.
            timeout: Seconds that the call may take, retries included. None is the client's.
            request_id: At most 128 characters; the result has it as well. None makes up a new one.

        Raises:
            OuzelError: The tree of errors is at the top of `ouzel_client.errors`.
        """
        sizes: dict[str, Any] = {"label_map_size": label_map_size, "min_score": min_score}
        options = encode(saliency, target=target, top_k=top_k, when=when, record=record, **sizes)
        return await self._explain(image, options, timeout, request_id)

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
    ) -> AsyncIterator[Explanation]: ...

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
    ) -> AsyncIterator[Explanation | OuzelError]: ...

    def explain_many(
        self,
        images: Iterable[ImageInput],
        *,
        in_flight: int = 8,
        progress: bool | None = None,
        on_error: Literal["raise", "return"] = "raise",
        timeout: float | None = None,
        **options: Unpack[ExplainOptions],
    ) -> AsyncIterator[Explanation | OuzelError]:
        """Explain many images, several at a time.

        To leave the loop early cancels what is in flight.

        Args:
            images: Images as `explain` takes them. They are read as results are consumed, at most 2 * in_flight ahead.
            in_flight: Most requests at a time.
            progress: Whether to show a progress bar. None shows one on a terminal if rich is installed.
            on_error: "raise" ends at the first image that fails; "return" yields its OuzelError instead of a result.
            timeout: Seconds for each image, retries included. None is the client's.
            **options: See `ExplainOptions`.

        Yields:
            The results in the order of the images, each as soon as it and those before it are there.

        Raises:
            OuzelError: What `explain` raises, with on_error="raise".
        """
        if problem := too_small(in_flight, 1):
            raise InvalidArgument(f"in_flight: {problem}", field="in_flight")
        if on_error not in ("raise", "return"):
            raise InvalidArgument(f"on_error: {on_error!r} is neither 'raise' nor 'return'", field="on_error")
        message = encode(options.pop("saliency", ()), **options)  # type: ignore[misc]  # what is left fits
        results = self._explain_many(images, message, in_flight, timeout)
        total = len(images) if isinstance(images, Sized) else None
        return _presented(results, on_error == "raise", progress, total)

    async def estimate(
        self,
        image: ImageInput,
        *,
        saliency: SaliencyInput = (),
        target: Target = None,
        top_k: int | None = None,
        label_map_size: Size | None = None,
        min_score: float | None = None,
        timeout: float | None = None,
    ) -> Estimate:
        """What `explain` with the same arguments would cost. Nothing is computed.

        Args:
            image: See `explain`.
            saliency: See `explain`.
            target: See `explain`.
            top_k: See `explain`.
            label_map_size: See `explain`.
            min_score: See `explain`.
            timeout: See `explain`.

        Raises:
            OuzelError: What `explain` raises.
        """
        sizes: dict[str, Any] = {"label_map_size": label_map_size, "min_score": min_score}
        options = encode(saliency, target=target, top_k=top_k, estimate_only=True, **sizes)
        upload = await self._upload(image)
        return explanation.estimate(await self._call(upload, options, timeout, None))

    async def _explain_many(
        self, images: Iterable[ImageInput], options: pb.ExplainOptions, in_flight: int, timeout: float | None
    ) -> AsyncGenerator[Explanation | OuzelError]:
        async with backend.Tasks(in_flight) as tasks:
            waiting: deque[backend.Task[Explanation | OuzelError]] = deque()
            source = iter(images)
            while (image := await backend.run(next, source, _END)) is not _END:
                waiting.append(tasks.start(self._result, image, options, timeout))
                # A slow one must not keep the others from being sent: up to in_flight may be done and wait for it.
                while waiting and (waiting[0].done() or len(waiting) >= 2 * in_flight):
                    yield await waiting.popleft().result()
            while waiting:
                yield await waiting.popleft().result()

    async def _result(
        self, image: ImageInput, options: pb.ExplainOptions, timeout: float | None
    ) -> Explanation | OuzelError:
        try:
            return await self._explain(image, options, timeout, None)
        except OuzelError as error:
            return error

    async def _explain(
        self, image: ImageInput, options: pb.ExplainOptions, timeout: float | None, request_id: str | None
    ) -> Explanation:
        upload = await self._upload(image)
        return explanation.explanation(await self._call(upload, options, timeout, request_id), upload)

    async def _upload(self, image: ImageInput) -> Upload:
        return await backend.run(images.read, image, self._transport.options.max_request_bytes)

    async def _call(
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
        return await self._transport.predict(request, timeout)


async def _presented(
    results: AsyncGenerator[Explanation | OuzelError], raises: bool, progress: bool | None, total: int | None
) -> AsyncIterator[Explanation | OuzelError]:
    """Results with a progress bar; errors are raised if `raises`. Closes `results` in any case."""
    async with aclosing(results):
        with progress_bar(progress, total) as advance:
            async for result in results:
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
