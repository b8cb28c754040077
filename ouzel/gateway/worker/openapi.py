"""The description of the REST port, OpenAPI 3.1: methods and messages of the worker from their descriptors."""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

import ouzel
from ouzel.gateway.paths import PATHS, PROBLEM
from ouzel.gateway.worker.methods import METHODS, Method

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
_KNOWN: dict[str, dict[str, Any]] = {  # types with a JSON of their own
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Empty": {"type": "object", "additionalProperties": False},
}


@cache
def document() -> dict[str, Any]:
    """The document. It is made once."""
    schemas: dict[str, Any] = {"Problem": PROBLEM}
    paths: dict[str, Any] = dict(PATHS)
    for method in METHODS.values():
        if not (method.streams_requests and method.streams_answers):
            paths[f"/v1/{method.service}/{method.name}"] = {"post": _operation(method, schemas)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Ouzel", "version": ouzel.__version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _operation(method: Method, schemas: dict[str, Any]) -> dict[str, Any]:
    sent, answered = (_message(kind.DESCRIPTOR, schemas) for kind in (method.request, method.answer))
    body = {"application/x-ndjson": {}} if method.streams_requests else {"application/json": {"schema": sent}}
    answer = {"application/x-ndjson": {}} if method.streams_answers else {"application/json": {"schema": answered}}
    return {
        "operationId": f"{method.service}_{method.name}",
        "tags": [method.service],
        "requestBody": {"content": body},
        "responses": {
            "200": {"description": f"{method.answer.DESCRIPTOR.name}", "content": answer},
            "default": {
                "description": "Problem details",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
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
