"""A segmentation model through the front door: both protocols, the pool behind them, and the client."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from PIL import Image

from ouzel import models
from ouzel.gateway.server import Addresses
from ouzel.saliency import Box, Explainer, Saliency, Within
from ouzel_client import Box as ClientBox
from ouzel_client import Client, FailedPrecondition, InvalidArgument
from ouzel_client import Pixel as ClientPixel
from ouzel_client import Saliency as ClientSaliency
from ouzel_client import Within as ClientWithin
from support import segmenters
from support.gateway import call, infer_images, pictures, png
from support.segmenters import LABELS, SIZE

SHOTS = [segmenters.picture(seed) for seed in range(2)]
FILES = [png(shot) for shot in SHOTS]


@pytest.fixture(scope="module")
def found(tasks_store: Path) -> tuple[models.Segments, Any]:
    """What the library says of both pictures."""
    model = models.load(tasks_store / "segments.mar")
    x = torch.stack([model.preprocessing(Image.fromarray(shot)) for shot in SHOTS])
    made = Explainer(model)(x, [Saliency("grad_cam", Within(2, Box(5, 10, 16, 31)))])
    return models.segments(made.logits), made


def infer(tasks: Addresses, outputs: list[str], **more: Any) -> tuple[int, Any]:
    return infer_images(tasks, "segments", FILES, outputs, **more)


def test_the_metadata_are_those_of_what_is_answered(tasks: Addresses, found: Any) -> None:
    told = json.loads(call(tasks, "GET", "/v2/models/segments")[2])
    shapes = {each["name"]: (each["datatype"], each["shape"]) for each in told["outputs"]}
    assert shapes == {
        "label_map": ("UINT8", [-1, SIZE, SIZE]),
        "areas": ("FP32", [-1, len(LABELS)]),
        "confidences": ("FP32", [-1, len(LABELS)]),
        "saliency": ("FP32", [-1, SIZE, SIZE]),
        "faithfulness": ("FP32", [-1, 2]),
    }
    status, answer = infer(tasks, list(shapes))
    assert status == 200, answer
    assert [each["name"] for each in answer["outputs"]] == list(shapes)
    for each in answer["outputs"]:
        assert (each["datatype"], each["shape"][1:]) == (shapes[each["name"]][0], shapes[each["name"]][1][1:])
        assert each["shape"][0] == 2
    label_map, areas, confidences = (np.reshape(each["data"], each["shape"]) for each in answer["outputs"][:3])
    segments, _ = found
    assert (label_map != segments.label_map.numpy()).mean() < 1e-3
    np.testing.assert_allclose(areas, segments.areas, atol=2e-3)
    np.testing.assert_allclose(confidences, segments.confidences, atol=2e-3)
    (usual,) = infer(tasks, [])[1]["outputs"]
    assert usual["name"] == "label_map"
    config = json.loads(call(tasks, "GET", "/v2/models/segments/config")[2])
    assert [each["data_type"] for each in config["output"]][:2] == ["TYPE_UINT8", "TYPE_FP32"]


@pytest.mark.parametrize(
    ("outputs", "parameters", "told"),
    [
        (["scores"], {}, "'scores' is not one of label_map, areas, confidences, saliency"),
        (["labels"], {}, "'labels' is not one of label_map"),
        (["label_map"], {"top_k": 2}, "parameters.top_k: is of classifiers"),
        (["saliency"], {"pixel": "1,1"}, "parameters.pixel: regions have no place in this protocol; ask for it by"),
        (["saliency"], {"target": "goat", "box": "1,1,5,5"}, "parameters.box: regions have no place"),
    ],
)
def test_what_it_does_not_have_is_refused(
    tasks: Addresses, outputs: list[str], parameters: dict[str, Any], told: str
) -> None:
    status, answer = infer(tasks, outputs, parameters=parameters)
    assert status == 400
    assert told in answer["error"]


def test_a_classifier_has_no_label_map(tasks: Addresses) -> None:
    status, answer = infer_images(tasks, "toy", FILES, ["label_map"])
    assert (status, "is not one of scores" in answer["error"]) == (400, True)
    with Client(tasks.grpc) as client:
        model = client.models["toy"]
        with pytest.raises(InvalidArgument, match="'toy' is a classifier, whose answer has no places"):
            model.explain(SHOTS[0], saliency="gradient", target=ClientWithin("sheep", ClientPixel(1, 1)))
        with pytest.raises(FailedPrecondition, match="need a segmentation model"):
            model.explain(SHOTS[0], label_map_size="original")
        assert model.explain(SHOTS[0]).segmentation is None


def test_over_grpc(tasks: Addresses, found: Any) -> None:
    """By Triton's messages, of which the stubs know all fields."""
    from ouzel_protos.oip import inference_pb2 as pb

    with grpc.insecure_channel(tasks.grpc) as channel:
        ask = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelInferResponse.FromString,
        )
        tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[2])
        tensor.contents.bytes_contents.extend(FILES)
        answer = ask(pb.ModelInferRequest(model_name="segments", inputs=[tensor]), timeout=60)
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("label_map", "UINT8", [2, SIZE, SIZE])
    values = np.frombuffer(answer.raw_output_contents[0], np.uint8).reshape(2, SIZE, SIZE)
    assert (values != found[0].label_map.numpy()).mean() < 1e-3


