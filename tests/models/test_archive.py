from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from skimage import data

import ouzel
from ouzel import models
from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound, OuzelError
from ouzel.handler_files import handler_file
from ouzel.models import archive
from ouzel.models.card import parse


def entries_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def write(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


@pytest.fixture
def card_of_tiny(tiny_archive):
    return json.loads(entries_of(tiny_archive)["model.json"])


# -- the real model ----------------------------------------------------------------------------------------------------


def test_chelsea_is_a_cat(lite0_archive):
    model = models.load(lite0_archive)
    buffer = io.BytesIO()
    Image.fromarray(data.chelsea()).save(buffer, "PNG")
    x = model.preprocessing(models.decode(buffer.getvalue(), smallest=model.preprocessing.resize))
    probabilities = model.network(x[None]).softmax(1)[0]
    index = int(probabilities.argmax())
    assert model.labels[index] == "tiger cat"
    config = timm.data.resolve_data_config(timm.get_pretrained_cfg("tf_efficientnet_lite0").to_dict())
    reference = model.network(timm.data.create_transform(**config)(Image.fromarray(data.chelsea()))[None])
    torch.testing.assert_close(probabilities, reference.softmax(1)[0], rtol=0, atol=0.01)  # of grey levels, rounded


def test_same_inputs_give_the_same_bytes(lite0_archive, lite0_weights, tmp_path):
    again = archive.create(
        "efficientnet-lite0", "timm:tf_efficientnet_lite0", lite0_weights, "imagenet", tmp_path / "new", match="order"
    )
    assert again.read_bytes() == lite0_archive.read_bytes()


def test_the_model_is_what_the_archive_says(lite0_archive):
    model = models.load(lite0_archive)
    packed = entries_of(lite0_archive)["weights.safetensors"]
    assert (model.name, model.version, model.arch) == ("efficientnet-lite0", "1", "timm:tf_efficientnet_lite0")
    assert model.digest == f"sha256:{hashlib.sha256(packed).hexdigest()}" == model.card["weights"]["digest"]
    assert model.input_shape == (3, 224, 224)
    assert model.preprocessing == models.default_preprocessing(model.arch)
    assert model.labels == models.read_labels("imagenet")
    assert not any(module.training for module in model.network.modules())
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


# -- what is written ---------------------------------------------------------------------------------------------------


def test_entries_and_manifest(tiny_archive, tiny_weights):
    entries = entries_of(tiny_archive)
    assert list(entries) == ["MAR-INF/MANIFEST.json", "model.json", "saliency_handler.py", "weights.safetensors"]
    assert json.loads(entries["MAR-INF/MANIFEST.json"]) == {
        "runtime": "python",
        "model": {
            "modelName": "tiny",
            "modelVersion": "1",
            "handler": "saliency_handler.py",
            "serializedFile": "weights.safetensors",
        },
    }
    assert entries["saliency_handler.py"] == handler_file(archive.HANDLER).read_bytes()
    assert json.loads(entries["model.json"])["ouzel"] == ouzel.__version__


def test_preprocessing_is_that_of_the_library_whatever_fits(tiny_archive, tiny_weights, tmp_path):
    published = models.default_preprocessing("timm:test_resnet")
    assert published != models.Preprocessing()
    assert models.load(tiny_archive).preprocessing == published
    torch.save(models.build("timm:test_resnet", num_classes=10).state_dict(), tmp_path / "in-order.pth")
    order = ("timm:test_resnet", tmp_path / "in-order.pth", tuple("0123456789"))
    by_order = archive.create("order", *order, tmp_path, match="order")
    assert models.load(by_order).preprocessing == published
    own = models.Preprocessing(input_size=(64, 96), resize=100, interpolation="bicubic")
    path = archive.create("own", "timm:test_resnet", tiny_weights, tuple("0123456789"), tmp_path, preprocessing=own)
    model = models.load(path)
    assert (model.preprocessing, model.input_shape) == (own, (3, 64, 96))
    assert model.network(torch.zeros(1, *model.input_shape)).shape == (1, 10)


def test_grey_models(tmp_path):
    grey = models.Preprocessing(channels=1, input_size=(32, 32), resize=32, mean=(0.5,), std=(0.5,))
    network = models.build("timm:test_resnet", num_classes=2, in_channels=1)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    path = archive.create("grey", "timm:test_resnet", tmp_path / "w.pth", ["a", "b"], tmp_path, preprocessing=grey)
    model = models.load(path)
    x = model.preprocessing(Image.fromarray(data.chelsea()))
    assert torch.equal(model.network(x[None]), network(x[None]))


def test_a_failure_leaves_the_old_archive_and_no_litter(tiny_archive, tiny_weights, tiny_labels, tmp_path, monkeypatch):
    old = tmp_path / "tiny.mar"
    old.write_bytes(b"old")

    def fail(*_args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        archive.create("tiny", "timm:test_resnet", tiny_weights, tiny_labels, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.mar"]
    assert old.read_bytes() == b"old"


@pytest.mark.parametrize("name", ["", "A", "a/b", "../a", "a..b", ".a", "-a", "a b", "a" * 64, "a\n", "ä", None])
def test_names_that_are_refused(name, tiny_weights, tiny_labels, tmp_path):
    with pytest.raises(InvalidArgument, match="name: "):
        archive.create(name, "timm:test_resnet", tiny_weights, tiny_labels, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arch": "timm:test_vit"}, "names do not fit"),
        ({"arch": "torchvision:resnet18", "match": "order"}, "tensors where the architecture has"),
        ({"arch": "test_resnet"}, "torchvision:NAME or timm:NAME"),
        ({"labels": ["a", "b"]}, "labels: 2 of them, but the weights tell 10 classes apart"),
        ({"labels": "imagenet"}, "labels: 1000 of them, but the weights tell 10 classes apart"),
        ({"match": "shape"}, "match: 'shape'"),
        ({"version": "1/2"}, "version: '1/2'"),
    ],
)
def test_parts_that_do_not_fit(change, message, tiny_weights, tiny_labels, tmp_path):
    given = {"arch": "timm:test_resnet", "labels": tiny_labels} | change
    with pytest.raises(InvalidArgument, match=message):
        archive.create("tiny", given.pop("arch"), tiny_weights, given.pop("labels"), tmp_path / "store", **given)
    assert not (tmp_path / "store").exists()


# -- what is read ------------------------------------------------------------------------------------------------------


def test_a_folder_of_the_extracted_files_is_the_same_model(tiny_archive, tiny_weights, tmp_path):
    with zipfile.ZipFile(tiny_archive) as file:
        file.extractall(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    from_folder, from_file = models.load(tmp_path), models.load(str(tiny_archive))
    assert from_folder.digest == from_file.digest
    assert from_folder.card == from_file.card
    expected = load_file(tiny_weights)
    for model in (from_folder, from_file):
        state = model.network.state_dict()
        assert sorted(state) == sorted(expected)
        assert all(torch.equal(state[name], expected[name]) for name in state)


def test_a_flipped_byte_of_the_weights_is_noticed(tiny_archive, tmp_path):
    entries = entries_of(tiny_archive)
    flipped = bytearray(entries["weights.safetensors"])
    flipped[-100] ^= 1
    path = write(tmp_path / "tiny.mar", entries | {"weights.safetensors": bytes(flipped)})  # with a right checksum
    with pytest.raises(FailedPrecondition, match=r"tiny\.mar: weights\.safetensors .* digest differs"):
        models.load(path)
    with zipfile.ZipFile(path) as file:
        file.extractall(tmp_path / "folder")
    with pytest.raises(FailedPrecondition, match="digest differs"):
        models.load(tmp_path / "folder")


def test_missing_things(tiny_archive, tmp_path):
    with pytest.raises(NotFound, match=r"none\.mar"):
        models.load(tmp_path / "none.mar")
    with pytest.raises(FailedPrecondition, match=r"model\.json is missing"):
        models.load(tmp_path)
    (tmp_path / "model.json").write_bytes(entries_of(tiny_archive)["model.json"])
    with pytest.raises(FailedPrecondition, match=r"weights\.safetensors is missing"):
        models.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04", b"PK\x05\x06" + bytes(18)])
def test_files_that_are_no_archive(content, tmp_path):
    path = tmp_path / "a.mar"
    path.write_bytes(content)
    with pytest.raises(FailedPrecondition, match=r"a\.mar: "):
        models.load(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_entries_other_than_expected(tiny_archive, tmp_path):
    entries = entries_of(tiny_archive)
    path = tmp_path / "a.mar"
    for name in entries:
        with pytest.raises(FailedPrecondition, match="not exactly"):
            models.load(write(path, {n: content for n, content in entries.items() if n != name}))
    for name in ("extra.py", "../escape.py", "/etc/passwd", "MAR-INF/"):
        with pytest.raises(FailedPrecondition, match="not exactly"):
            models.load(write(path, entries | {name: b""}))
    with pytest.raises(FailedPrecondition, match="compressed"):
        models.load(write(path, entries, zipfile.ZIP_DEFLATED))
    write(path, entries)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("model.json", entries["model.json"])
    with pytest.raises(FailedPrecondition, match="not exactly"):
        models.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema 2"),
        ({"schema": None}, "schema None"),
        ({"ouzel": "0.99.0"}, "needs 0.99 or a later"),
        ({"ouzel": "7.0.0"}, "needs 7.0 or a later"),
        ({"ouzel": "new"}, "'new' is not a version"),
        ({"name": "../a"}, "name: "),
        ({"version": ""}, "version: "),
        ({"arch": "timm:nothing_like_it"}, "nothing_like_it"),
        ({"arch": "timm:test_vit"}, "names do not fit"),
        ({"arch": 3}, "arch: 3"),
        ({"labels": "0123456789"}, "labels is not a list"),
        ({"labels": ["a"]}, "contradicts"),
        ({"labels": [""] * 10}, r"labels\[0\]"),
        ({"in_channels": 1}, "contradicts"),
        ({"preprocessing": {}}, "exactly the fields"),
        ({"weights": {}}, "digest"),
        ({"weights": {"digest": "sha256:0"}}, "SHA-256"),
        ({"weights": {"digest": 3}}, "digest"),
        ({"weights": []}, "lacks"),
    ],
    ids=str,
)
def test_cards_that_cannot_be_used(change, message, tiny_archive, card_of_tiny, tmp_path):
    card = json.dumps(card_of_tiny | change).encode()
    path = write(tmp_path / "a.mar", entries_of(tiny_archive) | {"model.json": card})
    with pytest.raises(FailedPrecondition, match=message) as caught:
        models.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("card", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_cards_that_are_no_card(card, tiny_archive, tmp_path):
    path = write(tmp_path / "a.mar", entries_of(tiny_archive) | {"model.json": card})
    with pytest.raises(FailedPrecondition, match=r"model\.json"):
        models.load(path)


def test_older_archives_are_read(tiny_archive, card_of_tiny, tmp_path):
    card = json.dumps(card_of_tiny | {"ouzel": "0.0.9"}).encode()
    assert models.load(write(tmp_path / "a.mar", entries_of(tiny_archive) | {"model.json": card})).name == "tiny"


def test_weights_of_a_right_digest_that_are_no_tensors(tiny_archive, card_of_tiny, tmp_path):
    card = json.dumps(card_of_tiny | {"weights": {"digest": archive.digest_of(b"junk")}}).encode()
    entries = entries_of(tiny_archive) | {"model.json": card, "weights.safetensors": b"junk"}
    with pytest.raises(FailedPrecondition, match="not a safetensors file"):
        models.load(write(tmp_path / "a.mar", entries))


def test_unknown_device(tiny_archive):
    with pytest.raises(InvalidArgument, match="'abacus'"):
        models.load(tiny_archive, device="abacus")


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4), st.floats(0, 2), st.booleans()
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_broken_archives_give_the_model_or_a_clear_error(tiny_archive, tmp_path_factory, changes, cut, near_the_end):
    content = bytearray(tiny_archive.read_bytes())
    span = 600 if near_the_end else len(content)  # the directory of a zip file is at its end
    for share, value in changes:
        content[len(content) - 1 - int(share * (span - 1))] = value
    path = tmp_path_factory.getbasetemp() / "fuzzed.mar"
    path.write_bytes(content[: int(cut * len(content))] if cut < 1 else content)
    try:
        model = models.load(path)
    except OuzelError as error:
        assert "\n" not in str(error)  # noqa: PT017 an error is one of two good ends
    else:
        assert model.digest == models.load(tiny_archive).digest


def test_labels_are_kept_composed(tiny_weights, tiny_arch, tmp_path):
    """In the card that is written, and in one that was written otherwise."""
    labels = ["Cafe\u0301", "نی\u200cلبک", *map(str, range(8))]
    path = archive.create("scripts", tiny_arch, tiny_weights, labels, tmp_path)
    assert models.load(path).labels[:2] == ("Caf\u00e9", "نی\u200cلبک")
    entries = entries_of(path)
    assert json.loads(entries["model.json"])["labels"][0] == "Caf\u00e9"
    entries["model.json"] = entries["model.json"].replace("Caf\u00e9".encode(), "Cafe\u0301".encode())
    card, values = archive.read_card(write(tmp_path / "other.mar", entries))
    assert card.labels[0] == values["labels"][0] == "Caf\u00e9"


def test_two_labels_for_one_logit_get_advice(tiny_arch, tmp_path):
    torch.save(models.build(tiny_arch, num_classes=1).state_dict(), tmp_path / "w.pth")
    with pytest.raises(InvalidArgument, match="2 of them, but the weights tell 1 classes apart; give one label"):
        archive.create("two", tiny_arch, tmp_path / "w.pth", ["sound", "defect"], tmp_path)
    assert models.load(archive.create("one", tiny_arch, tmp_path / "w.pth", ["defect"], tmp_path)).labels == ("defect",)


def test_the_precision_that_a_model_is_served_in(tiny_archive, tiny_weights, tiny_labels, tmp_path):
    assert (models.load(tiny_archive).precision, models.load(tiny_archive).card["precision"]) == ("exact", "exact")
    assert "precision" not in json.loads(entries_of(tiny_archive)["model.json"])  # the archive is what it always was
    path = archive.create("fast", "timm:test_resnet", tiny_weights, tiny_labels, tmp_path, precision="bf16")
    assert json.loads(entries_of(path)["model.json"])["precision"] == "bf16"
    assert (models.load(path).precision, models.load(path).card["precision"]) == ("bf16", "bf16")
    with pytest.raises(InvalidArgument, match="precision: 'fp8' is not one of exact, tf32, bf16"):
        archive.create("other", "timm:test_resnet", tiny_weights, tiny_labels, tmp_path, precision="fp8")
    assert [each.name for each in tmp_path.iterdir()] == ["fast.mar"]
    card = json.loads(entries_of(path)["model.json"]) | {"precision": "fp8"}
    with pytest.raises(FailedPrecondition, match=r"model\.json: precision: 'fp8' is not one of exact, tf32, bf16"):
        parse(json.dumps(card).encode())
