"""Regions as they are sent, label maps as they are drawn, and the options of the command."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from ouzel_client import Box, Client, Contrast, InvalidArgument, Pixel, Saliency, ServerError, Top, Within
from ouzel_client._cli import options as parse
from ouzel_client._codec.explanation import explanation
from ouzel_client._codec.options import encode
from ouzel_client._pictures.upload import Upload
from ouzel_protos import label_map, tensors
from ouzel_protos.v1 import explain_pb2 as pb


def test_regions_go_with_every_target():
    def sent(target):
        return encode(Saliency("gradient", target)).saliency[0].target

    assert sent(Within(None, Pixel(3, np.int64(4)))).region.pixel == pb.Region.Pixel(x=3, y=4)
    assert sent(Within(None, Pixel(3, 4))).WhichOneof("kind") is None
    boxed = sent(Within("cat", Box(1, 2.5, 3, np.float32(4))))
    assert (boxed.label, boxed.region.box) == ("cat", pb.Region.Box(left=1, top=2.5, right=3, bottom=4))
    assert sent(Within(Contrast("cat", 2), Pixel(0, 0))).contrast.b.index == 2
    assert sent(Within(Top(2), Pixel(0, 0))).top == 2
    default = encode(["gradient", Saliency("guided", 1)], target=Within(0, Pixel(1, 1)))
    assert [each.target.HasField("region") for each in default.saliency] == [True, False]
    assert encode((), label_map_size="original").label_map_size == pb.ORIGINAL_IMAGE
    assert not encode(()).label_map_size


def test_masks_of_every_kind(tmp_path):
    mask = np.zeros((6, 8), np.uint8)
    mask[2:4, 1:5] = 200
    Image.fromarray(mask).save(tmp_path / "mask.png")
    file = (tmp_path / "mask.png").read_bytes()
    for given in (mask, mask > 0):
        sent = encode(Saliency("gradient", Within(0, given))).saliency[0].target.region.mask
        np.testing.assert_array_equal(tensors.decode(sent) > 0, mask > 0)
    for given in (tmp_path / "mask.png", file, Image.fromarray(mask)):
        sent = encode(Saliency("gradient", Within(0, given))).saliency[0].target.region.mask
        (tmp_path / "sent.png").write_bytes(tensors.decode(sent).tobytes())
        with Image.open(tmp_path / "sent.png") as opened:
            np.testing.assert_array_equal(np.asarray(opened), mask)


@pytest.mark.parametrize(
    ("region", "told"),
    [
        ("mask.png", "'mask.png' is neither a Box, a Pixel nor a mask"),
        (None, "None is neither a Box"),
        (np.ones((2, 2)), "not float64 of shape (2, 2)"),
        (np.ones((2, 2, 3), np.uint8), "not uint8 of shape (2, 2, 3)"),
        (Image.new("P", (2, 2)), "a mask of mode P is not grey"),
        (Path("/no/such/mask.png"), "No such file"),
        (Box(0, 0, "5", 5), "'5' is not a number"),
        (Pixel(0.5, 0), "0.5 is not an integer"),
        (Pixel(2**31, 0), "is not an integer of 32 bits"),
    ],
)
def test_what_is_no_region_is_refused_before_it_is_sent(region, told):
    with pytest.raises(InvalidArgument) as caught:
        encode(["gradient", Saliency("gradient", Within(0, region))])
    assert told in str(caught.value)
    assert str(caught.value).startswith("saliency[1].target")


def test_a_region_within_a_region_and_a_size_that_is_none():
    with pytest.raises(InvalidArgument, match="a region within a region"):
        encode(Saliency("gradient", Within(Within(0, Pixel(1, 1)), Pixel(1, 1))))
    with pytest.raises(InvalidArgument, match="'huge' is not one of model, original"):
        encode((), label_map_size="huge")


def test_a_fake_classifier_has_no_regions(server, pixels):
    with (
        Client(server.target) as client,
        pytest.raises(InvalidArgument, match=r"saliency\[0\]\.target\.region: 'm' is a classifier"),
    ):
        client.models["m"].explain(pixels, saliency="gradient", target=Within(0, Pixel(1, 1)))


def answer(array: np.ndarray, size: int = pb.MODEL_INPUT) -> pb.Explanation:
    made = pb.Explanation(view=pb.View(image_width=16, image_height=8, left=8, top=0, right=16, bottom=8))
    made.segmentation.label_map.CopyFrom(tensors.encode(array))
    made.segmentation.size = size
    made.segmentation.classes.add(index=5, label="<b>cow</b>", area=0.75, confidence=0.5)
    return made


def test_colours_lie_where_the_model_looked():
    pixels = np.full((8, 16, 3), 100, np.uint8)
    small = np.full((4, 4), 5, np.uint8)
    small[:, 3] = label_map.VOID
    whole = np.full((8, 16), label_map.VOID, np.uint8)
    whole[:, 8:14] = 5
    for array, size in ((small, pb.MODEL_INPUT), (whole, pb.ORIGINAL_IMAGE)):
        seen = explanation(answer(array, size), Upload("tensor", b"", pixels)).segmentation
        drawn = np.asarray(seen.overlay(alpha=1.0))
        assert (drawn[:8, :8] == 100).all()  # not seen
        assert (drawn[:8, 8:14] == (128, 0, 128)).all()  # class 5 of Pascal VOC
        assert (drawn[:8, 14:16] == 100).all()  # of no class
        assert drawn.shape == (8 + 8 + 22, 240, 3)  # a row of the legend
        assert (drawn[8:, 8:22] == (128, 0, 128)).all(axis=2).any()
    for argument in ({"alpha": 1.1}, {"longest": 0}):
        with pytest.raises(InvalidArgument):
            seen.overlay(**argument)
    assert seen._repr_png_().startswith(b"\x89PNG")


def test_without_a_picture_the_colours_are_drawn_alone():
    seen = explanation(answer(np.full((4, 4), 5, np.uint8)), Upload("tensor", b"")).segmentation
    assert (np.asarray(seen.overlay())[:4, :4] == (128, 0, 128)).all()


def test_labels_are_no_html():
    result = explanation(answer(np.full((4, 4), 5, np.uint8)), Upload("tensor", b""))
    assert "<b>" not in result._repr_html_()


@pytest.mark.parametrize("array", [np.zeros((2, 2), np.int32), np.zeros((1, 2, 2), np.uint8)])
def test_an_answer_that_does_not_hold_together(array):
    with pytest.raises(ServerError, match="cannot be read: a label map of"):
        explanation(answer(array), Upload("tensor", b""))


def test_the_palette_is_that_of_pascal_voc():
    """As its development kit computes it, and as its readme lists the first classes."""
    table = label_map.colours()
    for index in range(256):
        red, green, blue, rest = 0, 0, 0, index
        for shift in range(7, -1, -1):
            red, green, blue = (
                red | (rest & 1) << shift,
                green | (rest >> 1 & 1) << shift,
                blue | (rest >> 2 & 1) << shift,
            )
            rest >>= 3
        assert table[index].tolist() == [red, green, blue]
    assert table[[0, 1, 8, 15, 255]].tolist() == [[0, 0, 0], [128, 0, 0], [64, 0, 0], [192, 128, 128], [224, 224, 192]]


def test_options_of_the_command():
    assert parse.target("cat", None, None, None, parse.region("1,2,3,4.5", None, None)) == Within(
        "cat", Box(1, 2, 3, 4.5)
    )
    assert parse.target(None, None, 2, None, parse.region(None, "3,4", None)) == Within(Top(2), Pixel(3, 4))
    assert parse.target(None, None, None, None, parse.region(None, None, Path("m.png"))) == Within(None, Path("m.png"))
    assert parse.target("cat", None, None, None, parse.region(None, None, None)) == "cat"
    for box, pixel in (("1,2,3", None), ("a,b,c,d", None), (None, "1"), (None, "1.5,2")):
        with pytest.raises(click.BadParameter, match="numbers with commas between"):
            parse.region(box, pixel, None)
    with pytest.raises(click.UsageError, match="give one of --box, --pixel and --mask"):
        parse.region("1,2,3,4", "1,1", None)
