"""Ouzel's own way to ask: predictions and maps in one call, as TorchServe's clients ask over gRPC, and over REST."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ouzel import images
from ouzel.errors import InvalidArgument
from ouzel.explain import JSON, PNG, PROTOBUF, RawRequest, header_text, negotiate, read_row
from ouzel.explain import media as drawing
from ouzel.explain.options import parse
from ouzel.gateway import multipart, problems
from ouzel.gateway.access.caller import Caller
from ouzel.gateway.door import Door, check_answers
from ouzel.gateway.engine import Row
from ouzel.gateway.grpc_calls import Context, Unary, parsed, seconds_left
from ouzel.gateway.http_calls import Calls, seconds, while_connected
from ouzel_protos.torchserve import PREDICTIONS
from ouzel_protos.torchserve.inference_pb2 import PredictionResponse, PredictionsRequest
from ouzel_protos.v1 import explain_pb2 as pb

_LARGE = 2**16  # bytes that are read or rendered in a thread
OPTIONS = "x-ouzel-options"


class PredictionsService:
    """TorchServe's method over gRPC, so that Ouzel's client works here as it does there.

    Args:
        door: To the engine.
    """

    def __init__(self, door: Door) -> None:
        self._door = door

    def paths(self) -> Iterable[str]:
        """See `Service`."""
        return (PREDICTIONS,)

    def method(self, path: str) -> Unary | None:
        """See `Service`."""
        return self._predictions if path == PREDICTIONS else None

    async def _predictions(self, content: bytes, caller: Caller, context: Context) -> bytes:
        asked = parsed(PredictionsRequest, content)
        with self._door.admit(caller, "explain", asked.model_name):
            deadline = self._door.deadline(seconds_left(context))
            row = _row(read_row(dict(asked.input)))
            (answer,) = await self._door.predict(caller, asked.model_name, asked.model_version, [row], deadline)
            return PredictionResponse(prediction=answer.SerializeToString()).SerializeToString()


class ExplainRest:
    """The forms of `ouzel.explain` over REST: the image as the body, a form, or a JSON document.

    Args:
        calls: What all routes share.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls, self._door = calls, calls.door

    def routes(self) -> list[Route]:
        """Where the handler is."""
        handler = self._calls.route(self._explain, problems.problem)
        paths = ("/v1/models/{model}/explain", "/v1/models/{model}/versions/{version}/explain")
        return [Route(path, handler, methods=["POST"]) for path in paths]

    async def _explain(self, request: Request, caller: Caller) -> Response:
        model, version = request.path_params["model"], request.path_params.get("version", "")
        with self._door.admit(caller, "explain", model):
            media_type = negotiate(request.headers.get("accept"))
            body = await self._calls.body(request, caller)
            read = _read(request, body, media_type)
            if read.image is None and read.tensor is None:
                raise InvalidArgument("image: missing; send PNG, JPEG or WebP bytes", field="image")
            row = _row(read)
            if media_type == PNG and not row.options.saliency and not await self._drawn(model, version, row):
                raise InvalidArgument("saliency: image/png needs at least one map to draw", field="saliency")
            deadline = self._door.deadline(seconds(request))
            work = self._door.predict(caller, model, version, [row], deadline)
            answers = await while_connected(request, work)
            check_answers(answers)
            (answer,) = answers
            if answer.ByteSize() > _LARGE or media_type == PNG:
                content, media_type = await asyncio.to_thread(_rendered, answer, row.image, media_type)
            else:
                content, media_type = _rendered(answer, row.image, media_type)
        return Response(content, media_type=media_type)

    async def _drawn(self, model: str, version: str, row: Row) -> bool:
        """Whether a picture can be drawn without a map: that of the classes, or of the boxes over the image."""
        described = await self._door.engine.describe(model, version)
        return described.segments or (described.detects and row.image is not None)


def _read(request: Request, body: bytes, media_type: str) -> RawRequest:
    kind = request.headers.get("content-type", "")
    form = kind.lower().startswith("multipart/form-data")
    parts = multipart.parts(kind, body) if form else {"body": body} if body else {}
    given = request.headers.getlist(OPTIONS)
    if len(given) > 1:
        raise InvalidArgument(f"{OPTIONS}: comes more than once", field="options")
    return read_row(parts, header_text(given[0]) if given else None, media_type)


def _row(request: RawRequest) -> Row:
    return Row(request.image, request.tensor, parse(request.options))


def _rendered(answer: pb.Explanation, image: bytes | None, media_type: str) -> tuple[bytes, str]:
    """(body, its media type). Pictures are drawn here, with the image that was sent."""
    if media_type != PNG or not (answer.saliency or answer.HasField("segmentation") or answer.HasField("detected")):
        return drawing.render(answer, None, PROTOBUF if media_type == PROTOBUF else JSON)
    return drawing.render(answer, None if image is None else images.decode(image), PNG)
