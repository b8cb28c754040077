"""Images among a request's parameters: every encoding, the preprocessing, refusals."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from PIL import Image

from ouzel.explain import ExplainService, RawRequest
from ouzel.models import Model
from ouzel.saliency import Explainer, Saliency
from ouzel_protos import tensors
from ouzel_protos.v1 import explain_pb2 as pb
from ouzel_protos.v1.tensor_pb2 import Tensor
from support.pictures import picture, png

WIDE = (90, 40)  # unlike the upload in size: it has to be cropped by itself


def message(baseline: Tensor, method: str = "integrated_gradients", name: str = "baseline") -> bytes:
    options = pb.ExplainOptions()
    options.saliency.add(method=method).parameters[name].tensor.CopyFrom(baseline)
    return options.SerializeToString()


def answer(service: ExplainService, options: bytes) -> pb.Explanation:
    return service.answer([RawRequest(image=png(0), options=options)])[0].envelope


def file(data: bytes) -> Tensor:
    return tensors.encode(np.frombuffer(data, np.uint8))


def test_every_encoding_is_preprocessed_like_an_upload(service: ExplainService, tiny: Model) -> None:
    x, start = (tiny.preprocessing(Image.fromarray(pixels)) for pixels in (picture(0), picture(5, *WIDE)))
    expected = Explainer(tiny)(x[None], [Saliency("integrated_gradients", baseline=start)]).maps[0]
    document = {"method": "integrated_gradients", "baseline": {"image": base64.b64encode(png(5, *WIDE)).decode()}}
    for options in (
        message(file(png(5, *WIDE))),
        message(tensors.encode(picture(5, *WIDE))),
        message(tensors.encode(start.numpy())),
        json.dumps({"saliency": [document]}).encode(),
    ):
        (saliency,) = answer(service, options).saliency
        # Each explainer chooses the memory format that it finds faster: the last bits may differ.
        most = float(expected.values.max())
        np.testing.assert_allclose(tensors.decode(saliency.values), expected.values[0].numpy(), atol=1e-5 * most)
        # Said, but not sent back.
        assert saliency.parameters["baseline"].text == str(expected.parameters["baseline"])


def test_occlusion_takes_a_picture_too(service: ExplainService) -> None:
    options = pb.ExplainOptions.FromString(message(file(png(5)), "occlusion", "fill"))
    options.saliency[0].parameters["window"].integer = 16
    (saliency,) = answer(service, options.SerializeToString()).saliency
    assert saliency.parameters["fill"].text.startswith("image sha256:")


NAN = np.zeros((3, 32, 32), np.float32)
NAN[1, 2, 3] = np.nan


@pytest.mark.parametrize(
    ("tensor", "hint", "http"),
    [
        (tensors.encode(NAN), "finite", 400),
        (tensors.encode(np.zeros((3, 31, 32), np.float32)), "(3, 32, 32)", 400),
        (tensors.encode(np.zeros((3, 32, 32), np.float64)), "float64", 400),
        (tensors.encode(np.zeros((3, 32, 32), np.uint8)), "uint8", 400),
        (tensors.encode(np.zeros((4, 4, 3), np.uint8)), "8 at least", 400),
        (Tensor(dtype=Tensor.FLOAT32, shape=[3, 32, 32], data=b"x"), "12288 bytes", 400),
        (Tensor(), "dtype", 400),
        (file(b"<html>"), "PNG", 415),
        (file(png(0)[:100]), "broken", 400),
    ],
)
def test_what_is_no_image(
    service: ExplainService, monkeypatch: pytest.MonkeyPatch, tensor: Tensor, hint: str, http: int
) -> None:
    monkeypatch.setattr(service.explainer, "forward", lambda *_: pytest.fail("computed all the same"))
    (reply,) = service.answer([RawRequest(image=png(0), options=message(tensor))])
    error = reply.envelope.error
    assert error.code == pb.Error.INVALID_ARGUMENT
    assert error.field == "saliency[0].parameters.baseline"
    assert error.message.startswith("saliency[0].parameters.baseline: ")
    assert hint in error.message
    assert reply.http == http


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"image": "no base64!"}, "saliency[0].baseline.image"),
        ({"image": 3}, "saliency[0].baseline"),
        ({"picture": "aa"}, "saliency[0].baseline"),
        ([0] * 4_000, "saliency[0].baseline"),
        ({"image": ""}, "saliency[0].parameters.baseline"),
    ],
)
def test_what_is_no_image_in_json(service: ExplainService, value: object, field: str) -> None:
    wish = {"saliency": [{"method": "integrated_gradients", "baseline": value}]}
    error = answer(service, json.dumps(wish).encode()).error
    assert (error.code, error.field) == (pb.Error.INVALID_ARGUMENT, field)
    assert len(error.message) < 300


def test_images_are_few(service: ExplainService) -> None:
    """Each may be large once decoded."""
    options = pb.ExplainOptions()
    for _ in range(service.limits.images + 1):
        options.saliency.add(method="integrated_gradients").parameters["baseline"].tensor.CopyFrom(file(png(1)))
    error = answer(service, options.SerializeToString()).error
    assert (error.code, error.field) == (pb.Error.INVALID_ARGUMENT, "saliency")
    assert f"at most {service.limits.images}" in error.message
