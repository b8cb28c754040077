"""The protocol over REST."""

from __future__ import annotations

import math

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ouzel.errors import NotFound, OuzelError, Unimplemented
from ouzel.gateway.access.caller import Caller
from ouzel.gateway.oip import json_bodies, metadata, triton
from ouzel.gateway.oip.infer import infer
from ouzel.gateway.rest import bodies, problems
from ouzel.gateway.rest.http_calls import Calls, seconds, single, while_connected

_LARGE = 2**16  # bytes of a body that are read in a thread
_BINARY = "application/octet-stream"
_MEMORY = "tensors in shared memory are not read; send their bytes"
_STREAM = "answers do not come in parts; ask infer"
_OPERATOR = "is the operator's, not through the door"
# What Triton's clients may ask besides: said to be not spoken, as gRPC says it, rather than not to be there.
_NOT_SPOKEN = {
    "/v2/repository/models/{model}/load": "models are loaded and unloaded by the operator",
    "/v2/repository/models/{model}/unload": "models are loaded and unloaded by the operator",
    "/v2/systemsharedmemory/{rest:path}": _MEMORY,
    "/v2/cudasharedmemory/{rest:path}": _MEMORY,
    "/v2/models/{model}/generate": _STREAM,
    "/v2/models/{model}/generate_stream": _STREAM,
    "/v2/models/{model}/versions/{version}/generate": _STREAM,
    "/v2/models/{model}/versions/{version}/generate_stream": _STREAM,
    "/v2/models/{model}/trace/setting": _OPERATOR,
    "/v2/trace/setting": _OPERATOR,
    "/v2/logging": _OPERATOR,
}


class OipRest:
    """The routes.

    Args:
        calls: What all routes share.
        most_rows: Of one request.
    """

    def __init__(self, calls: Calls, most_rows: int) -> None:
        self._calls, self._door, self._most_rows = calls, calls.door, most_rows

    def routes(self) -> list[Route]:
        """Where the handlers are. Who asks for health needs no name."""
        routes = [
            Route("/v2", self._server, methods=["GET"]),
            Route("/v2/health/live", self._live, methods=["GET"]),
            Route("/v2/health/ready", self._ready, methods=["GET"]),
            Route("/v2/models/stats", self._calls.route(self._all_stats, problems.oip), methods=["GET"]),
            Route("/v2/repository/index", self._calls.route(self._index, problems.oip), methods=["POST"]),
        ]
        for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            routes += [
                Route(path, self._calls.route(self._model, problems.oip), methods=["GET"]),
                Route(f"{path}/config", self._calls.route(self._config, problems.oip), methods=["GET"]),
                Route(f"{path}/stats", self._calls.route(self._stats, problems.oip), methods=["GET"]),
                Route(f"{path}/ready", self._calls.route(self._model_ready, problems.oip), methods=["GET"]),
                Route(f"{path}/infer", self._calls.route(self._infer, problems.oip), methods=["POST"]),
            ]
        refused = self._calls.route(self._not_spoken, problems.oip)
        return [*routes, *(Route(path, refused, methods=["GET", "POST"]) for path in _NOT_SPOKEN)]

    async def _not_spoken(self, request: Request, _caller: Caller) -> Response:
        raise Unimplemented(f"{request.url.path:.120}: {_NOT_SPOKEN[request.scope['route'].path]}")

    async def _server(self, _request: Request) -> Response:
        told = {"name": metadata.SERVER, "version": metadata.version(), "extensions": list(metadata.EXTENSIONS)}
        return JSONResponse(told)

    async def _live(self, _request: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, _request: Request) -> Response:
        try:
            ready = await self._door.ready()
        except OuzelError:
            ready = False
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    async def _index(self, request: Request, caller: Caller) -> Response:
        await self._calls.body(request, caller)
        models = await self._door.models(caller)
        return JSONResponse([{"name": each.name, "version": each.version, "state": "READY"} for each in models])

    async def _model(self, request: Request, caller: Caller) -> Response:
        return JSONResponse(json_bodies.model_metadata(await self._door.describe(caller, *_of(request))))

    async def _config(self, request: Request, caller: Caller) -> Response:
        return JSONResponse(triton.as_json(triton.config(await self._door.describe(caller, *_of(request)))))

    async def _stats(self, request: Request, caller: Caller) -> Response:
        return JSONResponse(triton.as_json(triton.statistics(await self._door.statistics(caller, *_of(request)))))

    async def _all_stats(self, _request: Request, caller: Caller) -> Response:
        return JSONResponse(triton.as_json(triton.statistics(await self._door.statistics(caller, "", ""))))

    async def _model_ready(self, request: Request, caller: Caller) -> Response:
        name, version = _of(request)
        try:
            await self._door.describe(caller, name, version)
        except NotFound:
            return JSONResponse({"name": name, "ready": False}, 404)
        ready = await self._door.ready()
        return JSONResponse({"name": name, "ready": ready}, 200 if ready else 503)

    async def _infer(self, request: Request, caller: Caller) -> Response:
        model, version = _of(request)
        with self._door.admit(caller, "explain", model):
            aside, length = self._calls.aside(request, caller), single(request, json_bodies.LENGTH)
            described = await self._door.found(caller, model, version)  # what there is not is not read
            most = self._most_rows * math.prod(described.input_shape)
            body = await self._calls.body(request, caller)
            if len(body) > _LARGE:
                asked = await while_connected(
                    request, aside(json_bodies.infer_request, model, version, body, length, most)
                )
            else:
                asked = json_bodies.infer_request(model, version, body, length, most)
            del body  # the tensors are there
            waits = [each for each in (seconds(request), asked.seconds) if each is not None]
            deadline = self._door.deadline(min(waits, default=None))
            answered, tensors = await while_connected(
                request, infer(self._door, caller, asked, deadline, self._most_rows)
            )
            if sum(getattr(each.values, "nbytes", 0) for each in tensors) > _LARGE:
                content, head = await aside(json_bodies.infer_response, asked, answered, tensors)
            else:
                content, head = json_bodies.infer_response(asked, answered, tensors)
            content, encoding = await bodies.compressed(content, request.headers.get("accept-encoding"), aside)
        headers = {} if head is None else {json_bodies.LENGTH: str(head)}
        if encoding:
            headers["Content-Encoding"] = encoding
        return Response(content, headers=headers, media_type="application/json" if head is None else _BINARY)


def _of(request: Request) -> tuple[str, str]:
    return request.path_params["model"], request.path_params.get("version", "")
