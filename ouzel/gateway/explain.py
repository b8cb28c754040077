"""Ouzel's own way to ask: predictions and maps in one call, as TorchServe's clients ask over gRPC, and over REST."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ouzel import images
from ouzel.bounded_messages import parsed
from ouzel.errors import InvalidArgument
from ouzel.explain import JSON, PNG, PROTOBUF, RawRequest, header_text, negotiate, read_row
from ouzel.explain import media as drawing
from ouzel.explain.options import parse
from ouzel.gateway.access.caller import Caller
from ouzel.gateway.answers import check_answers
from ouzel.gateway.door import Door
from ouzel.gateway.engine import Row
from ouzel.gateway.grpc_calls import Context, Unary, seconds_left
from ouzel.gateway.rest import multipart, problems
from ouzel.gateway.rest.http_calls import Calls, seconds, single, while_connected
from ouzel_protos.torchserve import PREDICTIONS
from ouzel_protos.torchserve.inference_pb2 import PredictionResponse, PredictionsRequest
from ouzel_protos.v1 import explain_pb2 as pb

_LARGE = 2**16  # bytes that are read or rendered in a thread
_PARTS = 100  # elements of the message with the parts of a request
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
        asked = parsed(PredictionsRequest, content, _PARTS)
        with self._door.admit(caller, "explain", asked.model_name):
            deadline = self._door.deadline(seconds_left(context))
            parts = dict(asked.input)
            if len(content) > _LARGE:
                row = await self._door.aside(caller, deadline, _row_of, parts)
            else:
                row = _row_of(parts)
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
            given, kind = single(request, OPTIONS), request.headers.get("content-type", "")
            aside = self._calls.aside(request, caller)
            if len(body) > _LARGE:
                row = await while_connected(request, aside(_read, kind, body, given, media_type))
            else:
                row = _read(kind, body, given, media_type)
            if media_type == PNG and not row.options.saliency and not await self._drawn(caller, model, version, row):
                raise InvalidArgument("saliency: image/png needs at least one map to draw", field="saliency")
            deadline = self._door.deadline(seconds(request))
            work = self._door.predict(caller, model, version, [row], deadline)
            answers = await while_connected(request, work)
            check_answers(answers)
            (answer,) = answers
            if answer.ByteSize() > _LARGE or media_type == PNG:
                content, media_type = await aside(_rendered, answer, row.image, media_type)
            else:
                content, media_type = _rendered(answer, row.image, media_type)
        return Response(content, media_type=media_type)

    async def _drawn(self, caller: Caller, model: str, version: str, row: Row) -> bool:
        """Whether a picture can be drawn without a map: that of the classes, or of the boxes over the image."""
        described = await self._door.found(caller, model, version)
        return described.segments or (described.detects and row.image is not None)


def _row_of(parts: Mapping[str, bytes]) -> Row:
    return _row(read_row(parts))


def _read(kind: str, body: bytes, given: str | None, media_type: str) -> Row:
    """The row of a body. kind, given: the content type, and the header of options."""
    form = kind.lower().startswith("multipart/form-data")
    parts = multipart.parts(kind, body) if form else {"body": body} if body else {}
    read = read_row(parts, None if given is None else header_text(given), media_type)
    if read.image is None and read.tensor is None:
        raise InvalidArgument("image: missing; send PNG, JPEG or WebP bytes", field="image")
    return _row(read)


def _row(request: RawRequest) -> Row:
    return Row(request.image, request.tensor, parse(request.options))


def _rendered(answer: pb.Explanation, image: bytes | None, media_type: str) -> tuple[bytes, str]:
    """(body, its media type). Pictures are drawn here, with the image that was sent."""
    if media_type != PNG or not (answer.saliency or answer.HasField("segmentation") or answer.HasField("detected")):
        return drawing.render(answer, None, PROTOBUF if media_type == PROTOBUF else JSON)
    return drawing.render(answer, None if image is None else images.decode(image), PNG)
