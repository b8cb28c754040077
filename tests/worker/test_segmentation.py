"""Jobs that learn the class of each pixel: refused in the service, killed, resumed, published once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from ouzel import models
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.forking.client import ForkServer
from ouzel.worker.api import requests
from ouzel.worker.datasets.check import check
from ouzel.worker.store.job import State
from ouzel_protos import label_maps, manifest
from ouzel_protos.v1 import dataset_pb2
from ouzel_protos.v1 import job_pb2 as pb
from support.datasets import ref, stored_masked
from support.jobs import ended, submit, until
from support.masked import CLASSES, files, png, scene
from support.tuning import Place, value

FAST = {"epochs": 2, "frozen_epochs": 1, "batch_size": 4, "held_out": 0.25}


@pytest.fixture
def place(tmp_path: Path, tiny_base: Path, forks: ForkServer) -> Iterator[Place]:
    with closing(Place(tmp_path, tiny_base, forks)) as made:
        yield made


def shapes(count: int = 16) -> dict[str, tuple[bytes, bytes]]:
    pairs = {}
    for number in range(count):
        pixels, labels = scene(number)
        pairs[f"{number:02}.png"] = png(pixels), label_maps.write(labels)
    return pairs


def asked(dataset: str, recipe: str = "segment", parameters: dict[str, Any] = FAST, **more: Any) -> pb.JobSpec:
    values = {"base": "base", "name": "shapes", "recipe": recipe, **more}
    settings = {key: value(each) for key, each in parameters.items()}
    return pb.JobSpec(finetune=pb.FinetuneSpec(dataset=dataset, parameters=settings, **values))


def test_a_segmentation_model_comes_out_and_is_the_base_of_its_next_version(place: Place) -> None:
    dataset = stored_masked(place.datasets, "me", shapes(), CLASSES)
    assert (dataset.masks, tuple(dataset.mask_classes), dict(dataset.classes)) == (16, CLASSES, {})
    done = place.run(asked(dataset.id, seed=3, image_size=40))
    summary = dict(done.result.summary)
    assert (summary["model"], summary["version"], summary["task"]) == ("shapes", "1", "segmentation")
    assert 0 <= summary["miou_low"] <= summary["miou"] <= summary["miou_high"] <= 1
    tuned = models.load(place.models.find("shapes"))
    assert (tuned.task, tuned.labels, tuned.arch) == ("segmentation", CLASSES, "unet:timm:test_resnet")
    assert tuned.digest == summary["digest"]
    names = {each.name for each in place.store.artifacts("me", done.id)}
    assert {"report.html", "report.json", "images.json", "curves.png"} <= names
    assert "<h1>shapes@1</h1>" in place.file(done, "report.html").decode()
    lineage = json.loads(place.file(done, "report.json"))["lineage"]
    assert tuned.card["lineage"] == lineage
    assert lineage.items() >= {"base": "base", "dataset": dataset.id, "recipe": "segment", "image_size": 40}.items()
    assert lineage["parameters"].items() >= FAST.items()
    assert lineage["metrics"]["miou"] == summary["miou"]
    assert lineage["classes"] == list(CLASSES)
    told = [each.metric.values for each in place.store.events("me", done.id) if each.HasField("metric")]
    assert {"loss", "miou", "learning_rate"} <= {key for each in told for key in each}
    logs = [each.log.message for each in place.store.events("me", done.id) if each.HasField("log")]
    assert "16 images with label maps of 3 classes" in logs

    again = place.run(asked(dataset.id, seed=3, image_size=40, name="again"))
    assert again.result.summary["digest"] == summary["digest"]  # the same run gives the same weights
    more = place.run(asked(dataset.id, base="shapes", promote=pb.FinetuneSpec.IF_BETTER))
    figures = dict(more.result.summary)
    assert (figures["version"], figures["served_model"]) == ("2", "shapes@1")
    assert figures["promoted"] == (figures["miou"] > figures["served_miou"])
    assert models.load(place.models.find("shapes@2")).card["lineage"]["base_version"] == "1"
    back = asked(place.upload(), "lp_ft", {}, base="shapes", name="colours")
    with pytest.raises(FailedPrecondition, match="'shapes' is a segmentation model; recipes for labels need a classi"):
        requests.new_job(pb.CreateJobRequest(spec=back), place.catalogue)


def test_killed_it_publishes_once_and_the_same(place: Place) -> None:
    dataset = stored_masked(place.datasets, "me", shapes(), CLASSES).id
    parameters = FAST | {"epochs": 6}
    alone = place.run(asked(dataset, name="alone", parameters=parameters))
    events = len(place.store.events("me", alone.id, limit=10_000))
    job = submit(place.store, asked(dataset, parameters=parameters))

    def halfway() -> bool:
        current = place.store.get("me", job.id)
        return current.state is State.RUNNING and current.last_sequence >= events // 2

    until(halfway, 60)
    held = place.store.leases()
    psutil.Process(int(held[0].handle.split("/")[1])).kill()
    done = ended(place.store, job, 120)
    assert done.state is State.SUCCEEDED, done.error
    assert done.attempt == 2
    assert len(place.models.versions("shapes")) == 1
    first, second = (models.load(place.models.find(name)).network.state_dict() for name in ("alone", "shapes"))
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)


def test_what_cannot_work_is_refused_at_once(place: Place) -> None:
    masked = stored_masked(place.datasets, "me", shapes(4), CLASSES).id
    labelled = place.upload()
    for spec, field in (
        (asked(labelled), "dataset"),
        (asked(masked, "lp_ft", {}), "dataset"),
        (asked(masked, parameters={"balance": True}), "parameters.balance"),
        (asked(masked, parameters={"epochs": -1}), "parameters.epochs"),
        (asked(masked, promote=pb.FinetuneSpec.IF_GROUNDED), "promote"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            requests.new_job(pb.CreateJobRequest(spec=spec), place.catalogue)
        assert caught.value.field == field
    audit = pb.JobSpec(audit=pb.AuditSpec(model="base", dataset=masked))
    with pytest.raises(InvalidArgument, match="has label maps; labels are needed here"):
        requests.new_job(pb.CreateJobRequest(spec=audit), place.catalogue)


def test_label_maps_by_uri(place: Place, tmp_path: Path) -> None:
    for name, content in files(12).items():
        (tmp_path / "shapes" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shapes" / name).write_bytes(content)
    spec = asked(f"file://{tmp_path}/shapes")
    requests.new_job(pb.CreateJobRequest(spec=spec), replace(place.catalogue, schemes=frozenset({"file"})))
    assert place.run(spec).result.summary["test_images"] == 3
    (tmp_path / "shapes" / "masks" / "3.png").unlink()
    failed = ended(place.store, submit(place.store, spec), 60)
    assert failed.error is not None
    assert (failed.error.field, failed.error.message) == ("dataset", "dataset: images without a mask: '3.png'")


def entries_of(pairs: dict[str, tuple[bytes, bytes]]) -> tuple[list[dataset_pb2.DatasetEntry], dict[str, bytes]]:
    entries = [
        dataset_pb2.DatasetEntry(path=path, file=ref(image), mask=ref(mask)) for path, (image, mask) in pairs.items()
    ]
    return entries, {ref(content).sha256: content for pair in pairs.values() for content in pair}


def test_hostile_masks_are_left_out_and_said() -> None:
    image = shapes(1)["00.png"][0]
    labels = scene(0)[1]
    pairs = shapes(6) | {
        "size.png": (image, label_maps.write(labels[:30])),
        "deep.png": (image, png(labels.astype(np.uint16))),
        "colours.png": (image, png(np.stack([labels] * 3, 2))),
        "range.png": (image, label_maps.write(labels + 5)),
        "nothing.png": (image, label_maps.write(np.full_like(labels, 255))),
        "empty.png": (image, b""),
        "jpeg.png": (image, b"\xff\xd8\xff\xe0"),
    }
    entries, contents = entries_of(pairs)
    report = check(entries, contents.__getitem__, mask_classes=(*CLASSES, "triangle"))
    said = {each.path: each.reason for each in report.refused}
    words = {
        "size.png": "mask: has 40 x 30 pixels; its image has 40 x 40",
        "deep.png": "mask: has 16 bits in a channel",
        "colours.png": "mask: has the mode RGB",
        "range.png": "mask: has the class 5 at x = 0, y = 0",
        "nothing.png": "mask: is 255 all over",
        "empty.png": "mask: is empty",
        "jpeg.png": "mask: is not a PNG",
    }
    assert said.keys() == words.keys()
    assert all(said[name].startswith(text) for name, text in words.items())
    assert (report.usable, report.images) == (True, 13)
    assert dict(report.classes) == {"background": 6, "square": 6, "disc": 6}
    assert "no pixel in any image: triangle; nothing of them is learnt" in report.warnings
    assert report.dataset == manifest.digest(entries, (*CLASSES, "triangle"))
    few, contents = entries_of(shapes(2))
    assert list(check(few, contents.__getitem__, mask_classes=CLASSES).problems) == [
        "2 image(s) can be used; 3 are needed at least"
    ]


def test_the_classes_are_part_of_what_a_data_set_is(place: Place) -> None:
    first = stored_masked(place.datasets, "me", shapes(3), CLASSES)
    other = stored_masked(place.datasets, "me", shapes(3), ("background", "disc", "square"))
    assert first.id != other.id
    assert place.datasets.report("me", first.id).usable  # looked at in a process of its own
    with pytest.raises(InvalidArgument, match="has a mask, no label and no boxes"):
        place.datasets.create("me", "", [dataset_pb2.DatasetEntry(path="x", label="a", file=ref(b"x"))], "", CLASSES)
    with pytest.raises(InvalidArgument, match="1 classes; 2 to 255"):
        place.datasets.create("me", "", [], "", ["one"])
