"""What bodies hold: the pictures that were sent, exactly, or an error in words."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ouzel.endpoints.clients.tensors import tensor
from ouzel.endpoints.description.protocols import Oip
from ouzel.errors import FailedPrecondition
from ouzel.sink.bodies import check_batches, picture, prediction
from ouzel.sink.config import Service
from ouzel.sink.file import read
from support.sink import IMAGE, LABELS, png, request_body, response_body, write

OIP = """
[farm]
kind = "oip"
url = "http://farm.invalid/v2/models/farm"
labels = {labels!r}
size = [16, 12]
[farm.input]
name = "x"
layout = "{layout}"
datatype = "{datatype}"
channels = "{channels}"
{values}
[farm.output]
scores = "logits"
"""
FP32 = 'scale = "1/255"\nmean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]'
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 16, 12, 3), dtype=np.uint8)
LOGITS = np.array([[0.0, 1.0, 5.0], [9.0, 0.0, 0.0], [0.0, 7.0, 0.0]], np.float32)


def service(folder: Path, own: str = "rate = 1.0", **more: str) -> Service:
    endpoints = {}
    if more:
        endpoints["endpoints"] = OIP.format(**{"labels": list(LABELS), **more})
    return read(write(folder, own, **endpoints)).services[0]


def tensors(folder: Path, layout: str = "NCHW", datatype: str = "FP32", channels: str = "RGB") -> Service:
    return service(
        folder, layout=layout, datatype=datatype, channels=channels, values=FP32 if datatype == "FP32" else ""
    )


def body(key: str, name: str, values: np.ndarray, datatype: str, *, binary: bool = False, **more: Any) -> bytes:
    described: dict[str, Any] = {"name": name, "shape": list(values.shape), "datatype": datatype, **more}
    if not binary:
        described["data"] = values.ravel().tolist()
        return json.dumps({"id": "1", key: [described]}).encode()
    raw = values.tobytes()
    described["parameters"] = {"binary_data_size": len(raw)}
    first = {"name": "first", "shape": [4], "datatype": "UINT8", "parameters": {"binary_data_size": 4}}
    return json.dumps({"id": "ä{", key: [first, described]}, ensure_ascii=False).encode() + b"\xff}]\x00" + raw


def pixels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)))


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    ("layout", "datatype", "channels"), [("NCHW", "FP32", "RGB"), ("NHWC", "FP32", "BGR"), ("NHWC", "UINT8", "RGB")]
)
def test_tensors_become_the_pictures_that_they_were(
    tmp_path: Path, layout: str, datatype: str, channels: str, binary: bool
) -> None:
    farm = tensors(tmp_path, layout, datatype, channels)
    assert isinstance(farm.bodies.protocol, Oip)
    values = tensor(PICTURES, farm.bodies.protocol.input)
    request = body("inputs", "x", values, datatype, binary=binary)
    for draw in range(5):
        found = picture(farm, request, draw)
        assert found.tensor
        assert np.array_equal(pixels(found.image), PICTURES[draw % 3])


def test_the_scores_are_of_the_same_picture_of_a_batch(tmp_path: Path) -> None:
    farm = tensors(tmp_path)
    for sent in (body("outputs", "y", LOGITS, "FP32"), body("outputs", "y", LOGITS.astype("<f8"), "FP64")):
        said = [prediction(farm, sent, draw) for draw in range(3)]
        assert [each.label for each in said] == ["cow", "goat", "sheep"]
        wanted = np.exp(LOGITS[0]) / np.exp(LOGITS[0]).sum()
        assert said[0].score == pytest.approx(wanted[2], rel=1e-6)
        assert [label for label, _ in said[0].best] == ["cow", "sheep", "goat"]


def test_halves_of_different_batches_are_refused(tmp_path: Path) -> None:
    farm = tensors(tmp_path)
    values = tensor(PICTURES, farm.bodies.protocol.input)  # type: ignore[union-attr]
    request = body("inputs", "x", values, "FP32")
    check_batches(farm, request, body("outputs", "y", LOGITS, "FP32"))
    with pytest.raises(FailedPrecondition, match="2 pictures, the request 3"):
        check_batches(farm, request, body("outputs", "y", LOGITS[:2], "FP32"))


def test_a_wrong_scale_is_noticed(tmp_path: Path) -> None:
    farm = tensors(tmp_path)
    grey = np.full((1, 3, 16, 12), 200.0, np.float32)  # values as they are, of a service that is said to normalise
    with pytest.raises(FailedPrecondition, match="scale, mean or std"):
        picture(farm, body("inputs", "x", grey, "FP32"), 0)


REFUSED: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"\x00\x01", "begin with JSON"),
    "deep": (b"[" * 100_000, "begin with JSON"),
    "empty": (b"", "begin with JSON"),
    "a list": (b"[]", "not a JSON object"),
    "no inputs": (b"{}", "no list of inputs"),
    "another name": (body("inputs", "z", np.zeros((1, 3, 16, 12)), "FP32"), "no tensor 'x'"),
    "another size": (body("inputs", "x", np.zeros((1, 3, 8, 8)), "FP32"), "8 x 8"),
    "another type": (body("inputs", "x", np.zeros((1, 3, 16, 12)), "FP64"), "datatype"),
    "grey": (body("inputs", "x", np.zeros((1, 1, 16, 12)), "FP32"), "colour"),
    "short": (b'{"inputs": [{"name": "x", "shape": [1, 3, 16, 12], "datatype": "FP32", "data": [1]}]}', "576 numbers"),
    "huge": (b'{"inputs": [{"name": "x", "shape": [1, 3, 9999999, 9999999], "datatype": "FP32"}]}', "is beyond"),
    "negative": (b'{"inputs": [{"name": "x", "shape": [-1, 3, 16, 12], "datatype": "FP32"}]}', "shape"),
    "not finite": (body("inputs", "x", np.full((1, 3, 16, 12), np.nan), "FP32"), "finite"),
    "strings": (b'{"inputs": [{"name": "x", "shape": [1, 3, 16, 12], "datatype": "FP32", "data": ["a"]}]}', "numbers"),
    "missing bytes": (body("inputs", "x", np.zeros((1, 3, 16, 12), "<f4"), "FP32", binary=True)[:-4], "bytes follow"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_requests_are_refused_in_words(tmp_path: Path, case: str) -> None:
    request, words = REFUSED[case]
    with pytest.raises(FailedPrecondition, match=words):
        picture(tensors(tmp_path), request, 0)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ((float("nan"), 0.5, 0.5), "not finite"),
        ((float("inf"), 0.0, 0.0), "not finite"),
        ((0.5, 0.5), "2 scores"),
        ((0.5, 0.5, 0.5), "sum"),
        ((-0.5, 1.0, 0.5), "0..1"),
        ((True, False, False), "list of numbers"),
        (("0.9", 0.05, 0.05), "list of numbers"),
        ((10**400, 0, 0), "64 bits"),
    ],
)
def test_scores_that_are_none_are_refused(tmp_path: Path, scores: Any, words: str) -> None:
    with pytest.raises(FailedPrecondition, match=words):
        prediction(service(tmp_path), response_body(scores), 0)


def test_images_in_json_with_boxes(tmp_path: Path) -> None:
    farm = service(tmp_path)
    found = picture(farm, request_body(), 0)
    assert (found.image, found.tensor, found.boxes) == (IMAGE, False, ((4.0, 4.0, 12.0, 12.0),))
    assert picture(farm, request_body(boxes=None), 0).boxes == ()
    for boxes in ([[1, 2, 3]], [[1, 2, 3, "4"]], "all", [[0, 0, 1, float("nan")]]):
        with pytest.raises(FailedPrecondition, match="boxes"):
            picture(farm, request_body(boxes=boxes), 0)


def test_a_label_alone_is_read(tmp_path: Path) -> None:
    farm = service(tmp_path, 'rate = 1.0\nlabel = "predictions[0]"')
    for value, label in (("sheep", "sheep"), (2, "cow"), (0.0, "goat")):
        said = prediction(farm, json.dumps({"predictions": [value]}).encode(), 0)
        assert (said.label, said.score, said.best) == (label, None, ())
    for value in ("Sheep!", 3, -1, 0.5, True, None, [0], float("nan"), 1e400):
        with pytest.raises(FailedPrecondition, match="no label"):
            prediction(farm, json.dumps({"predictions": [value]}).encode(), 0)


@pytest.mark.parametrize(
    "text",
    ["http://169.254.169.254/latest", "file:///etc/passwd", "/etc/passwd", "data:image/png;base64,AAAA", "", "AA=A"],
)
def test_addresses_and_paths_are_no_images(tmp_path: Path, text: str) -> None:
    sent = json.dumps({"instances": [{"image": {"b64": text}}]}).encode()
    with pytest.raises(FailedPrecondition, match=r"base64|bytes"):
        picture(service(tmp_path), sent, 0)


def test_an_image_as_the_whole_body(tmp_path: Path) -> None:
    endpoints = f"""
[farm]
kind = "torchserve"
url = "http://farm.invalid/predictions/farm"
labels = {list(LABELS)!r}
size = "image"
"""
    farm = read(write(tmp_path, "rate = 1.0", endpoints=endpoints)).services[0]
    assert picture(farm, png(20), 0).image == png(20)
    said = prediction(farm, b'{"cow": 0.6, "goat": 0.3}', 0)
    assert (said.label, said.score) == ("cow", 0.6)
    with pytest.raises(FailedPrecondition, match="bytes"):
        picture(farm, b"", 0)
    with pytest.raises(FailedPrecondition, match="bytes"):
        picture(farm, b"x" * 6_553_501, 0)
