"""Images with boxes on their way to the worker, and detectors and segmentations of the fake server."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner

import ouzel_client as oc
from ouzel_client import Box, Client, InvalidArgument, Pixel, Rank, Saliency, Top, Within
from ouzel_client._cli.main import main
from ouzel_client.testing import FakeServer
from support import boxed

LABELS = ("background", "cat", "dog")


@pytest.fixture
def server():
    models = {"m": ("cat", "dog"), "finds": LABELS, "paints": LABELS}
    with FakeServer(models, tasks={"finds": "detection", "paints": "segmentation"}) as fake:
        yield fake


@pytest.fixture
def client(server):
    with Client(server.target, worker=server.target) as opened:
        yield opened


@pytest.fixture
def picture() -> bytes:
    return boxed.scenes(1)["000.png"][0]


def test_a_folder_and_a_zip_of_it_are_the_same_data_set(client, server, tmp_path):
    contents = boxed.files(6)
    place = boxed.write(tmp_path / "shapes", 6)
    (place / "notes.md").touch()
    made = client.datasets.upload_boxed(place, title="shapes")
    assert (made.images, made.boxes, made.box_classes, made.masks, dict(made.classes)) == (6, 8, boxed.OBJECTS, 0, {})
    assert [name for name, _ in made.left_out] == ["notes.md"]
    with zipfile.ZipFile(tmp_path / "shapes.zip", "w") as archive:
        for name, content in contents.items():
            archive.writestr(f"shapes/{name}", content)
    assert client.datasets.upload_boxed(tmp_path / "shapes.zip") == made
    assert len(server.datasets.received) == 6  # they were there
    assert client.datasets.get(made.id).box_classes == boxed.OBJECTS


def test_what_is_wrong_is_named_and_nothing_is_sent(client, server, tmp_path):
    place = boxed.write(tmp_path, 4)
    table = (place / "boxes.csv").read_text()
    line = table.count("\n") + 1
    for row, words in (
        ("001.png,disc,1,2,121,9", f"source: boxes.csv:{line}: right 121 is not within 0..120, the image's width"),
        ("9.png,disc,1,2,3,9", f"source: boxes.csv:{line}: there is no image images/'9.png'"),
        ("001.png,disc,1,2,nan,9", "are not four finite numbers"),
    ):
        (place / "boxes.csv").write_text(f"{table}{row}\r\n")
        with pytest.raises(InvalidArgument) as caught:
            client.datasets.upload_boxed(place)
        assert words in str(caught.value)
        assert caught.value.field == "source"
    assert not server.datasets.received


def test_without_pillow_the_worker_measures(client, tmp_path, monkeypatch):
    place = boxed.write(tmp_path, 4)
    (place / "boxes.csv").write_text((place / "boxes.csv").read_text() + "001.png,disc,1,2,121,9\r\n")
    monkeypatch.setattr("ouzel_client._codec.boxed_source.find_spec", lambda name: None)
    assert client.datasets.upload_boxed(place).boxes == 7


def test_by_command(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OUZEL_WORKER", server.target)
    monkeypatch.setenv("OUZEL_GRPC", server.target)

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == code, result.output
        return result.output

    place = str(boxed.write(tmp_path, 4))
    made = json.loads(run("datasets", "upload", place, "--boxed", "--json"))
    assert (made["box_classes"], made["boxes"]) == (list(boxed.OBJECTS), 6)
    told = run("datasets", "show", made["id"])
    assert "disc" in told
    assert "boxes" in told
    said = run("finetune", place, "--recipe", "detect", "--base", "m", "--name", "shapes", "--set", "epochs=3")
    assert "shapes version 1: mAP 40.0 % on the held-out images (95 %: 30.0 to 50.0)" in said
    assert "one of them" in run("datasets", "upload", place, "--boxed", "--masked", code=2)
    assert "has no masks" in run("datasets", "upload", place, "--boxed", "--masks", place, code=2)


def test_a_detector_comes_of_a_job_and_answers(client, server, picture):
    job = client.jobs.finetune("m", "0123456789abcdef" * 4, name="street", recipe="detect", early=True)
    result = job.result(30)
    assert isinstance(result, oc.FinetuneResult)
    assert (result.map, result.map50, result.interval, result.miou) == (0.4, 0.6, (0.3, 0.5), None)
    assert np.isnan(result.accuracy)
    assert result.early is not None
    assert (result.early.first.accuracy, result.early.first.interval) == (0.4, (0.3, 0.5))
    assert client.models.list("street")[0].task == "detection"
    found = client.models["street"].explain(picture).detected
    assert [each.label for each in found] == ["cat", "dog"]


def test_a_fake_detector(client, picture):
    model = client.models["finds"]
    answer = model.explain(picture, saliency=[Saliency("d_rise", Within("dog", Box(1, 2, 30, 40))), "layer_cam"])
    assert answer.model.task == "detection"
    first, second = answer.detected
    assert (answer.detected.found, first.label, first.index) == (2, "cat", 1)
    assert first.score > second.score
    assert 0 <= second.box.left < second.box.right <= boxed.WIDE
    given, ranked = (each.target for each in answer.saliency)
    assert (given.label, given.box, given.rank) == ("dog", Box(1, 2, 30, 40), None)
    assert (ranked.label, ranked.box, ranked.rank) == ("cat", first.box, 0)
    assert answer.detected.overlay().size == (boxed.WIDE, boxed.HIGH)
    assert len(model.explain(picture, min_score=0.8).detected) == 1
    assert len(model.explain(picture, saliency=Saliency("gradient", Top(5))).saliency) == 2
    for saliency, words in (
        (Saliency("gradient", Within("dog", Box(1, 2, 30, 40))), "ask for d_rise"),
        (Saliency("d_rise", "dog"), "a class alone names no box"),
        (Saliency("d_rise", Rank(2)), "rank 2: the model has 2 detections"),
        (Saliency("d_rise", Within("dog", Box(1, 2, 130, 40))), "is no rectangle within 120 x 90 pixels"),
        (Saliency("d_rise", Within("dog", Pixel(1, 2))), "no pixel and no mask"),
        (Saliency("rise"), "'rise' is not one of"),
    ):
        with pytest.raises(InvalidArgument, match=words):
            model.explain(picture, saliency=saliency)
    with pytest.raises(InvalidArgument, match="'d_rise' is not one of"):
        client.models["m"].explain(picture, saliency="d_rise")


def test_a_fake_segmentation_model(client, picture):
    model = client.models["paints"]
    regions = [Saliency("gradient", Within("dog", Box(0, 0, 60, 45))), Saliency("guided", Within("cat", Pixel(3, 4)))]
    answer = model.explain(picture, saliency=[*regions, Saliency("gradient", "dog")])
    assert answer.segmentation.label_map.shape == (8, 8)
    assert [each.label for each in answer.segmentation.classes] == ["cat", "dog", "background"]
    box, pixel, predicted = (each.target for each in answer.saliency)
    assert (box.region, box.region_area) == ("box", 0.25)
    assert pixel.region == "pixel"
    assert (predicted.region, predicted.region_area) == ("predicted", pytest.approx(1 / 3))
    whole = model.explain(picture, label_map_size="original").segmentation
    assert whole.label_map.shape == (boxed.HIGH, boxed.WIDE)
    with pytest.raises(InvalidArgument, match="is not in the image"):
        model.explain(picture, saliency=Saliency("gradient", Within("cat", Pixel(200, 4))))
    with pytest.raises(InvalidArgument, match="is a classifier, whose answer has no places"):
        client.models["m"].explain(picture, saliency=Saliency("gradient", Within("cat", Pixel(1, 4))))


def test_tasks_of_models_that_are_not_there():
    for tasks in ({"x": "detection"}, {"m": "finding"}):
        with pytest.raises(ValueError, match="tasks: "):
            FakeServer(tasks=tasks)
