"""Results: the collection of maps, the pictures, the notebook, and answers that do not hold together."""

from __future__ import annotations

import io
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from PIL import Image

from ouzel_client import AmbiguousKey, Client, Deviation, InvalidArgument, ModelInfo, Saliency, ServerError, Top
from ouzel_client._cli.explanations import inexact
from ouzel_client._codec.explanation import envelope, explanation
from ouzel_client._pictures.upload import Upload
from ouzel_protos import heatmap, overlay, tensors
from ouzel_protos.v1 import explain_pb2 as pb


@pytest.fixture
def explain(server):
    with Client(server.target) as client:
        yield client.models["m"].explain


def test_maps_go_by_method_and_by_place(explain, pixels):
    maps = explain(pixels, saliency=["guided", Saliency("grad_cam", target=Top(2))]).saliency
    assert len(maps) == 3
    assert maps.keys() == ("guided", "grad_cam")
    assert [one.method for one in maps] == ["guided", "grad_cam", "grad_cam"]
    assert maps["guided"] is maps[0]
    assert maps[1:] == maps.all("grad_cam")
    assert "guided" in maps
    assert maps[2] in maps
    assert "rise" not in maps
    assert maps.all("rise") == ()
    with pytest.raises(KeyError):
        maps["rise"]
    with pytest.raises(AmbiguousKey, match="2 maps"):
        maps["grad_cam"]
    with pytest.raises(IndexError):
        maps[3]


def test_results_are_frozen(explain, pixels):
    e = explain(pixels, saliency="guided")
    with pytest.raises(FrozenInstanceError):
        e.labels = ()
    with pytest.raises(FrozenInstanceError):
        e.saliency[0].method = "x"
    with pytest.raises(ValueError, match="read-only"):
        e.saliency[0].array[0] = 1


@pytest.mark.parametrize("size", ["model", "original"])
def test_an_overlay_covers_the_whole_picture_at_its_size(explain, picture, pixels, size):
    one = explain(picture, saliency=Saliency("guided", size=size)).saliency["guided"]
    assert one.array.shape == ((20, 30) if size == "original" else (8, 8))
    drawn = overlay.draw(Image.fromarray(pixels), one.array, method="guided", alpha=0.5)
    assert (np.asarray(one.overlay(alpha=0.5)) == np.asarray(drawn)).all()
    assert drawn.size == (30, 20)
    assert one.overlay(longest=15).size == (15, 10)


def test_an_overlay_lies_where_the_model_looked_and_the_rest_is_faded():
    """The model saw the right half, which is white; a map of zeros leaves the picture as it is, in grey."""
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 8:] = 255
    answer = pb.Explanation(view=pb.View(image_width=16, image_height=8, left=8, top=0, right=16, bottom=8))
    for size, shape in ((pb.MODEL_INPUT, (4, 4)), (pb.ORIGINAL_IMAGE, (8, 16))):
        values = np.zeros(shape, np.float32)
        values[:, shape[1] * 3 // 4 :] = 1.0
        answer.saliency.add(method="grad_cam", values=tensors.encode(values), size=size)
    for one in explanation(answer, Upload("tensor", b"", pixels)).saliency:
        shown = np.asarray(one.overlay()).astype(int)
        assert shown.shape == (8, 16, 3)
        coloured = np.ptp(shown, axis=2) > 20
        assert not coloured[:, :8].any()
        assert coloured[:, 15].all() if one.size == "model" else coloured[:, 12:].all()
        assert shown[:, :7].max() < shown[:, 9:11].min()  # black, and faded
        assert not (np.ptp(shown[:, :8], axis=2) > 0).any()


@pytest.mark.parametrize("reduction", ["max_abs", "none"])
def test_pictures_of_maps(explain, pixels, reduction):
    one = explain(pixels, saliency=Saliency("guided", reduction=reduction)).saliency[0]
    assert one.reduction == reduction
    assert one.array.shape == ((3, 8, 8) if reduction == "none" else (8, 8))
    assert one.heatmap().size == (8, 8)
    assert one.overlay().size == (30, 20)
    with Image.open(io.BytesIO(one._repr_png_())) as shown:
        assert (np.asarray(shown) == np.asarray(one.overlay())).all()


def test_a_normalised_tensor_shows_the_map_alone(explain):
    one = explain(np.zeros((3, 8, 8), np.float32), saliency="guided").saliency[0]
    with pytest.raises(InvalidArgument, match="no picture"):
        one.overlay()
    with Image.open(io.BytesIO(one._repr_png_())) as shown:
        assert (np.asarray(shown) == heatmap.colorize(one.array)).all()


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_is_a_share(explain, pixels, alpha):
    with pytest.raises(InvalidArgument, match="alpha"):
        explain(pixels, saliency="guided").saliency[0].overlay(alpha)


def test_a_notebook_shows_labels_and_maps_and_runs_nothing(explain, pixels):
    shown = explain(pixels, saliency=["guided", "grad_cam"], top_k=3)._repr_html_()
    assert shown.count("data:image/png;base64,") == 4  # two maps, each with its scale
    assert shown.count(" and more") == 2
    assert "&lt;b&gt;bird" in shown
    assert "<b>bird" not in shown


@pytest.mark.parametrize(
    ("values", "said"), [([[0, 4.0]], "0 <img"), ([[-4.0, 2.0]], "-3.98 <img"), ([[0, 0]], "0 everywhere")]
)
def test_a_scale_tells_the_values_of_the_colours(values, said):
    answer = pb.Explanation(view=pb.View(image_width=8, image_height=8, right=8, bottom=8))
    answer.saliency.add(method="occlusion", values=tensors.encode(np.array(values, np.float32)))
    (one,) = explanation(answer, Upload("tensor", b"", np.zeros((8, 8, 3), np.uint8))).saliency
    assert said in one._repr_html_()


def test_an_answer_of_another_handler_is_refused():
    with pytest.raises(ServerError, match="not an Explanation"):
        envelope(b'{"tabby": 0.9}')


@pytest.mark.parametrize("shape", [[2, 2], [1]])
def test_a_map_that_does_not_fit_itself_is_refused(shape):
    answer = pb.Explanation()
    values = tensors.encode(np.zeros(1, np.float32))
    values.ClearField("shape")
    values.shape.extend(shape)
    answer.saliency.add(values=values)
    with pytest.raises(ServerError, match="cannot be read"):
        explanation(answer, Upload("image", b""))


def test_answers_that_are_not_exact_are_printed_with_how_far_they_deviate() -> None:
    assert inexact(ModelInfo("net", "1", "sha256:0", "exact")) == []
    told = inexact(ModelInfo("net", "1", "sha256:0", "bf16", Deviation(0.0053, 0.11, 8)))
    assert told == [
        "net computes in bf16, not exactly; deviation measured at loading: logits 0.53 %, gradient maps 11 %"
    ]
    (nothing,) = inexact(ModelInfo("net", "1", "sha256:0", "tf32", Deviation(0.0, None, 8)))
    assert nothing.endswith("measured at loading: logits 0 %")