def test_the_client(tasks: Addresses, found: Any, tmp_path: Path) -> None:
    mask = np.zeros((2 * SIZE, 2 * SIZE), np.uint8)
    mask[20:62, 10:32] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    box = ClientBox(10, 20, 32, 62)
    regions = [box, mask > 0, tmp_path / "mask.png", (tmp_path / "mask.png").read_bytes(), Image.fromarray(mask)]
    requests = [ClientSaliency("grad_cam", ClientWithin("goat", region)) for region in regions]
    with Client(tasks.grpc) as client:
        result = client.models["segments"].explain(SHOTS[0], saliency=requests[:3])
        others = client.models["segments"].explain(SHOTS[0], saliency=requests[3:], label_map_size="original")
        bad = ClientSaliency("gradient", ClientWithin("goat", np.ones((5, 5), np.uint8)))
        with pytest.raises(InvalidArgument, match=r"saliency\[0\]\.target\.region\.mask: the mask has 5 x 5 pixels"):
            client.models["segments"].explain(SHOTS[0], saliency=bad)
    segments, explained = found
    largest = float(explained.maps[0].values[0].max())
    for one in (*result.saliency, *others.saliency):
        np.testing.assert_allclose(one.array, explained.maps[0].values[0], atol=0.02 * largest)
        assert one.target.region in ("box", "mask")
        assert one.target.region_area == pytest.approx(11 * 21 / SIZE**2)
        assert one.overlay().size == (2 * SIZE, 2 * SIZE)
    seen = result.segmentation
    assert seen is not None
    assert (result.labels, result.model.task) == ((), "segmentation")
    assert (seen.label_map != segments.label_map[0].numpy()).mean() < 1e-3
    assert seen.classes[-1].label == "background"
    assert not seen.label_map.flags.writeable
    assert seen.mask("goat").mean() == pytest.approx(next(c.area for c in seen.classes if c.label == "goat"))
    assert (seen.mask(2) == seen.mask("goat")).all()
    with pytest.raises(KeyError):
        seen.mask("cow")
    whole = others.segmentation
    assert whole is not None
    assert (whole.label_map == np.kron(seen.label_map, np.ones((2, 2), np.uint8))).all()
    for drawn in (seen.overlay(), whole.overlay()):
        assert drawn.width == 240  # as much as a legend needs
        colour = np.asarray(drawn)[: 2 * SIZE, : 2 * SIZE].astype(int)
        grey = np.asarray(Image.fromarray(SHOTS[0]).convert("L")).astype(int)
        expected = 0.4 * grey[..., None] + 0.6 * (
            128 * np.stack([whole.label_map & 1, whole.label_map >> 1, 0 * grey], 2)
        )
        assert np.abs(colour - expected).max() <= 1
    assert "<img" in result._repr_html_()


def test_rest_gives_a_picture_of_the_classes(tasks: Addresses) -> None:
    path = "/v1/models/segments/explain"
    status, headers, body = call(tasks, "POST", path, FILES[0], {"Accept": "image/png"})
    assert (status, headers["content-type"]) == (200, "image/png")
    assert Image.open(io.BytesIO(body)).size == (240, 2 * SIZE + 8 + 22 * 4)
    refused, _, told = call(tasks, "POST", "/v1/models/toy/explain", png(pictures(1)[0]), {"Accept": "image/png"})
    assert (refused, "at least one map" in told.decode()) == (400, True)
