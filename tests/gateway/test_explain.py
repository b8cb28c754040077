"""Ouzel's own requests through the front door: the client, unchanged, and the forms of REST."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import uuid
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ouzel import models
from ouzel.errors import InvalidArgument
from ouzel.gateway.rest import multipart
from ouzel.gateway.server import Addresses
from ouzel.metrics.deletion import area
from ouzel.saliency import Explainer, Saliency
from ouzel_client import AsyncClient, Client, NotFound
from ouzel_client import InvalidArgument as ClientInvalidArgument
from ouzel_client import Saliency as ClientSaliency
from ouzel_protos import tensors
from ouzel_protos.v1 import explain_pb2 as pb
from support.gateway import call, pictures, png
from support.reliability.files import announced

SHOT = pictures(1, seed=5)[0]
ONE = png(SHOT)
PATH = "/v1/models/toy/explain"
OPTIONS = {"top_k": 2, "saliency": [{"method": "grad_cam", "target": "goat"}]}


@pytest.fixture(scope="module")
def expected(model: models.Model) -> Any:
    return Explainer(model)(model.preprocessing(Image.fromarray(SHOT))[None], [Saliency("grad_cam", target=2)])


def test_the_client_works_unchanged(addresses: Addresses, expected: Any) -> None:
    with Client(addresses.grpc) as client:
        result = client.models["toy"].explain(SHOT, saliency="grad_cam", target="goat", top_k=2)
        most = float(expected.maps[0].values.max())
        np.testing.assert_allclose(result.saliency["grad_cam"].array, expected.maps[0].values[0], atol=1e-5 * most)
        assert result.indices.tolist() == expected.logits[0].argsort(descending=True)[:2].tolist()
        assert client.models["toy@2"].explain(SHOT).model.version == "2"
        array = np.zeros((3, 64, 64), np.float32)
        assert client.models["toy"].explain(array).scores[0] > 0
        with pytest.raises(NotFound, match="not served here"):
            client.models["nope"].explain(SHOT)
        with pytest.raises(ClientInvalidArgument, match="top_k"):
            client.models["toy"].explain(SHOT, top_k=99)
        many = list(client.models["toy"].explain_many([SHOT] * 12, saliency="gradient"))
        assert len(many) == 12


async def test_the_asynchronous_client(addresses: Addresses) -> None:
    async with AsyncClient(addresses.grpc) as client:
        results = await asyncio.gather(*(client.models["toy"].explain(SHOT) for _ in range(8)))
        assert len({result.labels for result in results}) == 1


def form(**parts: bytes) -> tuple[bytes, str]:
    boundary = uuid.uuid4().hex
    body = b"".join(
        b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="x"\r\nContent-Type: a/b\r\n\r\n%s\r\n'
        % (boundary.encode(), name.encode(), part)
        for name, part in parts.items()
    )
    return body + f"--{boundary}--\r\n".encode(), f'multipart/form-data; boundary="{boundary}"'


def test_the_forms_of_rest_agree(addresses: Addresses, expected: Any) -> None:
    body, kind = form(image=ONE, options=json.dumps(OPTIONS).encode())
    document = {"image": base64.b64encode(ONE).decode(), "options": OPTIONS}
    asked = [
        (ONE, {"Content-Type": "image/png", "X-Ouzel-Options": json.dumps(OPTIONS)}),
        (body, {"Content-Type": kind}),
        (json.dumps(document).encode(), {"Content-Type": "application/json"}),
    ]
    for content, headers in asked:
        status, told, answer = call(addresses, "POST", PATH, content, headers)
        assert (status, told["content-type"]) == (200, "application/json"), answer
        found = json.loads(answer)
        assert [each["index"] for each in found["scores"]] == expected.logits[0].argsort(descending=True)[:2].tolist()
        status, told, answer = call(addresses, "POST", PATH, content, headers | {"Accept": "application/x-protobuf"})
        assert told["content-type"] == "application/x-protobuf"
        values = tensors.decode(pb.Explanation.FromString(answer).saliency[0].values)
        np.testing.assert_allclose(values, expected.maps[0].values[0], atol=1e-5 * float(expected.maps[0].values.max()))
        status, told, answer = call(addresses, "POST", PATH, content, headers | {"Accept": "image/png"})
        assert told["content-type"] == "image/png"
        assert Image.open(io.BytesIO(answer)).format == "PNG"
    status, _, answer = call(addresses, "POST", "/v1/models/toy/versions/2/explain", ONE)
    assert json.loads(answer)["model"]["version"] == "2"


def test_faithfulness_is_the_area_under_the_curves(addresses: Addresses, model: models.Model) -> None:
    asked = {"saliency": [{"method": "gradient", "target": 3, "faithfulness": 8}]}
    headers = {"X-Ouzel-Options": json.dumps(asked), "Accept": "application/x-protobuf"}
    one = pb.Explanation.FromString(call(addresses, "POST", PATH, ONE, headers)[2]).saliency[0]
    values = torch.from_numpy(tensors.decode(one.values).copy())
    x = model.preprocessing(Image.fromarray(SHOT))
    for mode in ("deletion", "insertion"):
        assert one.measures[mode] == pytest.approx(area(model.network, x, values, 3, mode, steps=8), abs=1e-5)
    with Client(addresses.grpc) as client:
        asked = ClientSaliency("gradient", target=3, faithfulness=8)
        assert client.models["toy"].explain(ONE, saliency=asked).saliency[0].measures == pytest.approx(one.measures)
        with pytest.raises(ClientInvalidArgument, match="faithfulness"):
            client.models["toy"].explain(ONE, saliency=ClientSaliency("gradient", faithfulness=65))
    for wrong in ({"faithfulness": 1}, {"faithfulness": 65}, {"faithfulness": 8, "reduction": "none"},
                  {"faithfulness": 8, "target": {"contrast": [1, 2]}}):  # fmt: skip
        headers["X-Ouzel-Options"] = json.dumps({"saliency": [{"method": "gradient"} | wrong]})
        status, _, answer = call(addresses, "POST", PATH, ONE, headers)
        assert status == 400
        assert "faithfulness" in json.loads(answer)["field"]


def test_measuring_counts_as_computing(addresses: Addresses, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 0.0

        def perf_counter(self) -> float:
            self.now += 1e-6
            return self.now

    def measured(maps: Any, *_rest: Any) -> Any:
        clock.now += 7.0
        return maps

    clock = Clock()
    monkeypatch.setattr("ouzel.explain.stages.time", clock)
    monkeypatch.setattr("ouzel.explain.faithfulness.measured", measured)
    headers = {"X-Ouzel-Options": '{"saliency": [{"method": "gradient", "faithfulness": 8}]}'}
    timing = json.loads(call(addresses, "POST", PATH, ONE, headers)[2])["timing"]
    assert (timing["compute_ms"], timing["encode_ms"]) == pytest.approx((7000, 0), abs=1)


def test_labels_in_a_header_are_utf_8(addresses: Addresses) -> None:
    headers = {
        "X-Ouzel-Options": json.dumps({"saliency": [{"method": "gradient", "target": "crème"}]}, ensure_ascii=False)
        .encode()
        .decode("latin-1")
    }
    status, _, answer = call(addresses, "POST", PATH, ONE, headers)
    assert status == 400
    assert "'crème'" in json.loads(answer)["detail"]


REFUSALS: dict[str, tuple[int, bytes, dict[str, str], str, str]] = {
    "nothing": (400, b"", {}, PATH, "image: missing"),
    "random bytes": (415, b"\x01\x02\x03", {}, PATH, "image"),
    "options": (400, ONE, {"X-Ouzel-Options": "{"}, PATH, "options: not valid JSON"),
    "accept": (406, ONE, {"Accept": "text/html"}, PATH, "names none of"),
    "picture of nothing": (400, ONE, {"Accept": "image/png"}, PATH, "at least one map"),
    "model": (404, ONE, {}, "/v1/models/nope/explain", "not served here"),
    "version": (404, ONE, {}, "/v1/models/toy/versions/9/explain", "there are 1, 2"),
    "no image": (415, b"GIF89a", {}, PATH, "not a PNG, JPEG or WebP"),
    "large image": (413, announced(13000, 7000), {}, PATH, "13000 x 7000"),
    "boundary": (400, b"x", {"Content-Type": "multipart/form-data"}, PATH, "without a boundary"),
    "cut form": (400, b"--b\r\nx", {"Content-Type": "multipart/form-data; boundary=b"}, PATH, "Unexpected end"),
    "timeout": (400, ONE, {"X-Ouzel-Timeout": "nan"}, PATH, "timeout"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_are_problem_details(addresses: Addresses, name: str) -> None:
    expected, content, headers, path, words = REFUSALS[name]
    status, told, body = call(addresses, "POST", path, content, headers)
    assert (status, told["content-type"]) == (expected, "application/problem+json"), body
    problem = json.loads(body)
    assert problem["status"] == expected
    assert words in problem["detail"]


@pytest.mark.parametrize("content", [b"", b"\r\n--b--", b"--b\r\n\r\n--b", b"x" * 100, ONE, ONE + b"\r\n--b" + ONE])
def test_forms_keep_every_byte(content: bytes) -> None:
    body, kind = form(image=content, options=b"{}")
    assert multipart.parts(kind, body) == {"image": content, "options": b"{}"}


def test_forms_that_are_none() -> None:
    for body in (b"", b"--", b"--b", b"--b\r\n\r\n", b"--b\r\nno name\r\n\r\nx\r\n--b--", b"--c--"):
        with pytest.raises(InvalidArgument):
            multipart.parts("multipart/form-data; boundary=b", body)
