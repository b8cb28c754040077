"""The ways in which an image and options arrive over REST, as TorchServe hands them to the handler."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from handlers.saliency_handler import SaliencyHandler
from ouzel.explain import JSON, PNG, ExplainService
from ouzel.explain.batch_metrics import BatchMetrics
from ouzel_protos import tensors
from support.pictures import picture, png

IMAGE = png(0)
TEXT = base64.b64encode(IMAGE).decode()
WISH = {"top_k": 2, "saliency": [{"method": "gradient", "target": 0}]}


class Context:
    """What TorchServe tells of one request, and what the handler tells of its answer."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = {"host": "x"} | headers
        self.status = 0
        self.media_type = ""

    def get_all_request_header(self, _: int) -> dict[str, str]:
        return self.headers

    def set_response_content_type(self, _: int, value: str) -> None:
        self.media_type = value

    def set_response_status(self, code: int, idx: int) -> None:
        self.status = code


def ask(service: ExplainService, row: dict[str, Any], **headers: str) -> tuple[int, str, bytes]:
    handler, context = SaliencyHandler(), Context(headers)
    handler.metrics = BatchMetrics("tiny", "3")
    handler.service = service
    (body,) = handler.handle([row], context)
    return context.status, context.media_type, body


def answer(service: ExplainService, row: dict[str, Any], **headers: str) -> dict[str, Any]:
    envelope: dict[str, Any] = json.loads(ask(service, row, **headers)[2])
    envelope.pop("timing", None)
    return envelope


def test_all_forms_say_the_same(service: ExplainService) -> None:
    document = {"image": TEXT, "options": WISH}
    lines = "\n".join(TEXT[start : start + 76] for start in range(0, len(TEXT), 76))
    tensor = {"dtype": "UINT8", "shape": [40, 48, 3], "data": base64.b64encode(picture(0).tobytes()).decode()}
    rows: list[dict[str, Any]] = [
        {"image": IMAGE, "options": json.dumps(WISH).encode()},
        {"image": bytearray(IMAGE), "options": json.dumps(WISH)},
        {"image": IMAGE, "options": WISH},  # -F 'options=@options.json;type=application/json'
        {"image": TEXT, "options": WISH},
        {"body": document},  # Content-Type: application/json
        {"body": json.dumps(document).encode()},  # the same with "; charset=utf-8", which TorchServe leaves as it is
        {"body": {"image": lines, "options": WISH}},
        {"body": {"image": "data:image/png;base64," + TEXT, "options": WISH}},
        {"body": {"tensor": tensor, "options": WISH}},
        {"tensor": tensors.encode(picture(0)).SerializeToString(), "options": WISH},
    ]
    expected = answer(service, rows[0])
    assert expected["saliency"][0]["target"]["index"] == 0
    for row in rows[1:]:
        assert answer(service, row) == expected
    by_header = answer(service, {"body": IMAGE}, **{"x-ouzel-options": json.dumps(WISH)})
    assert by_header == expected == answer(service, {"body": {"image": TEXT}}, **{"x-ouzel-options": json.dumps(WISH)})


