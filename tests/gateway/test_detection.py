"""A detector through the front door: both protocols, the pool behind them, and the client."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ouzel import models
from ouzel.gateway.server import Addresses
from ouzel.saliency.boxes import BoxSaliency, DetectionExplainer, GivenBox
from ouzel.saliency.targets import Rank
from ouzel_client import Box, Client, InvalidArgument, Saliency, Top, Within
from ouzel_client import Rank as ClientRank
from support import detectors
from support.detectors import EDGE, LABELS
from support.gateway import call, infer_images, png

SHOTS = [detectors.picture(seed) for seed in range(2)]
FILES = [png(shot) for shot in SHOTS]
LEAST = 0.3


@pytest.fixture(scope="module")
def found(tasks_store: Path) -> Any:
    """What the library says of both pictures."""
    model = models.load(tasks_store / "finds.mar")
    x = torch.stack([model.preprocessing(Image.fromarray(shot)) for shot in SHOTS])
    return DetectionExplainer(model)(
        x, [BoxSaliency("d_rise", Rank(1), masks=4), BoxSaliency("d_rise", GivenBox("goat", (10, 10, 50, 60)), masks=4)]
    )


def infer(tasks: Addresses, outputs: list[str], **more: Any) -> tuple[int, Any]:
    return infer_images(tasks, "finds", FILES, outputs, **more)


def test_the_metadata_are_those_of_what_is_answered(tasks: Addresses, found: Any) -> None:
    told = json.loads(call(tasks, "GET", "/v2/models/finds")[2])
    shapes = {each["name"]: (each["datatype"], each["shape"]) for each in told["outputs"]}
    assert list(shapes) == ["boxes", "scores", "labels", "classes", "counts", "saliency"]
    status, answer = infer(tasks, list(shapes), parameters={"min_score": LEAST, "masks": 4, "rank": 1})
    assert status == 200, answer
    arrays = {}
    for each in answer["outputs"]:
        datatype, shape = shapes[each["name"]]
        assert each["datatype"] == datatype
        assert all(extent in (-1, mine) for extent, mine in zip(shape, each["shape"], strict=True))
        arrays[each["name"]] = np.reshape(each["data"], each["shape"])
    counts = arrays["counts"].tolist()
    assert counts == [int((one.scores >= LEAST).sum()) for one in found.detections]
    assert counts[0] != counts[1]
    for row, (one, count) in enumerate(zip(found.detections, counts, strict=True)):
        expected = one.boxes[:count] * torch.tensor([2.0, 1.0, 2.0, 1.0])
        np.testing.assert_allclose(arrays["boxes"][row, :count], expected, atol=0.1)
        np.testing.assert_allclose(arrays["scores"][row, :count], one.scores[:count], rtol=1e-3)
        assert arrays["classes"][row, :count].tolist() == one.labels[:count].tolist()
        assert arrays["labels"][row, :count].tolist() == [LABELS[index] for index in one.labels[:count].tolist()]
        assert not arrays["scores"][row, count:].any()
        assert set(arrays["classes"][row, count:].tolist()) <= {-1}
        np.testing.assert_allclose(arrays["saliency"][row], found.maps[row][0].values, rtol=1e-3, atol=1e-5)
    usual = infer(tasks, [])[1]["outputs"]
    assert [each["name"] for each in usual] == ["boxes", "scores", "labels", "counts"]


@pytest.mark.parametrize(
    ("outputs", "parameters", "told"),
    [
        (["logits"], {}, "'logits' is not one of boxes, scores"),
        (["faithfulness"], {}, "'faithfulness' is not one of boxes"),
        (["boxes"], {"min_score": 2.0}, "min_score: 2.0 is not a number in 0..1"),
        (["boxes"], {"top_k": 301}, "top_k"),
        (["boxes"], {"masks": 3}, "means nothing here"),
        (["saliency"], {"target": "goat"}, "of a detector name the rank of a detection"),
        (["saliency"], {"rank": -1}, "rank: -1 is not an integer from 0 up"),
        (["saliency"], {"method": "rise"}, "rise"),
    ],
)
def test_what_it_does_not_have_is_refused(
    tasks: Addresses, outputs: list[str], parameters: dict[str, Any], told: str
) -> None:
    status, answer = infer(tasks, outputs, parameters=parameters)
    assert status == 400
    assert told in answer["error"]


def test_the_client_gets_boxes_and_maps(tasks: Addresses, found: Any) -> None:
    with Client(tasks.grpc) as client:
        model = client.models["finds"]
        asked = [
            Saliency("d_rise", ClientRank(1), masks=4),
            Saliency("d_rise", Within("goat", Box(20, 10, 100, 60)), masks=4),
        ]
        result = model.explain(SHOTS[0], saliency=asked, min_score=LEAST)
        two = model.explain(SHOTS[0], top_k=2, saliency=Saliency("gradient", Top(2)))
        with pytest.raises(InvalidArgument, match=r"rank 300 is not an integer in 0\.\.299"):
            model.explain(SHOTS[0], saliency="gradient", target=ClientRank(300))
        with pytest.raises(InvalidArgument, match="min_score: 2 is not a number"):
            model.explain(SHOTS[0], min_score=2)
        assert client.models["toy"].explain(SHOTS[0]).detected is None
    detected, theirs = result.detected, found.detections[0]
    assert detected is not None
    assert len(detected) == int((theirs.scores >= LEAST).sum())
    assert detected.found == len(theirs)
    assert not result.labels
    left, top, right, bottom = theirs.boxes[1].tolist()
    box = detected[1].box
    assert [box.left, box.top, box.right, box.bottom] == pytest.approx([2 * left, top, 2 * right, bottom], abs=0.1)
    for mine, expected in zip(result.saliency, found.maps[0], strict=True):
        np.testing.assert_allclose(mine.array, expected.values, rtol=1e-3, atol=1e-5)
    assert result.saliency[0].target.rank == 1
    assert result.saliency[0].target.box == box
    assert (result.saliency[1].target.rank, result.saliency[1].target.label) == (None, "goat")
    assert two.detected is not None
    assert len(two.detected) == 2
    assert [one.target.rank for one in two.saliency] == [0, 1]
    drawn = np.asarray(two.detected.overlay())
    assert drawn.shape == SHOTS[0].shape
    assert (drawn != SHOTS[0]).any()
    assert two.saliency[0].overlay().size == (2 * EDGE, EDGE)
    assert "detections" in two._repr_html_()


def test_pictures_of_boxes_come_without_maps(tasks: Addresses) -> None:
    headers = {"Content-Type": "image/png", "Accept": "image/png"}
    status, _, body = call(tasks, "POST", "/v1/models/finds/explain", FILES[0], headers)
    assert status == 200, body
    assert Image.open(io.BytesIO(body)).size == (2 * EDGE, EDGE)
