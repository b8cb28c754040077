"""Images with masks on their way to the worker: every layout becomes label maps, and files travel once."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ouzel_client import Client, InvalidArgument
from ouzel_client._cli.main import main
from ouzel_client.testing import FakeServer
from ouzel_protos import label_maps
from support.masked import CLASSES, files, png, scene


@pytest.fixture
def server():
    with FakeServer() as fake:
        yield fake


@pytest.fixture
def client(server):
    with Client(server.target, worker=server.target) as opened:
        yield opened


def folder(place: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    return place


def test_a_folder_and_a_zip_of_it_are_the_same_data_set(client, server, tmp_path):
    contents = files(5)
    made = client.datasets.upload_masked(folder(tmp_path / "shapes", contents | {"notes.md": b""}), title="shapes")
    assert (made.images, made.masks, made.mask_classes, dict(made.classes)) == (5, 5, CLASSES, {})
    assert [name for name, _ in made.left_out] == ["notes.md"]
    assert len(server.datasets.received) == 10
    with zipfile.ZipFile(tmp_path / "shapes.zip", "w") as archive:
        for name, content in contents.items():
            archive.writestr(f"shapes/{name}", content)
    assert client.datasets.upload_masked(tmp_path / "shapes.zip") == made
    assert len(server.datasets.received) == 10  # they were there
    assert client.datasets.get(made.id).mask_classes == CLASSES


def test_every_layout_becomes_label_maps(client, server, tmp_path):
    pixels, labels = scene(0)
    image = png(pixels)
    split = {"images/x.png": image}
    by_class = {f"masks/{name}/x.png": png(labels == k) for k, name in enumerate(CLASSES) if k}
    runs = [[int(value) for value in _runs(labels == k)] for k in (1, 2)]
    coco = {
        "images": [{"id": 1, "file_name": "x.png", "width": 40, "height": 40}],
        "categories": [{"id": k, "name": name} for k, name in enumerate(CLASSES) if k],
        "annotations": [
            {"id": k, "image_id": 1, "category_id": k, "segmentation": {"size": [40, 40], "counts": runs[k - 1]}}
            for k in (1, 2)
        ],
    }
    for contents in (by_class, {"annotations.json": json.dumps(coco).encode()}):
        server.datasets.files.clear()
        place = tmp_path / str(len(contents))
        made = client.datasets.upload_masked(folder(place, split | contents))
        (mask,) = [each for each in server.datasets.files.values() if each != image]
        stored = label_maps.read(mask, (40, 40), 3)
        names = np.array(made.mask_classes)
        assert np.array_equal(names[stored], np.array(CLASSES)[labels])


def _runs(mask: np.ndarray) -> list[int]:
    flat = mask.T.flatten().astype(int)
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *ends, len(flat)]).tolist()
    return [0, *runs] if flat[0] else runs


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images/9.png": png(scene(9)[0])}, "source: images without a mask: '9.png'"),
        ({"classes.txt": b"one"}, "source: 1 classes; 2 to 255 are allowed"),
        ({"masks/0.png": b""}, None),  # the worker looks at label maps
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_sent(client, server, tmp_path, change, words):
    place = folder(tmp_path, files(2) | change)
    if words is None:
        assert client.datasets.upload_masked(place).images == 2
        return
    with pytest.raises(InvalidArgument, match=words):
        client.datasets.upload_masked(place)
    assert not server.datasets.received


def test_masks_of_classes_that_overlap_are_named(client, server, tmp_path):
    masks = {f"masks/{name}/x.png": png(np.full((40, 40), 255, np.uint8)) for name in ("a", "b")}
    with pytest.raises(InvalidArgument, match=r"source: x\.png: mask: 'masks/b/x.png' overlaps 'masks/a/x.png'"):
        client.datasets.upload_masked(folder(tmp_path, {"images/x.png": png(scene(0)[0])} | masks))
    assert not server.datasets.received


def test_by_command(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OUZEL_WORKER", server.target)
    monkeypatch.setenv("OUZEL_GRPC", server.target)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        return result.output

    place = str(folder(tmp_path, files(4)))
    made = json.loads(run("datasets", "upload", place, "--masked", "--json"))
    assert made["mask_classes"] == list(CLASSES)
    assert "disc" in run("datasets", "show", made["id"])
    said = run("finetune", place, "--recipe", "segment", "--base", "m", "--name", "shapes", "--set", "epochs=3")
    assert "shapes version 1: mean IoU 70.0 % on the held-out images (95 %: 60.0 to 75.0)" in said
    assert [each.images for each in Client(server.target, worker=server.target).datasets.list()] == [4]