@pytest.mark.parametrize(
    ("row", "field", "hint"),
    [
        ({"body": {"image": "!!!"}}, "image", "base64"),
        ({"body": {"image": TEXT[:-1]}}, "image", "base64"),
        ({"body": {"image": 7}}, "image", "number"),
        ({"body": {"image": None}}, "image", "missing"),
        ({"body": {"image": ""}}, "image", "empty"),
        ({"body": {"image": "aGVsbG8="}}, "image", "PNG, JPEG or WebP"),
        ({"body": {"img": TEXT}}, "body", "'img' is unknown; allowed are image, tensor, options"),
        ({"body": {"\ud800": 1}}, "body", "unknown"),
        ({"body": b'{"\\ud800": 1}'}, "body", "unknown"),
        ({"body": {"image": "\ud800"}}, "image", "base64"),
        ({"body": {"tensor": {"\ud800": 1}}}, "tensor", "unknown"),
        ({"body": [TEXT]}, "body", "list"),
        ({"body": 5}, "body", "number"),
        ({"body": b'{"image": '}, "body", "JSON"),
        ({"body": {"image": TEXT, "options": [1]}}, "options", "list"),
        ({"image": IMAGE, "options": 3}, "options", "number"),
        ({"image": IMAGE, "options": {"top": 1}}, "top", "top_k"),
        ({"body": {"image": TEXT, "options": {"saliency": ["gided"]}}}, "saliency[0].method", "guided"),
        ({"body": {"tensor": {"dtype": "UINT8", "shape": [4, 4, 3], "data": "!"}}}, "tensor.data", "base64"),
        ({"body": {"tensor": {"dtype": "UINT8", "shape": [4, -4, 3], "data": ""}}}, "tensor.shape", "-4"),
        ({"body": {"tensor": {"dtype": "UINT8", "shape": [4, 4, 3]}}}, "tensor.data", "missing"),
        ({"body": {"tensor": {"dtype": "\ud800", "shape": [4, 4, 3]}}}, "tensor.dtype", "UINT8"),
        ({"body": {"tensor": {"dtype": "FLOAT128"}}}, "tensor.dtype", "FLOAT128"),
        ({"body": {"tensor": [1.0]}}, "tensor", "list"),
        ({"body": {"tensor": {"dtype": "UINT8", "shape": [0], "data": ""}, "image": TEXT}}, "image", "not both"),
        ({}, "image", "missing"),
    ],
)
def test_what_cannot_be_read_names_its_field(
    service: ExplainService, row: dict[str, Any], field: str, hint: str
) -> None:
    status, media_type, body = ask(service, row)
    error = json.loads(body)["error"]
    assert 400 <= status < 500
    assert media_type == JSON
    assert error["field"] == field
    assert hint in error["message"]
    assert "\n" not in error["message"]


def test_accept_decides_and_406_is_told_as_json(service: ExplainService) -> None:
    row = {"image": IMAGE, "options": WISH}
    assert ask(service, row, accept="image/*")[:2] == (200, PNG)
    assert ask(service, row, accept="image/png;q=0.1, application/json")[:2] == (200, JSON)
    status, media_type, body = ask(service, row, accept="text/html")
    assert (status, media_type) == (406, JSON)
    assert json.loads(body)["error"]["field"] == "Accept"


def test_json_prints_zeros(service: ExplainService) -> None:
    wish = {"top_k": 4, "saliency": [{"method": "gradient", "target": 0}]}
    envelope = answer(service, {"image": IMAGE, "options": wish})
    assert sorted(score["index"] for score in envelope["scores"]) == [0, 1, 2, 3]
    assert {"index", "label", "probability", "logit"} <= set.intersection(*(set(score) for score in envelope["scores"]))
    (one,) = envelope["saliency"]
    assert one["target"]["index"] == 0
    assert "minus_index" not in one["target"]  # there is no second class, and 0 would be one
    assert {"minimum", "maximum", "rectified"} <= set(one)
    tall = answer(service, {"image": png(0, 40, 40), "options": {}})
    assert {"left", "top"} <= set(tall["view"])
    assert "error" not in envelope


def test_an_all_zero_map_has_a_maximum(service: ExplainService) -> None:
    black = np.zeros((3, 32, 32), np.float32)
    wish = {"saliency": [{"method": "input_x_gradient", "target": 0}]}
    envelope = answer(service, {"tensor": tensors.encode(black).SerializeToString(), "options": wish})
    assert (envelope["saliency"][0]["minimum"], envelope["saliency"][0]["maximum"]) == (0.0, 0.0)
    assert (envelope["view"]["left"], envelope["view"]["top"]) == (0.0, 0.0)
