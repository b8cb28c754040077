"""The Open Inference Protocol over REST, with bodies and connections written by hand."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import time
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ouzel import models
from ouzel.gateway.engines.in_process import InProcessEngine
from ouzel.gateway.options import GatewayOptions
from ouzel.gateway.server import Addresses
from ouzel.saliency import Explainer, Saliency
from support import oip_bytes as wire
from support.gateway import LABELS, call, gateway, image, pictures, png

LENGTH = "Inference-Header-Content-Length"
INFER = "/v2/models/toy/infer"


def infer(
    addresses: Addresses, document: dict[str, Any], path: str = INFER, headers: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    status, _, body = call(addresses, "POST", path, json.dumps(document).encode(), headers or {})
    return status, json.loads(body)


ONE = png(pictures(1)[0])


def test_health_and_metadata(addresses: Addresses) -> None:
    for path, expected in {
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True},
        "/v2/models/toy/ready": {"name": "toy", "ready": True},
        "/v2/models/toy/versions/2/ready": {"name": "toy", "ready": True},
    }.items():
        status, _, body = call(addresses, "GET", path)
        assert (status, json.loads(body)) == (200, expected)
    assert json.loads(call(addresses, "GET", "/v2")[2])["name"] == "ouzel"
    told = json.loads(call(addresses, "GET", "/v2/models/toy")[2])
    assert told["versions"] == ["1", "2"]
    assert told["inputs"][1] == {"name": "input", "datatype": "FP32", "shape": [-1, 3, 64, 64]}
    assert told["outputs"][0] == {"name": "scores", "datatype": "FP32", "shape": [-1, len(LABELS)]}
    assert call(addresses, "GET", "/v2/models/toy/versions/9/ready")[0] == 404
    status, _, body = call(addresses, "GET", "/v2/models/nope")
    assert (status, list(json.loads(body))) == (404, ["error"])


def test_json_in_json_out(addresses: Addresses, model: models.Model) -> None:
    shots = pictures(2)
    x = torch.stack([model.preprocessing(Image.fromarray(each)) for each in shots])
    expected = Explainer(model)(x, [Saliency("guided")])
    status, answer = infer(
        addresses,
        {
            "id": "j",
            "inputs": [image(*map(png, shots))],
            "outputs": [{"name": "scores"}, {"name": "saliency", "parameters": {"method": "guided"}}],
        },
    )
    assert (status, answer["id"], answer["model_name"], answer["model_version"]) == (200, "j", "toy", "1")
    scores, maps = answer["outputs"]
    np.testing.assert_allclose(np.reshape(scores["data"], scores["shape"]), expected.logits.softmax(1), atol=1e-5)
    most = float(expected.maps[0].values.max())
    np.testing.assert_allclose(np.reshape(maps["data"], maps["shape"]), expected.maps[0].values, atol=1e-5 * most)
    document = {"inputs": [{"name": "input", "datatype": "FP32", "shape": list(x.shape), "data": x.tolist()}]}
    flat = {"inputs": [{**document["inputs"][0], "data": x.ravel().tolist()}]}
    for each in (document, flat):
        np.testing.assert_allclose(infer(addresses, each)[1]["outputs"][0]["data"], scores["data"], atol=1e-5)


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
def test_the_binary_extension(addresses: Addresses, encoding: str) -> None:
    shots = pictures(3)
    raw = wire.elements(*map(png, shots))
    given = {"name": "image", "datatype": "BYTES", "shape": [3], "parameters": {"binary_data_size": len(raw)}}
    outputs = [{"name": "scores"}, {"name": "labels", "parameters": {"binary_data": True}}, {"name": "classes"}]
    document = {"inputs": [given], "outputs": outputs, "parameters": {"binary_data_output": True}}
    outputs[2]["parameters"] = {"binary_data": False}  # type: ignore[assignment]
    head = json.dumps(document).encode()
    pack = {"identity": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[encoding]
    status, headers, body = call(
        addresses,
        "POST",
        INFER,
        pack(head + raw),
        {LENGTH: str(len(head)), "Content-Encoding": encoding, "Accept-Encoding": encoding},
    )
    assert status == 200, body
    if encoding != "identity":
        assert headers["content-encoding"] == encoding
        body = zlib.decompress(body, zlib.MAX_WBITS | 32)
    place = int(headers[LENGTH.lower()])
    answer = json.loads(body[:place])
    plain = infer(
        addresses,
        {"inputs": [image(*map(png, shots))], "outputs": [{"name": n} for n in ("scores", "labels", "classes")]},
    )[1]
    scores, labels, classes = answer["outputs"]
    end = place + scores["parameters"]["binary_data_size"]
    np.testing.assert_allclose(np.frombuffer(body[place:end], "<f4"), plain["outputs"][0]["data"], atol=1e-5)
    assert labels["parameters"]["binary_data_size"] == len(body) - end
    assert body[end:] == wire.elements(*(text.encode() for text in plain["outputs"][1]["data"]))
    assert classes["data"] == plain["outputs"][2]["data"]


TENSOR = {"name": "input", "datatype": "FP32", "shape": [1, 3, 64, 64]}
REFUSALS: dict[str, tuple[int, str, Any]] = {
    "no JSON": (400, "not valid JSON", b"{"),
    "no object": (400, "not a JSON object", b"[]"),
    "nothing": (400, "not valid JSON", b""),
    "NaN": (400, "no number of JSON",
            b'{"inputs": [{"name": "input", "datatype": "FP32", "shape": [1], "data": [NaN]}]}'),
    "unknown key": (400, "'input': is unknown", {"input": []}),
    "id": (400, "id: 7", {"id": 7, "inputs": [image(ONE)]}),
    "model": (400, "as the path says", {"model_name": "other", "inputs": [image(ONE)]}),
    "inputs": (400, "not a list of objects", {"inputs": {}}),
    "no data": (400, "inputs.input: has neither data", {"inputs": [TENSOR]}),
    "strings": (400, "not FP32", {"inputs": [TENSOR | {"data": ["a"]}]}),
    "ragged": (400, "not FP32", {"inputs": [TENSOR | {"data": [[1, 2], [3]]}]}),
    "few": (400, "values of shape [2] do not fit", {"inputs": [TENSOR | {"data": [1, 2]}]}),
    "FP16 in JSON": (400, "raw bytes only", {"inputs": [TENSOR | {"datatype": "FP16", "data": [1]}]}),
    "no base64": (400, "not base64", {"inputs": [image(ONE) | {"data": ["***"]}]}),
    "size without bytes": (400, "only 0 bytes are left",
            {"inputs": [TENSOR | {"parameters": {"binary_data_size": 49152}}]}),
    "size of nonsense": (400, "not a number of bytes", {"inputs": [TENSOR | {"parameters": {"binary_data_size": -4}}]}),
    "shape": (400, "1.5 is not an integer", {"inputs": [TENSOR | {"shape": [1.5], "data": [1]}]}),
    "not finite": (400, "not finite", {"inputs": [TENSOR | {"data": [1e39] * 12288}]}),
    "surrogate": (400, "id", b'{"id": "\\ud800", "inputs": []}'),
    "deep": (400, "nested too deeply", b"[" * 9_000),
    "shared memory": (501, "shared memory", {"inputs": [TENSOR | {"parameters": {"shared_memory_region": "r"}}]}),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_name_what_is_wrong(addresses: Addresses, name: str) -> None:
    expected, words, document = REFUSALS[name]
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    status, _, answer = call(addresses, "POST", INFER, body)
    assert status == expected, answer
    assert list(json.loads(answer)) == ["error"]
    assert words in json.loads(answer)["error"]


def test_headers_that_lie(addresses: Addresses) -> None:
    head = json.dumps({"inputs": [image(ONE)]}).encode()
    for length, words in {str(len(head) + 1): "no length within", "-1": "no length", "9" * 30: "no length"}.items():
        status, _, body = call(addresses, "POST", INFER, head, {LENGTH: length})
        assert (status, words in json.loads(body)["error"]) == (400, True)
    status, _, body = call(addresses, "POST", INFER, head + b"xyz", {LENGTH: str(len(head))})
    assert "3 bytes belong to no tensor" in json.loads(body)["error"]
    status, _, body = call(addresses, "POST", INFER, head, {"Content-Encoding": "br"})
    assert status == 415
    for packed in (b"nonsense", gzip.compress(head)[:-4], gzip.compress(head) + b"x"):
        assert call(addresses, "POST", INFER, packed, {"Content-Encoding": "gzip"})[0] == 400
    assert call(addresses, "POST", INFER, head, {"X-Ouzel-Timeout": "soon"})[0] == 400
    assert call(addresses, "POST", INFER, head, {"X-Ouzel-Timeout": "-1"})[0] == 400


def test_a_timeout_by_header(addresses: Addresses) -> None:
    outputs = [{"name": "saliency", "parameters": {"method": "smoothgrad", "samples": 512}}]
    document = {"inputs": [image(ONE)], "outputs": outputs}
    status, answer = infer(addresses, document, headers={"X-Ouzel-Timeout": "0.2"})
    assert (status, list(answer)) == (504, ["error"])
    assert infer(addresses, {"inputs": [image(ONE)]})[0] == 200


def test_methods_and_paths(addresses: Addresses) -> None:
    assert call(addresses, "GET", INFER)[0] == 405
    status, headers, body = call(addresses, "GET", "/elsewhere")
    assert (status, headers["content-type"]) == (404, "application/problem+json")
    assert json.loads(body)["status"] == 404


def test_bounds_of_size_and_time(store: Any) -> None:
    options = GatewayOptions(rest_port=0, grpc_port=0, max_body_bytes=100_000, body_timeout=0.5, grace=2)
    with gateway(lambda: InProcessEngine(store), options) as addresses:
        host, _, port = addresses.rest.removeprefix("http://").partition(":")

        def said(*parts: bytes) -> bytes:
            with socket.create_connection((host, int(port)), timeout=20) as stream:
                for part in parts:
                    stream.sendall(part)
                answer = b""
                while data := stream.recv(65536):
                    answer += data
                return answer

        start = b"POST /v2/models/toy/infer HTTP/1.1\r\nHost: x\r\n"
        # Refused by what is announced: nothing of the body was sent.
        assert b" 413 " in said(start + b"Content-Length: 100001\r\n\r\n")
        chunks = [f"{60_000:x}\r\n".encode() + bytes(60_000) + b"\r\n"] * 2
        assert b" 413 " in said(start + b"Transfer-Encoding: chunked\r\n\r\n", *chunks)
        bomb = gzip.compress(bytes(50_000_000))
        assert len(bomb) < 100_000
        assert b" 413 " in said(start + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb), bomb)
        assert b" 408 " in said(start + b"Content-Length: 100\r\n\r\n{")  # the rest never comes
        assert said(start) == b""  # headers that never end
        assert infer(addresses, {"inputs": [image(ONE)]})[0] == 200


def test_who_leaves_takes_the_rows_along(store: Any) -> None:
    """Rows that wait behind a batch are dropped with their caller."""
    engine: list[InProcessEngine] = []

    def make() -> InProcessEngine:
        engine.append(InProcessEngine(store, batch_size=1))
        return engine[0]

    outputs = [{"name": "saliency", "parameters": {"method": "smoothgrad", "samples": 128}}]
    document = json.dumps({"inputs": [image(*[ONE] * 40)], "outputs": outputs}).encode()
    with gateway(make) as addresses:
        host, _, port = addresses.rest.removeprefix("http://").partition(":")
        stream = socket.create_connection((host, int(port)))
        stream.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (INFER.encode(), len(document)))
        stream.sendall(document)
        deadline = time.monotonic() + 20
        while not engine[0]._batchers and time.monotonic() < deadline:
            time.sleep(0.001)
        (batcher,) = engine[0]._batchers.values()
        batches: list[int] = []
        answer = batcher._answer
        batcher._answer = lambda questions: (batches.append(len(questions)), answer(questions))[1]
        while not batcher._waiting and time.monotonic() < deadline:
            time.sleep(0.001)
        assert batcher._waiting
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.close()  # with a reset
        assert infer(addresses, {"inputs": [image(ONE)]})[0] == 200
        while batcher._task is not None and time.monotonic() < deadline:
            time.sleep(0.001)
        assert batcher._task is None
        assert len(batches) < 20  # of 41: each of 40 rows would have been one
