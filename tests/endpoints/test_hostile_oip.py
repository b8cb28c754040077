"""Services that speak the Open Inference Protocol, but not as the operator's file or the protocol says."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from ouzel.endpoints.open import open_endpoint
from ouzel.errors import FailedPrecondition, Unavailable
from support import oip
from support.endpoints import FP32, UINT8
from support.http_services import Scripted, says

PICTURES = np.zeros((2, 64, 64, 3), np.uint8)
TOY = 'kind = "oip"\nmodel = "toy"\n'


def flat(values: np.ndarray) -> np.ndarray:
    """(N, ...) to (N, 5): the same logits for all."""
    return np.zeros((len(values), 5))


def changed(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda document: document | changes


def spec(name: str, kind: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": kind, "shape": shape}


GIVEN, MADE = spec("pixels", "FP32", [-1, 3, 64, 64]), spec("scores", "FP32", [-1, 5])
MISMATCHES = [
    (changed(name="other"), "", "describes another model than 'toy'"),
    (changed(versions=["7"]), 'version = "3"', "no version '3' of the model"),
    (changed(inputs=[spec("pixels", "FP32", [-1, 64, 64, 3])]), "", r"takes \[-1, 64, 64, 3\]"),
    (changed(inputs=[spec("pixels", "FP32", [-1, 3, 224, 224])]), "", r"takes \[-1, 3, 224, 224\]"),
    (changed(inputs=[spec("pixels", "FP32", [3, 64, 64])]), "", r"takes \[3, 64, 64\]"),
    (changed(inputs=[spec("pixels", "FP32", [])]), "", r"takes \[\]"),
    (changed(inputs=[spec("pixels", "UINT8", [-1, 3, 64, 64])]), "", "FP32 is not the service's, which is 'UINT8'"),
    (changed(inputs=[spec("pixels", "FP32", [4, 3, 64, 64])]), "", "batches of exactly 4"),
    (changed(inputs=[GIVEN, spec("mask", "FP32", [-1, 1])]), "", "describes 'pixels', 'mask'"),
    (changed(inputs=[]), "", "input.name: missing; the service describes none"),
    (changed(outputs=[spec("scores", "FP32", [-1, 1000])]), "", r"shape \[-1, 1000\]; there are 5 labels"),
    (changed(outputs=[spec("scores", "BYTES", [-1, 5])]), "", "is 'BYTES', not one of FP16"),
    (changed(outputs=[MADE, spec("boxes", "FP32", [-1, 4])]), "", "describes 'scores', 'boxes'"),
]


@pytest.mark.parametrize(("change", "head", "message"), MISMATCHES)
def test_the_file_is_compared_with_the_description(endpoint, change, head, message) -> None:
    model = oip.OipModel(flat, metadata=change)
    with oip.rest(model) as url:
        read = endpoint(url, FP32, head=TOY + head)
        with pytest.raises(FailedPrecondition, match=f"endpoint 'toy': .*{message}"):
            open_endpoint(read)
    if not head:
        with oip.over_grpc(model) as url, pytest.raises(FailedPrecondition, match=f"endpoint 'toy': .*{message}"):
            open_endpoint(endpoint(url, FP32, head=TOY))


def test_names_are_compared_too(endpoint) -> None:
    with oip.rest(oip.OipModel(flat)) as url:
        text = FP32.replace("[toy.input]", '[toy.input]\nname = "pixel"')
        with pytest.raises(FailedPrecondition, match=r"input.name: 'pixel' is not one .*; did you mean 'pixels'"):
            open_endpoint(endpoint(url, text, head=TOY))
        with pytest.raises(FailedPrecondition, match="answered 404"):
            open_endpoint(endpoint(url, FP32, head='kind = "oip"\nmodel = "other"'))


@pytest.mark.parametrize("body", ["{}", "[]", '{"name": 1}', '{"name": "toy", "inputs": [{"name": "x"}]}', "null"])
def test_descriptions_that_are_none(endpoint, body) -> None:
    with Scripted(says(body=body)) as server, pytest.raises(FailedPrecondition, match="does not describe the model"):
        open_endpoint(endpoint(server.url, FP32, head=TOY))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_name": "other"}, "another model than 'toy' answered"),
        ({"id": "other"}, "answered another request"),
        ({"model_version": "4"}, "another version of the model answered than '3'"),
        ({"outputs": []}, "no output 'scores'"),
        ({"outputs": {}}, "no list of outputs"),
        ({"outputs": ["scores"]}, "no list of outputs"),
        ({"outputs": [{"name": "scores"}]}, "does not state shape and datatype"),
        ({"outputs": [MADE | {"shape": [2, 5], "data": [0.0] * 9}]}, "9 scores, there are 10"),
        ({"outputs": [MADE | {"shape": [1, 5], "data": [0.0] * 5}]}, r"shape \[1, 5\], not \[2, 5\]"),
        ({"outputs": [MADE | {"shape": [5, 2], "data": [0.0] * 10}]}, r"shape \[5, 2\], not \[2, 5\]"),
        ({"outputs": [MADE | {"shape": [2, 5], "data": [0.0] * 9 + ["0"]}]}, "not a list of numbers"),
        ({"outputs": [MADE | {"shape": [2, 5], "data": [0.0] * 9 + [float("nan")]}]}, "not finite"),
        ({"outputs": [MADE | {"shape": [2, 5], "parameters": {"binary_data_size": 40}}]}, "0 bytes of scores, not 40"),
    ],
)
def test_answers_that_cannot_be_used(endpoint, change, message) -> None:
    model = oip.OipModel(flat, answer=changed(**change))
    wanted = pytest.raises(FailedPrecondition, match=f"endpoint 'toy': .*{message}")
    with oip.rest(model) as url, open_endpoint(endpoint(url, FP32, head=TOY)) as asked, wanted:
        asked(PICTURES)


def test_a_model_that_is_replaced_between_two_answers(endpoint) -> None:
    versions = iter("")
    model = oip.OipModel(
        flat, metadata=changed(versions=[]), answer=lambda document: document | {"model_version": next(versions)}
    )
    for serve in (oip.rest, oip.over_grpc):
        versions = iter("45")
        with serve(model) as url, open_endpoint(endpoint(url, FP32, head=TOY)) as asked:
            asked(PICTURES)
            with pytest.raises(FailedPrecondition, match="another version of the model answered than '4'"):
                asked(PICTURES)


@pytest.mark.parametrize("length", ["-1", "1e3", "99999", "9" * 5000, "\u00b2"])
def test_lengths_of_json_that_do_not_fit(endpoint, length) -> None:
    description = json.dumps({"name": "toy", "versions": ["3"], "inputs": [GIVEN], "outputs": [MADE]})
    answer = says(body="{}", Inference_Header_Content_Length=length)
    with (
        Scripted(says(body=description), answer) as server,
        open_endpoint(endpoint(server.url, FP32, head=TOY)) as asked,
        pytest.raises(FailedPrecondition, match="Inference-Header-Content-Length does not fit"),
    ):
        asked(PICTURES)


def test_floats_that_overflow(endpoint) -> None:
    model = oip.OipModel(lambda values: np.full((len(values), 5), np.inf), output=("scores", "FP64", [-1, 5]))
    for transfer in ("json", "binary"):
        with oip.rest(model) as url:
            read = endpoint(url, FP32, head=f'{TOY}transfer = "{transfer}"')
            with open_endpoint(read) as asked, pytest.raises(FailedPrecondition, match="not finite"):
                asked(PICTURES)


def test_probabilities_that_are_logits(endpoint) -> None:
    model = oip.OipModel(lambda values: flat(values) - 3, input=("pixels", "UINT8", [-1, 64, 64, 3]))
    wanted = pytest.raises(FailedPrecondition, match="state whether they are logits")
    with oip.rest(model) as url, open_endpoint(endpoint(url, UINT8, head=TOY)) as asked, wanted:
        asked(PICTURES)


@pytest.mark.parametrize(
    ("code", "kind", "message", "calls"),
    [
        (grpc.StatusCode.UNAVAILABLE, Unavailable, "UNAVAILABLE, it refuses the connection, or is not available", 3),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Unavailable, "RESOURCE_EXHAUSTED, too many requests", 3),
        (grpc.StatusCode.INTERNAL, Unavailable, "INTERNAL, an error of the service", 1),
        (grpc.StatusCode.UNAUTHENTICATED, FailedPrecondition, "does not accept the operator's credentials", 1),
        (grpc.StatusCode.INVALID_ARGUMENT, FailedPrecondition, "does not take the request", 1),
    ],
)
def test_statuses_of_grpc(endpoint, code, kind, message, calls) -> None:
    asked_times = []

    def refuse(context: grpc.ServicerContext) -> None:
        asked_times.append(1)
        context.abort(code, "s3cr3t")

    with oip.over_grpc(oip.OipModel(flat), refuse) as url:
        read = endpoint(url, FP32, head=f"{TOY}retries = 2")
        with open_endpoint(read) as asked, pytest.raises(kind, match=message) as caught:
            asked(PICTURES)
    assert "s3cr3t" not in str(caught.value)
    assert len(asked_times) == calls


def test_grpc_that_is_slow(endpoint) -> None:
    with oip.over_grpc(oip.OipModel(flat), lambda context: time.sleep(1)) as url:
        read = endpoint(url, FP32, head=f"{TOY}timeout_s = 0.3")
        with open_endpoint(read) as asked, pytest.raises(Unavailable, match=r"did not answer within 0\.3 s"):
            asked(PICTURES)


@pytest.mark.parametrize("name", ["toy", "bomb"])
def test_grpc_answers_above_the_limit(endpoint, name) -> None:
    """The server of "bomb" compresses: few bytes on the wire, many in memory."""
    model = oip.OipModel(lambda values: np.zeros((len(values), 10_000_000)), name=name)
    with oip.over_grpc(model) as url:
        read = endpoint(url, FP32, head=f'kind = "oip"\nmodel = "{name}"\nretries = 0')
        message = r"more than 4194304 bytes \(max_response_bytes\)"
        with open_endpoint(read) as asked, pytest.raises(FailedPrecondition, match=message):
            asked(PICTURES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_name": "other"}, "another model"),
        ({"id": "x"}, "another request"),
        ({"model_version": "4"}, "another version"),
    ],
)
def test_grpc_answers_of_other_models(endpoint, change, message) -> None:
    model, wanted = oip.OipModel(flat, answer=changed(**change)), pytest.raises(FailedPrecondition, match=message)
    with oip.over_grpc(model) as url, open_endpoint(endpoint(url, FP32, head=TOY)) as asked, wanted:
        asked(PICTURES)


@pytest.mark.parametrize("raw", [True, False])
def test_grpc_answers_of_other_shapes(endpoint, raw) -> None:
    model = oip.OipModel(lambda values: np.zeros((1, 5)), raw=raw)
    wanted = pytest.raises(FailedPrecondition, match=r"shape \[1, 5\], not \[2, 5\]")
    with oip.over_grpc(model) as url, open_endpoint(endpoint(url, FP32, head=TOY)) as asked, wanted:
        asked(PICTURES)


def test_nobody_there(endpoint, monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    for scheme in ("http", "grpc"):
        read = endpoint(f"{scheme}://{address}", FP32, head=f"{TOY}retries = 1")
        with pytest.raises(Unavailable, match="refuses the connection"):
            open_endpoint(read)
    read = endpoint("grpc://toy.invalid:1", FP32, head=f"{TOY}retries = 0")
    with pytest.raises(Unavailable, match="endpoint 'toy'"):
        open_endpoint(read)


def test_proxies_of_the_environment_are_not_used_by_grpc(endpoint, monkeypatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with oip.over_grpc(oip.OipModel(flat)) as url, open_endpoint(endpoint(url, FP32, head=TOY)) as asked:
        np.testing.assert_allclose(asked(PICTURES), np.full((2, 5), 0.2))
