"""What the OpenAPI document says of the routes that no descriptor describes."""

from __future__ import annotations

from typing import Any

PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "The name of gRPC's status."},
        "field": {"type": "string", "description": "The path of the field at fault."},
    },
}
_ANY = {"content": {"application/json": {"schema": {"type": "object"}}}}
_ERROR = {
    "description": "Refused",
    "content": {
        "application/json": {
            "schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
        }
    },
}
_TROUBLE = {
    "description": "Problem details",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_NAME = {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,62}$"}


def _path(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "in": "path", "required": True, "schema": _NAME} for name in names]


def _get(summary: str, *names: str, health: bool = False) -> dict[str, Any]:
    responses = {"200": {"description": summary, **_ANY}}
    if health:  # what is not there is not ready
        responses |= {"503": {"description": "Not now", **_ANY}, "404": {"description": "No such model", **_ANY}}
    return {"get": {"summary": summary, "parameters": _path(*names), "responses": responses | {"default": _ERROR}}}


_TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"enum": ["image", "input"]},
        "datatype": {"enum": ["BYTES", "FP32", "FP16", "BF16"]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "data": {"type": "array", "description": "Numbers; of BYTES, texts in base64."},
        "parameters": {"type": "object"},
    },
}
_INFER = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "inputs": {"type": "array", "items": _TENSOR},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
            },
        },
        "parameters": {"type": "object"},
    },
}


def _infer(*names: str) -> dict[str, Any]:
    return {
        "post": {
            "summary": "Predict, and explain (Open Inference Protocol)",
            "parameters": _path(*names),
            "requestBody": {"required": True, "content": {"application/json": {"schema": _INFER}}},
            "responses": {"200": {"description": "Tensors", **_ANY}, "default": _ERROR},
        }
    }


def _explain(*names: str) -> dict[str, Any]:
    images = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    options = {"name": "X-Ouzel-Options", "in": "header", "schema": {"type": "string"}}
    return {
        "post": {
            "summary": "Predict, and explain",
            "parameters": [*_path(*names), options],
            "requestBody": {
                "required": True,
                "content": {**images, "application/json": {"schema": {"type": "object"}}},
            },
            "responses": {"200": {"description": "Explanation", **_ANY}, "default": _TROUBLE},
        }
    }


PATHS: dict[str, Any] = {
    "/v2": _get("The server"),
    "/v2/health/live": _get("Whether the server lives"),
    "/v2/health/ready": _get("Whether predictions are answered", health=True),
    "/v2/models/{model}": _get("Inputs and outputs of a model", "model"),
    "/v2/models/stats": _get("What was answered to the caller's tenant, of all models"),
    "/v2/models/{model}/config": _get("Inputs and outputs as Triton configures them", "model"),
    "/v2/models/{model}/stats": _get("What was answered to the caller's tenant", "model"),
    "/v2/models/{model}/ready": _get("Whether a model answers", "model", health=True),
    "/v2/models/{model}/infer": _infer("model"),
    "/v2/models/{model}/versions/{version}": _get("Inputs and outputs of a version", "model", "version"),
    "/v2/models/{model}/versions/{version}/config": _get("The same of a version", "model", "version"),
    "/v2/models/{model}/versions/{version}/stats": _get("The same of a version", "model", "version"),
    "/v2/models/{model}/versions/{version}/ready": _get("Whether a version answers", "model", "version", health=True),
    "/v2/models/{model}/versions/{version}/infer": _infer("model", "version"),
    "/v1/models/{model}/explain": _explain("model"),
    "/v1/models/{model}/versions/{version}/explain": _explain("model", "version"),
}
