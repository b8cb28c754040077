"""What a caller may ask for: frozen, checked on the client, named when wrong."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ouzel_client import Contrast, InvalidArgument, Saliency, Top, When
from ouzel_client._codec.options import encode
from ouzel_protos import tensors


def test_a_saliency_request_is_frozen_hashable_and_can_be_pickled():
    wish = Saliency("grad_cam", target=Contrast("a", 2), layer="blocks.6", depth=2)
    assert wish.parameters == {"layer": "blocks.6", "depth": 2}
    assert wish == Saliency("grad_cam", target=Contrast("a", 2), depth=2, layer="blocks.6")
    assert wish != Saliency("grad_cam", target=Contrast("a", 2), depth=3, layer="blocks.6")
    for twin in (copy.deepcopy(wish), pickle.loads(pickle.dumps(wish))):
        assert (twin, hash(twin)) == (wish, hash(wish))
    with pytest.raises(AttributeError):
        wish.method = "guided"
    with pytest.raises(TypeError):
        wish.parameters["layer"] = "x"


def test_metrics_of_numpy_are_numbers():
    wish = Saliency("m", target=np.int64(3), a=np.float32(0.5), b=np.int8(2), c=np.bool_(True), d=np.zeros(2))
    request = encode(wish).saliency[0]
    assert request.target.index == 3
    kinds = {name: value.WhichOneof("value") for name, value in request.parameters.items()}
    assert kinds == {"a": "number", "b": "integer", "c": "flag", "d": "tensor"}


def test_images_among_the_parameters(picture, png, pixels, tmp_path):
    for image in (picture, png):
        tensor = encode(Saliency("m", baseline=image)).saliency[0].parameters["baseline"].tensor
        assert tensors.decode(tensor).tobytes() == png
    tensor = encode(Saliency("m", baseline=Image.fromarray(pixels))).saliency[0].parameters["baseline"].tensor
    with Image.open(io.BytesIO(tensors.decode(tensor).tobytes())) as sent:
        np.testing.assert_array_equal(np.asarray(sent), pixels)
    for array in (pixels, pixels[:, :, 0].astype(np.float32)):
        tensor = encode(Saliency("m", baseline=array)).saliency[0].parameters["baseline"].tensor
        np.testing.assert_array_equal(tensors.decode(tensor), array)
    assert encode(Saliency("m", baseline=str(picture))).saliency[0].parameters["baseline"].text == str(picture)


def test_index_zero_is_a_target():
    assert encode("guided", target=0).saliency[0].target.WhichOneof("kind") == "index"
    assert not encode("guided").saliency[0].HasField("target")


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Saliency("m", reduction="mean"), "reduction"),
        (lambda: Saliency("m", size="huge"), "size"),
        (lambda: Saliency("m", dtype="float64"), "dtype"),
        (lambda: When(labels="cat"), "when.labels"),
        (lambda: encode(["a", 3]), "saliency[1]"),
        (lambda: encode([Saliency("")]), "saliency[0].method"),
        (lambda: encode("a", target=1.5), "saliency[0].target"),
        (lambda: encode("a", target=True), "saliency[0].target"),
        (lambda: encode("a", target=2**63), "saliency[0].target"),
        (lambda: encode("a", target=Top(0)), "saliency[0].target"),
        (lambda: encode("a", target=Contrast("a", None)), "saliency[0].target.b"),
        (lambda: encode(Saliency("a", faithfulness=1.5)), "saliency[0].faithfulness"),
        (lambda: encode(Saliency("a", layer=object())), "saliency[0].layer"),
        (lambda: encode(Saliency("a", base=np.array(["x"]))), "saliency[0].base"),
        (lambda: encode(Saliency("a", base=Path("no.png"))), "saliency[0].base"),
        (lambda: encode(Saliency("a", base=b"<html>")), "saliency[0].base"),
        (lambda: encode("a", target="\ud800"), "saliency[0].target"),
        (lambda: encode("a", target=Contrast("a", "\udce9")), "saliency[0].target.b"),
        (lambda: encode("\ud800"), "saliency[0].method"),
        (lambda: encode(Saliency("a", layer="\ud800")), "saliency[0].layer"),
        (lambda: encode((), when=When(labels=("\ud800",))), "when.labels"),
        (lambda: encode((), when=When(labels=(3,))), "when.labels"),
        (lambda: encode((), top_k=0), "top_k"),
        (lambda: encode((), top_k=2**31), "top_k"),
        (lambda: encode((), when=When(score_below="x")), "when.score_below"),
    ],
)
def test_what_is_wrong_is_named(make, field):
    with pytest.raises(InvalidArgument) as caught:
        make()
    assert caught.value.field == field
    assert str(caught.value).startswith(field)
