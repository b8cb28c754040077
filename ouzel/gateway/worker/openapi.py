"""The description of the REST port, OpenAPI 3.1: methods and messages of services from their descriptors."""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import ouzel
from ouzel.gateway.rest.paths import PATHS, PROBLEM
from ouzel.gateway.worker.files import BINARY
from ouzel.gateway.worker.methods import LEDGER, METHODS, Method
from ouzel_protos.v1.dataset_pb2 import UploadFilesRequest
from ouzel_protos.v1.job_pb2 import ArtifactChunk

_F = FieldDescriptor
_WIDE = {"type": ["string", "integer"], "format": "int64"}  # JSON's numbers do not reach so far
_SCALARS: dict[int, dict[str, Any]] = {
    _F.TYPE_DOUBLE: {"type": ["number", "string"]},  # "NaN", "Infinity"
    _F.TYPE_FLOAT: {"type": ["number", "string"]},
    _F.TYPE_INT64: _WIDE,
    _F.TYPE_UINT64: _WIDE,
    _F.TYPE_SINT64: _WIDE,
    _F.TYPE_FIXED64: _WIDE,
    _F.TYPE_SFIXED64: _WIDE,
    _F.TYPE_INT32: {"type": "integer", "format": "int32"},
    _F.TYPE_SINT32: {"type": "integer", "format": "int32"},
    _F.TYPE_SFIXED32: {"type": "integer", "format": "int32"},
    _F.TYPE_UINT32: {"type": "integer", "minimum": 0},
    _F.TYPE_FIXED32: {"type": "integer", "minimum": 0},
    _F.TYPE_BOOL: {"type": "boolean"},
    _F.TYPE_STRING: {"type": "string"},
    _F.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}
_FILE = {"schema": {"type": "string", "format": "binary"}}
_REFUSED = {
    "description": "Problem details",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_KNOWN: dict[str, dict[str, Any]] = {  # types with a JSON of their own
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Empty": {"type": "object", "additionalProperties": False},
}


def described(*, worker: bool) -> Route:
    """The route of the document. Whoever asks need have no name.

    Args:
        worker: Whether there are the worker's methods.
    """

    async def answer(_request: Request) -> Response:
        return JSONResponse(document(worker=worker))

    return Route("/openapi.json", answer, methods=["GET"])


@cache
def document(*, worker: bool = True) -> dict[str, Any]:
    """The document. It is made once.

    Args:
        worker: Whether there are the worker's methods.
    """
    schemas: dict[str, Any] = {"Problem": PROBLEM}
    paths: dict[str, Any] = dict(PATHS)
    for method in (*(METHODS.values() if worker else ()), *LEDGER.values()):
        path = f"/v1/{method.service}/{method.name}"
        if method.converses:
            paths |= _conversation(path, method, schemas)
        else:
            paths[path] = {"post": _operation(method, schemas)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Ouzel", "version": ouzel.__version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _operation(method: Method, schemas: dict[str, Any]) -> dict[str, Any]:
    sent, answered = (_message(kind.DESCRIPTOR, schemas) for kind in (method.request, method.answer))
    body, answer = _content(method.streams_requests, sent), _content(method.streams_answers, answered)
    body |= {BINARY: _FILE} if method.request is UploadFilesRequest else {}
    answer |= {BINARY: _FILE} if method.answer is ArtifactChunk else {}
    return {
        "operationId": f"{method.service}_{method.name}",
        "tags": [method.service],
        "requestBody": {"description": _words(method.request, method.streams_requests), "content": body},
        "responses": {
            "200": {"description": _words(method.answer, method.streams_answers), "content": answer},
            "default": _REFUSED,
        },
    }


def _content(streams: bool, schema: dict[str, Any]) -> dict[str, Any]:
    """A message, or lines of them, which JSON Schema cannot describe: the words do."""
    return {"application/x-ndjson": {}} if streams else {"application/json": {"schema": schema}}


def _words(kind: type[Message], streams: bool) -> str:
    name = kind.DESCRIPTOR.name
    return f"Lines of JSON, each a {name} (see #/components/schemas/{kind.DESCRIPTOR.full_name})" if streams else name


def _conversation(path: str, method: Method, schemas: dict[str, Any]) -> dict[str, Any]:
    """The steps of a conversation: one message of the caller in each, and all that is said until the next."""
    sent = _message(method.request.DESCRIPTOR, schemas)
    _message(method.answer.DESCRIPTOR, schemas)
    members = schemas[method.answer.DESCRIPTOR.full_name]["properties"]
    said = {"type": "object", "properties": {"conversation": {"type": "string"}, **members}}
    ended = {"type": "object", "additionalProperties": False}

    def step(name: str, words: str, answer: dict[str, Any], **more: Any) -> dict[str, Any]:
        told = {"description": words, "content": {"application/json": {"schema": answer}}}
        responses = {"200": told, "default": _REFUSED}
        named = f"{method.service}_{method.name}{name}"
        return {"operationId": named, "tags": [method.service], **more, "responses": responses}

    body = {"requestBody": {"content": {"application/json": {"schema": sent}}}}
    at = {"parameters": [{"name": "conversation", "in": "path", "required": True, "schema": {"type": "string"}}]}
    return {
        path: {"post": step("", "The first step", said, **body)},
        f"{path}/{{conversation}}": {
            "post": step("_answer", "The next step", said, **at, **body),
            "delete": step("_end", "Given up", ended, **at),
        },
    }


def _message(descriptor: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    if (known := _KNOWN.get(descriptor.full_name)) is not None:
        return known
    name = descriptor.full_name
    if name not in schemas:
        schemas[name] = {}  # messages may hold themselves
        properties = {field.name: _field(field, schemas) for field in descriptor.fields}
        schemas[name] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"$ref": f"#/components/schemas/{name}"}


def _field(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        values = field.message_type.fields_by_name["value"]
        return {"type": "object", "additionalProperties": _single(values, schemas)}
    single = _single(field, schemas)
    return {"type": "array", "items": single} if field.is_repeated else single


def _single(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    if field.message_type is not None:
        return _message(field.message_type, schemas)
    if field.enum_type is not None:
        return _enum(field.enum_type)
    return _SCALARS[field.type]


def _enum(enum: EnumDescriptor) -> dict[str, Any]:
    return {"type": "string", "enum": [value.name for value in enum.values]}
