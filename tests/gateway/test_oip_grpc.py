"""The Open Inference Protocol over gRPC, with messages written byte by byte."""

from __future__ import annotations

import struct
import threading

import grpc
import numpy as np
import pytest
import torch
from PIL import Image

from ouzel import models
from ouzel.gateway.server import Addresses
from ouzel.metrics.deletion import area
from ouzel.saliency import Explainer, Saliency
from support import oip_bytes as wire
from support.gateway import LABELS, pictures, png

SERVICE = "/inference.GRPCInferenceService/"
CODES = grpc.StatusCode


def call(channel: grpc.Channel, method: str, message: bytes = b"", timeout: float = 60) -> bytes:
    return channel.unary_unary(SERVICE + method)(message, timeout=timeout)


def answered(response: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Outputs by name: datatype, shape, raw bytes."""
    found = {}
    for output, raw in zip(wire.of(response, 5), wire.of(response, 6), strict=True):
        (name,), (datatype,), (shape,) = (wire.of(output, number) for number in (1, 2, 3))
        assert max(shape, default=0) < 128  # one byte each
        found[name.decode()] = (datatype.decode(), tuple(shape), raw)
    return found


def refused(
    channel: grpc.Channel, code: grpc.StatusCode, words: str, message: bytes, method: str = "ModelInfer"
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, method, message)
    assert caught.value.code() is code, caught.value.details()
    assert words in caught.value.details()
    assert "Traceback" not in caught.value.details()


def tensor_of(values: np.ndarray, datatype: str = "FP32") -> bytes:
    return wire.tensor("input", datatype, values.shape)


def test_health_and_metadata(channel: grpc.Channel) -> None:
    assert call(channel, "ServerLive") == b"\x08\x01"
    assert call(channel, "ServerReady") == b"\x08\x01"
    assert call(channel, "ModelReady", wire.chunk(1, "toy")) == b"\x08\x01"
    assert call(channel, "ModelReady", wire.chunk(1, "toy") + wire.chunk(2, "9")) == b""
    assert wire.of(call(channel, "ServerMetadata"), 1) == [b"ouzel"]
    told = call(channel, "ModelMetadata", wire.chunk(1, "toy") + wire.chunk(2, "2"))
    assert wire.of(told, 2) == [b"1", b"2"]
    names = [[wire.of(each, number)[0].decode() for number in (1, 2)] for each in wire.of(told, 4)]
    assert names == [["image", "BYTES"], ["input", "FP32"]]
    any_extent = wire.varint(-1)
    assert wire.of(wire.of(told, 4)[1], 3) == [any_extent + bytes((3, 64, 64))]
    assert wire.of(wire.of(told, 5)[0], 3) == [any_extent + bytes((len(LABELS),))]
    index = call(channel, "RepositoryIndex")
    assert [wire.of(each, 2)[0] for each in wire.of(index, 1)] == [b"1", b"2"]


def test_images_and_maps_equal_the_library(channel: grpc.Channel, model: models.Model) -> None:
    shots = pictures(3)
    x = torch.stack([model.preprocessing(Image.fromarray(each)) for each in shots])
    expected = Explainer(model)(x, [Saliency("grad_cam", target=2, layer="features.3")])
    response = call(
        channel,
        "ModelInfer",
        wire.infer(
            "toy",
            [wire.tensor("image", "BYTES", (3,))],
            [wire.elements(*map(png, shots))],
            identity="r-1",
            parameters=[wire.parameter("target", "goat"), wire.parameter("layer", "features.3")],
            outputs=[
                wire.chunk(1, "saliency") + wire.chunk(2, wire.parameter("method", "grad_cam")),
                *(wire.chunk(1, name) for name in ("logits", "scores", "labels", "classes", "faithfulness")),
            ],
        ),
    )
    assert wire.of(response, 3) == [b"r-1"]
    assert wire.of(response, 2) == [b"1"]
    outputs = answered(response)
    assert list(outputs) == ["saliency", "logits", "scores", "labels", "classes", "faithfulness"]
    numbers = {name: np.frombuffer(raw, "<i4" if kind == "INT32" else "<f4").reshape(shape)
               for name, (kind, shape, raw) in outputs.items() if kind != "BYTES"}  # fmt: skip
    np.testing.assert_allclose(numbers["logits"], expected.logits, atol=1e-4)
    np.testing.assert_allclose(numbers["scores"], expected.logits.softmax(1), atol=1e-5)
    most = float(expected.maps[0].values.max())
    np.testing.assert_allclose(numbers["saliency"], expected.maps[0].values, atol=1e-5 * most)
    best = expected.logits.argsort(dim=1, descending=True)[:, :5].numpy()
    np.testing.assert_array_equal(numbers["classes"], best)
    assert outputs["labels"][2] == wire.elements(*(LABELS[k].encode() for k in best.ravel()))
    for row in range(3):
        values = torch.from_numpy(numbers["saliency"][row].copy())
        for place, mode in enumerate(("deletion", "insertion")):
            want = area(model.network, x[row], values, 2, mode, steps=16)
            assert numbers["faithfulness"][row, place] == pytest.approx(want, abs=1e-5)


def test_tensors_in_every_form(channel: grpc.Channel, model: models.Model) -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    halves = values.astype(np.float16)
    upper = (values.view(np.uint32) >> 16).astype(np.uint16)

    def scores(message: bytes) -> np.ndarray:
        _, shape, raw = answered(call(channel, "ModelInfer", message))["scores"]
        return np.frombuffer(raw, "<f4").reshape(shape)

    def expected(x: np.ndarray) -> np.ndarray:
        return Explainer(model)(torch.from_numpy(x.astype(np.float32)), []).logits.softmax(1).numpy()

    forms = {
        "raw": (values, wire.infer("toy", [tensor_of(values)], [values.tobytes()])),
        "typed": (values, wire.infer("toy", [tensor_of(values) + wire.chunk(5, wire.chunk(6, values.tobytes()))])),
        "FP16": (halves, wire.infer("toy", [tensor_of(halves, "FP16")], [halves.tobytes()])),
        "BF16": ((upper.astype(np.uint32) << 16).view(np.float32),
                 wire.infer("toy", [tensor_of(values, "BF16")], [upper.tobytes()])),
    }  # fmt: skip
    for name, (x, message) in forms.items():
        np.testing.assert_allclose(scores(message), expected(x), atol=1e-5, err_msg=name)


def test_versions_differ(channel: grpc.Channel) -> None:
    message = [wire.tensor("image", "BYTES", (1,))], [wire.elements(png(pictures(1)[0]))]
    first, second, default = (
        call(channel, "ModelInfer", wire.infer("toy", *message, version=version)) for version in ("1", "2", "")
    )
    assert wire.of(second, 2) == [b"2"]
    assert answered(first) == answered(default) != answered(second)


ONE = png(pictures(1)[0])
IMAGE = wire.tensor("image", "BYTES", (1,))
REFUSALS = {
    "unknown model": ("NOT_FOUND", "'nope' is not served", wire.infer("nope", [IMAGE], [wire.elements(ONE)])),
    "no model's name": ("NOT_FOUND", "model", wire.infer("../x", [IMAGE], [wire.elements(ONE)])),
    "unknown version": ("NOT_FOUND", "there are 1, 2", wire.infer("toy", [IMAGE], [wire.elements(ONE)], version="7")),
    "no message": ("INVALID_ARGUMENT", "no message of the type ModelInferRequest", b"\xff\xff"),
    "no inputs": ("INVALID_ARGUMENT", "0 tensors", wire.infer("toy", [])),
    "unknown input": ("INVALID_ARGUMENT", "'pixels' is not one of",
                 wire.infer("toy", [wire.tensor("pixels", "FP32", (1,))], [bytes(4)])),
    "raw for some": ("INVALID_ARGUMENT", "2 entries for 1 inputs", wire.infer("toy", [IMAGE], [b"", b""])),
    "wrong shape": ("INVALID_ARGUMENT", "its shape is [-1, 3, 64, 64], not [1, 3, 8, 8]",
                    wire.infer("toy", [wire.tensor("input", "FP32", (1, 3, 8, 8))], [bytes(768)])),
    "negative": ("INVALID_ARGUMENT", "inputs.input.shape: -1",
                 wire.infer("toy", [wire.tensor("input", "FP32", (-1, 3, 64, 64))], [b""])),
    "wrong size": ("INVALID_ARGUMENT", "10 bytes of data; FP32 of shape [1, 3, 64, 64] takes 49152",
                   wire.infer("toy", [wire.tensor("input", "FP32", (1, 3, 64, 64))], [bytes(10)])),
    "overflow": ("INVALID_ARGUMENT", "more than",
                 wire.infer("toy", [wire.tensor("input", "FP32", (2**62, 2**62, 4))], [b""])),
    "wrong datatype": ("INVALID_ARGUMENT", "FP32, FP16, BF16, not FP64",
                 wire.infer("toy", [wire.tensor("input", "FP64", (1,))], [bytes(8)])),
    "no datatype": ("INVALID_ARGUMENT", "'FP7' is not one of",
                 wire.infer("toy", [wire.tensor("input", "FP7", (1,))], [bytes(8)])),
    "typed FP16": ("INVALID_ARGUMENT", "raw_input_contents only",
                 wire.infer("toy", [wire.tensor("input", "FP16", (1,))])),
    "wrong contents": ("INVALID_ARGUMENT", "is in fp32_contents, not in bytes_contents",
                       wire.infer("toy", [wire.tensor("input", "FP32", (1,), wire.chunk(5, wire.chunk(8, b"x")))])),
    "not finite": ("INVALID_ARGUMENT", "not finite", wire.infer(
        "toy", [wire.tensor("input", "FP32", (1, 3, 64, 64))], [struct.pack("<f", float("nan")) * 12288])),
    "length": ("INVALID_ARGUMENT", "element 0 has 99 bytes by its length, but only 2", wire.infer(
        "toy", [IMAGE], [struct.pack("<I", 99) + b"ab"])),
    "elements": ("INVALID_ARGUMENT", "more than 1 elements", wire.infer("toy", [IMAGE], [wire.elements(ONE, ONE)])),
    "too many rows": ("INVALID_ARGUMENT", "inputs.image.shape[0]", wire.infer(
        "toy", [wire.tensor("image", "BYTES", (65,))], [wire.elements(*[b"x"] * 65)])),
    "row": ("INVALID_ARGUMENT", "row 1: image", wire.infer(
        "toy", [wire.tensor("image", "BYTES", (2,))], [wire.elements(ONE, b"<html>")])),
    "output": ("INVALID_ARGUMENT", "'heat' is not one of scores", wire.infer(
        "toy", [IMAGE], [wire.elements(ONE)], outputs=[wire.chunk(1, "heat")])),
    "twice": ("INVALID_ARGUMENT", "asked for twice", wire.infer(
        "toy", [IMAGE], [wire.elements(ONE)], outputs=[wire.chunk(1, "scores")] * 2)),
    "lost parameter": ("INVALID_ARGUMENT", "'method' means nothing here", wire.infer(
        "toy", [IMAGE], [wire.elements(ONE)], parameters=[wire.parameter("method", "guided")])),
    "method": ("INVALID_ARGUMENT", "'magic'", wire.infer(
        "toy", [IMAGE], [wire.elements(ONE)], parameters=[wire.parameter("method", "magic")],
        outputs=[wire.chunk(1, "saliency")])),
    "layer": ("NOT_FOUND", "__class__", wire.infer(
        "toy", [IMAGE], [wire.elements(ONE)],
        parameters=[wire.parameter("method", "grad_cam"), wire.parameter("layer", "__class__")],
        outputs=[wire.chunk(1, "saliency")])),
    "target": ("INVALID_ARGUMENT", "target", wire.infer(
        "toy", [IMAGE], [wire.elements(ONE)], parameters=[wire.parameter("target", 6)],
        outputs=[wire.chunk(1, "saliency")])),
    "top_k": ("INVALID_ARGUMENT", "parameters.top_k", wire.infer(
        "toy", [IMAGE], [wire.elements(ONE)], parameters=[wire.parameter("top_k", 7)])),
    "sequences": ("INVALID_ARGUMENT", "no sequences", wire.infer(
        "toy", [IMAGE], [wire.elements(ONE)], parameters=[wire.parameter("sequence_id", 4)])),
    "shared memory": ("UNIMPLEMENTED", "shared memory", wire.infer("toy", [
        wire.tensor("image", "BYTES", (1,), wire.chunk(4, wire.parameter("shared_memory_region", "r")))])),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_name_what_is_wrong(channel: grpc.Channel, name: str) -> None:
    code, words, message = REFUSALS[name]
    refused(channel, CODES[code], words, message)


@pytest.mark.parametrize(
    "method",
    ["ModelStreamInfer", "SystemSharedMemoryStatus", "RepositoryModelLoad", "Nope"],
)
def test_what_is_not_spoken_says_so(channel: grpc.Channel, method: str) -> None:
    refused(channel, CODES.UNIMPLEMENTED, method, b"", method)


def test_a_deadline_ends_the_work(channel: grpc.Channel) -> None:
    parameters = [wire.parameter("method", "smoothgrad"), wire.parameter("samples", 512)]
    slow = wire.infer("toy", [IMAGE], [wire.elements(ONE)], parameters=parameters, outputs=[wire.chunk(1, "saliency")])
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, "ModelInfer", slow, timeout=0.3)
    assert caught.value.code() is CODES.DEADLINE_EXCEEDED
    short = [*parameters, wire.parameter("timeout", 200_000)]  # microseconds, as Triton's clients send it
    refused(
        channel, CODES.DEADLINE_EXCEEDED, "", wire.infer(
            "toy", [IMAGE], [wire.elements(ONE)], parameters=short, outputs=[wire.chunk(1, "saliency")])
    )  # fmt: skip
    call(channel, "ModelInfer", wire.infer("toy", [IMAGE], [wire.elements(ONE)]), timeout=20)  # it is free again


def test_concurrent_callers_get_their_own_answers(addresses: Addresses) -> None:
    shots = pictures(16, seed=3)
    answers: dict[int, bytes] = {}

    def ask(number: int) -> None:
        with grpc.insecure_channel(addresses.grpc, options=[("grpc.use_local_subchannel_pool", 1)]) as own:
            message = wire.infer("toy", [IMAGE], [wire.elements(png(shots[number]))], identity=str(number))
            answers[number] = call(own, "ModelInfer", message)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with grpc.insecure_channel(addresses.grpc) as own:
        together = call(own, "ModelInfer", wire.infer(
            "toy", [wire.tensor("image", "BYTES", (16,))], [wire.elements(*map(png, shots))]))  # fmt: skip
    _, shape, raw = answered(together)["scores"]
    expected = np.frombuffer(raw, "<f4").reshape(shape)
    for number in range(16):
        assert wire.of(answers[number], 3) == [str(number).encode()]
        np.testing.assert_allclose(
            np.frombuffer(answered(answers[number])["scores"][2], "<f4"), expected[number], atol=1e-5
        )
