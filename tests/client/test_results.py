"""Results: the collection of maps, the pictures, the notebook, and answers that do not hold together."""

from __future__ import annotations

import io
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from PIL import Image

from ouzel_client import AmbiguousKey, Client, InvalidArgument, Saliency, ServerError, Top
from ouzel_client._decode import envelope, explanation
from ouzel_client._images import Upload
from ouzel_protos import heatmap, tensors
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


def test_an_overlay_of_original_size_covers_the_whole_picture(explain, picture, pixels):
    one = explain(picture, saliency=Saliency("guided", size="original")).saliency["guided"]
    assert one.array.shape == (20, 30)
    assert (np.asarray(one.overlay(alpha=0.5)) == heatmap.blend(pixels, one.array, 0.5)).all()
    assert (np.asarray(one.overlay(alpha=0)) == pixels).all()


def test_an_overlay_of_the_models_size_shows_what_the_model_saw():
    """The model saw the right half, which is white."""
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 8:] = 255
    answer = pb.Explanation(view=pb.View(image_width=16, image_height=8, left=8, top=0, right=16, bottom=8))
    answer.saliency.add(method="guided", values=tensors.encode(np.zeros((4, 4), np.float32)), size=pb.MODEL_INPUT)
    one = explanation(answer, Upload("tensor", b"", pixels)).saliency[0]
    shown = np.asarray(one.overlay())
    assert shown.shape == (4, 4, 3)
    assert (shown[:, 1:] == 255).all()  # the first column may borrow from its neighbour


@pytest.mark.parametrize("reduction", ["max_abs", "none"])
def test_pictures_of_maps(explain, pixels, reduction):
    one = explain(pixels, saliency=Saliency("guided", reduction=reduction)).saliency[0]
    assert one.reduction == reduction
    assert one.array.shape == ((3, 8, 8) if reduction == "none" else (8, 8))
    assert one.heatmap().size == one.overlay().size == (8, 8)
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
    assert shown.count("data:image/png;base64,") == 2
    assert "&lt;b&gt;bird" in shown
    assert "<b>bird" not in shown


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
