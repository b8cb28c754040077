"""Jobs that learn boxes of objects: refused in the service, killed, resumed, published once, or twice with early."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from ouzel import models
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.finetune.detection import boxed_from_folder, detect
from ouzel.finetune.recipes import make_recipe
from ouzel.forking.client import ForkServer
from ouzel.worker.api import requests
from ouzel.worker.auditing import scenes
from ouzel.worker.datasets.check import check
from ouzel.worker.store.job import State
from ouzel_protos import manifest
from ouzel_protos.v1 import dataset_pb2
from ouzel_protos.v1 import job_pb2 as pb
from support import boxed
from support.datasets import boxed_entries, ref, stored_boxed
from support.jobs import ended, submit, until
from support.tuning import Place, value

FAST = {"epochs": 2, "frozen_epochs": 1, "batch_size": 4, "held_out": 0.25}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, forks: ForkServer) -> Iterator[Place]:
    with closing(Place(tmp_path_factory.mktemp("detect"), tiny_base, forks)) as made:
        yield made


@pytest.fixture(scope="module")
def dataset(place: Place) -> str:
    stored = stored_boxed(place.datasets, "me", boxed.scenes(), boxed.OBJECTS)
    assert (stored.boxes, tuple(stored.box_classes), dict(stored.classes), stored.masks) == (24, boxed.OBJECTS, {}, 0)
    return stored.id


def asked(dataset: str, recipe: str = "detect", parameters: dict[str, Any] = FAST, **more: Any) -> pb.JobSpec:
    values = {"base": "base", "name": "shapes", "recipe": recipe, "image_size": 64, **more}
    settings = {key: value(each) for key, each in parameters.items()}
    return pb.JobSpec(finetune=pb.FinetuneSpec(dataset=dataset, parameters=settings, **values))


def test_a_detector_comes_out_and_is_the_base_of_its_next_version(place: Place, dataset: str, tmp_path: Path) -> None:
    done = place.run(asked(dataset, seed=3))
    summary = dict(done.result.summary)
    assert (summary["model"], summary["version"], summary["task"]) == ("shapes", "1", "detection")
    assert 0 <= summary["map_low"] <= summary["map"] <= summary["map_high"] <= 1
    tuned = models.load(place.models.find("shapes"))
    assert (tuned.task, tuned.labels, tuned.arch) == ("detection", boxed.CLASSES, "ssdlite:timm:test_resnet")
    assert (tuned.digest, tuned.preprocessing.fit) == (summary["digest"], "stretch")
    # The library makes the same of the same folder.
    examples, classes = boxed_from_folder(boxed.write(tmp_path))
    expected = detect(
        models.load(place.models.find("base")), examples, classes, make_recipe("detect", FAST), seed=3, image_size=64
    )
    assert summary["map"] == pytest.approx(expected.test.map, abs=1e-3)
    state, theirs = tuned.network.state_dict(), expected.network.state_dict()
    assert all(torch.allclose(state[name].float(), theirs[name].float(), atol=1e-4) for name in state)

    names = {each.name for each in place.store.artifacts("me", done.id)}
    assert {"report.html", "report.json", "images.json", "curves.png", "worst/00-found.png"} <= names
    page = place.file(done, "report.html").decode()
    assert "<h1>shapes@1</h1>" in page
    assert "what it looked at for" in page
    images = json.loads(place.file(done, "images.json"))
    assert len(images) == summary["test_images"] == 4
    lineage = json.loads(place.file(done, "report.json"))["lineage"]
    assert tuned.card["lineage"] == lineage
    assert lineage.items() >= {"base": "base", "dataset": dataset, "recipe": "detect", "image_size": 64}.items()
    assert lineage["parameters"].items() >= FAST.items()
    assert lineage["metrics"]["map"] == summary["map"]
    assert lineage["classes"] == list(boxed.CLASSES)
    told = [each.metric.values for each in place.store.events("me", done.id) if each.HasField("metric")]
    assert {"loss", "map", "learning_rate"} <= {key for each in told for key in each}
    logs = [each.log.message for each in place.store.events("me", done.id) if each.HasField("log")]
    assert "16 images with 24 boxes of 2 classes" in logs

    more = place.run(asked(dataset, base="shapes", promote=pb.FinetuneSpec.IF_BETTER))
    figures = dict(more.result.summary)
    assert (figures["version"], figures["served_model"]) == ("2", "shapes@1")
    assert figures["promoted"] == (figures["map"] > figures["served_map"])
    assert models.load(place.models.find("shapes@2")).card["lineage"]["base_version"] == "1"
    back = asked(place.upload(), "lp_ft", {}, base="shapes", name="colours", image_size=0)
    with pytest.raises(FailedPrecondition, match="'shapes' is a detector; recipes for labels need a classifier"):
        requests.new_job(pb.CreateJobRequest(spec=back), place.catalogue)


def test_killed_it_publishes_once_and_the_same(place: Place, dataset: str) -> None:
    parameters = FAST | {"epochs": 3}
    alone = place.run(asked(dataset, name="alone", parameters=parameters))
    events = len(place.store.events("me", alone.id, limit=10_000))
    job = submit(place.store, asked(dataset, name="killed", parameters=parameters))

    def halfway() -> bool:
        current = place.store.get("me", job.id)
        return current.state is State.RUNNING and current.last_sequence >= events // 2

    until(halfway, 60)
    held = place.store.leases()
    psutil.Process(int(held[0].handle.split("/")[1])).kill()
    done = ended(place.store, job, 120)
    assert done.state is State.SUCCEEDED, done.error
    assert done.attempt == 2
    assert len(place.models.versions("killed")) == 1
    first, second = (models.load(place.models.find(name)).network.state_dict() for name in ("alone", "killed"))
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)
    assert done.result.summary["map"] == pytest.approx(alone.result.summary["map"], abs=1e-4)


def test_the_new_layers_alone_are_published_first(place: Place, dataset: str) -> None:
    parameters = FAST | {"frozen_epochs": 1, "epochs": 6, "learning_rate": 0.01, "spread": 1.0}
    done = place.run(asked(dataset, name="early", parameters=parameters, early=True))
    early = dict(done.result.summary)["early"]
    told = [
        each.publication for each in place.store.events("me", done.id, limit=10_000) if each.HasField("publication")
    ]
    assert [each.number for each in told] == ([1, 2] if early["better"] else [1])
    assert early["first"]["version"] == told[0].version == "1"
    assert early["better"] == (early["later"]["map"] > early["first"]["map"])
    lineage = models.load(place.models.find("early@1")).card["lineage"]
    assert (lineage["early"], lineage["publication"], lineage["training"]["chosen"]) == (True, 1, "new layers")
    assert "The version that was published first" in place.file(done, "report.html").decode()
    if early["better"]:
        second = models.load(place.models.find("early@2")).card["lineage"]
        assert second["improves_on"]["gain"] == pytest.approx(early["later"]["map"] - early["first"]["map"])


def test_what_cannot_work_is_refused_at_once(place: Place, dataset: str) -> None:
    labelled = place.upload()
    for spec, field, words in (
        (asked(labelled), "dataset", "has labels; boxes are needed here"),
        (asked(dataset, "lp_ft", {}, name="new"), "dataset", "has boxes; labels are needed here"),
        (asked(dataset, "segment", {}, name="new"), "dataset", "has boxes; label maps are needed here"),
        (asked(dataset, parameters={"dice": 1.0}), "parameters.dice", "detect"),
        (asked(dataset, parameters={"epochs": -1}), "parameters.epochs", "-1"),
        (asked(dataset, promote=pb.FinetuneSpec.IF_GROUNDED), "promote", "a detector can be promoted never"),
        (asked(dataset, parameters={"epochs": 0}, early=True), "early", "parameters.epochs is 0"),
    ):
        with pytest.raises(InvalidArgument, match=words) as caught:
            requests.new_job(pb.CreateJobRequest(spec=spec), place.catalogue)
        assert caught.value.field == field
    audit = pb.JobSpec(audit=pb.AuditSpec(model="base", dataset=dataset))
    with pytest.raises(InvalidArgument, match="has boxes; labels are needed here"):
        requests.new_job(pb.CreateJobRequest(spec=audit), place.catalogue)
    with pytest.raises(InvalidArgument, match="has boxes of classes; audits need images with labels"):
        scenes.candidates(place.datasets, "me", dataset)


def test_boxes_by_uri(place: Place, tmp_path: Path) -> None:
    folder = boxed.write(tmp_path / "shapes", 12)
    spec = asked(f"file://{folder}", name="by-uri", parameters=FAST | {"epochs": 0})
    requests.new_job(pb.CreateJobRequest(spec=spec), replace(place.catalogue, schemes=frozenset({"file"})))
    assert place.run(spec).result.summary["test_images"] == 3
    table = (folder / "boxes.csv").read_text()
    (folder / "boxes.csv").write_text(table + "001.png,disc,5,5,nan,9\r\n")
    failed = ended(place.store, submit(place.store, spec), 60)
    line = table.count("\n") + 1
    assert failed.error is not None
    assert failed.error.field == "dataset"
    assert failed.error.message == f"dataset: boxes.csv:{line}: 5, 5, nan, 9 are not four finite numbers"


def test_hostile_boxes_are_left_out_and_said() -> None:
    drawn = boxed.scenes(6)
    image = drawn["001.png"][0]
    hostile: dict[str, Any] = {
        "right.png": (image, [(0, 0, 130, 20, 1)]),
        "bottom.png": (image, [(0, 0, 20, 20, 1), (0, 0, 20, 90.5, 2)]),
        "outside.png": (image, [(121, 5, 130, 20, 1)]),
        "empty.png": (b"", []),
        "broken.png": (image[:100], []),
    }
    entries = boxed_entries(drawn | hostile)
    contents = {ref(content).sha256: content for content, _ in (drawn | hostile).values()}
    report = check(entries, contents.__getitem__, box_classes=(*boxed.OBJECTS, "ring"))
    said = {each.path: each.reason for each in report.refused}
    assert said.keys() == hostile.keys()
    assert said["right.png"] == "boxes[0], 'disc': right 130 is not within 0..120, the image's width"
    assert said["bottom.png"] == "boxes[1], 'square': bottom 90.5 is not within 0..90, the image's height"
    assert said["outside.png"].startswith("boxes[0], 'disc': left 121 is not within 0..120")
    assert (report.usable, report.images, dict(report.classes)) == (True, 11, {"disc": 4, "square": 4})
    assert "no box in any image: ring; nothing of them is learnt" in report.warnings
    assert report.dataset == manifest.digest(entries, box_classes=(*boxed.OBJECTS, "ring"))
    nothing = boxed_entries({name: (content, []) for name, (content, _) in drawn.items()})
    (problem,) = check(nothing, contents.__getitem__, box_classes=boxed.OBJECTS).problems
    assert problem.startswith("0 image(s) that can be used have an object; 3 are needed")


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([(1, 1, 9, 9, 0)], r"boxes\[0\]\.index: 0 is not within 1\.\.2"),
        ([(1, 1, 9, 9, 3)], r"boxes\[0\]\.index: 3 is not within 1\.\.2"),
        ([(1, 1, 9, 9, 1), (9, 1, 9, 9, 1)], r"boxes\[1\]: 9, 1, 9, 9 has no area"),
        ([(1, 9, 9, 1, 1)], "has no area"),
        ([(-1, 1, 9, 9, 1)], r"boxes\[0\]: left -1 is not 0 or more"),
        ([(1, 1, float("nan"), 9, 1)], "are not four finite numbers"),
        ([(1, 1, float("inf"), 9, 1)], "are not four finite numbers"),
        ([(1, 1, 9, 9, 1)] * 2, r"boxes\[1\]: .* is there twice"),
        ([(0, 0, 1, n + 1, 1) for n in range(501)], "501 are more than 500"),
    ],
)
def test_hostile_entries_are_no_data_set(boxes: list[Any], words: str) -> None:
    with pytest.raises(manifest.BadEntry, match=words):
        manifest.check(boxed_entries({"x.png": (b"x", boxes)}), box_classes=boxed.OBJECTS)


def test_the_classes_are_part_of_what_a_data_set_is(place: Place, dataset: str) -> None:
    other = stored_boxed(place.datasets, "me", boxed.scenes(), boxed.OBJECTS[::-1])
    assert other.id != dataset
    stored = place.datasets.entries("me", dataset)
    content = manifest.canonical(stored, box_classes=boxed.OBJECTS)
    assert (manifest.read(content), manifest.read_box_classes(content)) == (stored, boxed.OBJECTS)
    assert place.datasets.report("me", dataset).usable  # looked at in a process of its own
    entry = dataset_pb2.DatasetEntry(path="x", label="a", file=ref(b"x"))
    with pytest.raises(InvalidArgument, match="has no label and no mask"):
        place.datasets.create("me", "", [entry], box_classes=["a"])
    for classes, words in (
        (["a", "a"], "there twice"),
        (["Background"], "cannot be that of an object"),
        ([" "], "line"),
    ):
        with pytest.raises(InvalidArgument, match=words):
            place.datasets.create("me", "", [], box_classes=classes)
    with pytest.raises(InvalidArgument, match="and not both"):
        place.datasets.create("me", "", [], "", ["a", "b"], box_classes=["a"])
