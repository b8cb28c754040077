"""Jobs that publish twice: the head alone at once, and what all layers come to only if it is better."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from ouzel import models
from ouzel.errors import InvalidArgument
from ouzel.forking.client import ForkServer
from ouzel.ledger import open_ledger
from ouzel.ledger.settings import settings
from ouzel.worker.api import requests
from ouzel.worker.store.job import Job, State
from ouzel_protos.v1 import job_pb2 as pb
from support.datasets import entries, send, stored_masked, two_colours
from support.jobs import ended, submit, until
from support.masked import CLASSES
from support.tuning import Place
from worker import test_finetune, test_segmentation_job

# By these, all layers learn what the head alone does not know yet.
LEARNING = {"epochs": 4, "learning_rate": 0.01, "spread": 1.0, "crop": 0.9, "batch_size": 4}
PROMOTE = pb.FinetuneSpec


def asked(dataset: str, recipe: str = "lp_ft", **more: Any) -> pb.JobSpec:
    parameters = LEARNING if recipe == "lp_ft" else {}
    return test_finetune.asked(dataset, recipe, **{"early": True, "parameters": parameters, **more})


def segmented(dataset: str, **more: Any) -> pb.JobSpec:
    return test_segmentation_job.asked(dataset, **{"early": True, **more})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, forks: ForkServer) -> Iterator[Place]:
    with closing(Place(tmp_path_factory.mktemp("early"), tiny_base, forks)) as made:
        yield made


def waves(label: int, seed: int) -> bytes:
    """A PNG of noise with waves that go across (0) or down (1)."""
    chance, lines = np.random.default_rng([label, seed]), np.mgrid[:40, :40]
    wave = np.sin(2 * np.pi * (lines[label] / chance.uniform(5, 9) + chance.uniform()))
    pixels = 128 + chance.uniform(20, 60) * wave[..., None] + chance.normal(0, 80, (40, 40, 3))
    out = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def uploaded(place: Place, *, swapped: bool = False) -> str:
    """Id of a data set. swapped: its held-out images have wrong labels, so that who learns well is worse there."""
    files = {}
    for part, count in (("train", 14), ("validation", 10), ("test", 10)):
        for number in range(2 * count):
            label = number % 2
            shown = label ^ (swapped and part == "test")
            files[f"{part}/{('across', 'down')[label]}/{number}.png"] = waves(shown, 1000 * len(part) + number)
    made = entries(files)
    for entry in made:
        entry.split = entry.path.partition("/")[0]
    send(place.datasets, "me", set(files.values()))
    return place.datasets.create("me", "", made).id


@pytest.fixture(scope="module")
def dataset(place: Place) -> str:
    return uploaded(place)


@pytest.fixture(scope="module")
def shapes(place: Place) -> str:
    return stored_masked(place.datasets, "me", test_segmentation_job.shapes(), CLASSES).id


def told(place: Place, job: Job) -> list[pb.Publication]:
    events = place.store.events("me", job.id, limit=10_000)
    return [each.publication for each in events if each.HasField("publication")]


def recorded(place: Place, job: Job) -> list[tuple[str, str]]:
    """The job's entries of the log: kind and version, in order."""
    opened = open_ledger(settings(place.folder / "ledger"), publish=False)
    try:
        bodies = [json.loads(each.body or b"") for each in opened.entries()]
    finally:
        opened.close()
    return [(each["kind"], each["facts"].get("version")) for each in bodies if each["facts"].get("job") == job.id]


def weights(place: Place, reference: str) -> Mapping[str, torch.Tensor]:
    return models.load(place.models.find(reference)).network.state_dict()


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


def right(place: Place, reference: str, dataset: str) -> list[bool]:
    """Of each held-out image, whether the version that is in the store is right."""
    model = models.load(place.models.find(reference))
    answers = []
    for entry in place.datasets.entries("me", dataset):
        if entry.split == "test":
            content = place.datasets.read("me", entry.file.sha256)
            x = model.preprocessing(models.decode(content))
            answers.append(model.labels[int(model.network(x[None]).argmax())] == entry.label)
    return answers


def test_both_versions_are_published_promoted_and_told_in_order(place: Place, dataset: str) -> None:
    done = place.run(asked(dataset, name="both", promote=PROMOTE.IF_BETTER))
    early, summary = done.result.summary["early"], dict(done.result.summary)
    before, now = right(place, "both@1", dataset), right(place, "both@2", dataset)
    assert sum(now) > sum(before), "the test needs images that the head alone does not know"
    assert (early["first"]["accuracy"], early["later"]["accuracy"]) == (sum(before) / 20, sum(now) / 20)
    pairs = list(zip(before, now, strict=True))
    assert (early["fixed"], early["broken"]) == (pairs.count((False, True)), pairs.count((True, False)))
    assert (early["better"], early["first"]["version"], early["later"]["version"]) == (True, "1", "2")
    assert (summary["version"], summary["promoted"], summary["accuracy"]) == ("2", True, sum(now) / 20)
    assert [(each.version, each.number, each.promoted) for each in told(place, done)] == [
        ("1", 1, True),
        ("2", 2, True),
    ]
    expected = [("publication", "1"), ("promotion", "1"), ("publication", "2"), ("promotion", "2")]
    assert recorded(place, done) == expected
    first, second = (models.load(place.models.find(f"both@{n}")).card["lineage"] for n in (1, 2))
    assert {first["job"], second["job"]} == {done.id}
    assert [(each["early"], each["publication"]) for each in (first, second)] == [(True, 1), (True, 2)]
    assert first["training"]["steps"] == 0 < second["training"]["steps"]
    assert first["metrics"]["accuracy"] == early["first"]["accuracy"]
    assert (second["improves_on"]["version"], second["improves_on"]["reason"]) == ("1", early["reason"])
    assert json.loads(place.file(done, "report.json"))["early"] == early
    page = place.file(done, "report.html").decode()
    assert 'id="early"' in page
    assert early["reason"] in page
    _both_are_what_they_would_be_alone(place, dataset)


def _both_are_what_they_would_be_alone(place: Place, dataset: str) -> None:
    place.run(asked(dataset, name="alone", early=False))
    assert same(weights(place, "alone"), weights(place, "both@2"))
    place.run(test_finetune.asked(dataset, name="head", parameters={"flip": True}))
    assert same(weights(place, "head"), weights(place, "both@1"))


def test_what_is_better_by_validation_and_worse_on_held_out_images_is_not_published(place: Place) -> None:
    dataset = uploaded(place, swapped=True)
    place.run(test_finetune.asked(dataset, name="kept", parameters={"flip": True}))  # the head alone
    done = place.run(asked(dataset, name="kept", promote=PROMOTE.IF_BETTER))
    early, summary = done.result.summary["early"], dict(done.result.summary)
    assert early["later"]["accuracy"] < early["first"]["accuracy"], "the test needs a training that learns"
    assert early["broken"] > early["fixed"]
    assert (early["better"], early["later"]["version"]) == (False, "")
    assert early["reason"].startswith("not better: ")
    assert (summary["version"], summary["promoted"]) == ("2", False)  # as good as the default is not better
    assert summary["accuracy"] == early["first"]["accuracy"] == sum(right(place, "kept@2", dataset)) / 20
    assert summary["served_model"] == "kept@1"  # from before the job
    assert [each.version for each in place.models.of("kept")] == ["1", "2"]
    assert [each.version for each in told(place, done)] == ["2"]
    assert recorded(place, done) == [("publication", "2")]
    report = json.loads(place.file(done, "report.json"))
    assert (report["chosen"], report["lineage"]["publication"]) == ("feature_extractor", 1)
    assert report["lineage"] == models.load(place.models.find("kept@2")).card["lineage"]
    assert place.file(done, "early/curves.png").startswith(b"\x89PNG")
    logs = [each.log.message for each in place.store.events("me", done.id, limit=10_000) if each.HasField("log")]
    assert f"the training is {early['reason']}" in logs


def test_a_training_that_does_not_improve_leaves_the_head(place: Place) -> None:
    """Nor is it promoted, by NEVER: the present default stays."""
    files = place.upload(two_colours())
    place.run(test_finetune.asked(files, name="same"))
    done = place.run(asked(files, name="same", parameters={"epochs": 1}, promote=PROMOTE.NEVER))
    early = done.result.summary["early"]
    assert early["first"]["accuracy"] == 1.0  # no training can be better
    assert (early["better"], early["later"]["version"], done.result.summary["version"]) == (False, "", "2")
    assert [each.version for each in place.models.of("same")] == ["1", "2"]
    assert (place.models.default("same"), done.result.summary["promoted"]) == ("1", False)
    logs = [each.log.message for each in place.store.events("me", done.id, limit=10_000) if each.HasField("log")]
    assert f"the training is {early['reason']}" in logs


def killed(place: Place, spec: pb.JobSpec, moments: list[Any]) -> Job:
    """A job whose process is killed at each of the moments, with its end."""
    job = submit(place.store, spec)
    for moment in moments:
        until(lambda moment=moment: moment(place.store.get("me", job.id)), 60)
        until(lambda: bool(place.store.leases()[0].handle), 60)
        held = place.store.leases()
        psutil.Process(int(held[0].handle.split("/")[1])).kill()
    done = ended(place.store, job, 120)
    assert done.state is State.SUCCEEDED, done.error
    assert done.attempt == 1 + len(moments)
    return done


def training(attempt: int) -> Any:
    """While all layers learn, after the first version was published."""
    return lambda job: (
        job.attempt == attempt and job.state is State.RUNNING and job.progress.phase == "training"
        and job.progress.step >= 2 * attempt
    )  # fmt: skip


def test_killed_between_the_two_neither_is_lost_or_published_again(place: Place, dataset: str) -> None:
    done = killed(place, asked(dataset, name="killed", promote=PROMOTE.ALWAYS), [training(1), training(2)])
    assert [each.version for each in place.models.of("killed")] == ["1", "2"]
    for version in "12":
        assert same(weights(place, f"both@{version}"), weights(place, f"killed@{version}"))
    assert [(each.version, each.number) for each in told(place, done)] == [("1", 1), ("2", 2)]
    expected = [("publication", "1"), ("promotion", "1"), ("publication", "2"), ("promotion", "2")]
    assert recorded(place, done) == expected
    assert (done.result.summary["early"]["first"]["version"], done.result.summary["version"]) == ("1", "2")


def test_a_first_version_that_was_deleted_is_not_published_again(place: Place, dataset: str) -> None:
    """Its number is not used again either."""
    job = submit(place.store, asked(dataset, name="deleted"))
    until(lambda: training(1)(place.store.get("me", job.id)), 60)
    place.models.remove("deleted@1")
    until(lambda: bool(place.store.leases()[0].handle), 60)
    held = place.store.leases()
    psutil.Process(int(held[0].handle.split("/")[1])).kill()
    done = ended(place.store, job, 120)
    assert done.state is State.SUCCEEDED, done.error
    assert done.attempt == 2
    assert [each.version for each in place.models.of("deleted")] == ["2"]
    assert [each.version for each in told(place, done)] == ["1", "2"]


def test_segmentations_killed_between_the_two(place: Place, shapes: str) -> None:
    parameters = test_segmentation_job.FAST | {"epochs": 3}
    whole = place.run(segmented(shapes, name="whole", parameters=parameters, promote=PROMOTE.IF_BETTER))
    early, summary = whole.result.summary["early"], dict(whole.result.summary)
    assert early["later"]["miou"] > early["first"]["miou"], "the test needs images that the decoder does not know yet"
    assert early["gain"] == pytest.approx(early["later"]["miou"] - early["first"]["miou"])
    assert (early["better"], summary["version"], summary["promoted"]) == (True, "2", True)
    assert 'id="early"' in place.file(whole, "report.html").decode()
    place.run(segmented(shapes, name="plain", parameters=parameters, early=False))
    assert same(weights(place, "plain"), weights(place, "whole@2"))

    def between(job: Job) -> bool:
        return job.state is State.RUNNING and len(told(place, job)) == 1 and job.progress.phase == "training"

    done = killed(place, segmented(shapes, name="masks", parameters=parameters, promote=PROMOTE.ALWAYS), [between])
    assert [(each.version, each.number) for each in told(place, done)] == [("1", 1), ("2", 2)]
    for version in "12":
        assert same(weights(place, f"whole@{version}"), weights(place, f"masks@{version}"))
    first, second = (models.load(place.models.find(f"masks@{n}")).card["lineage"] for n in (1, 2))
    assert (first["job"], first["training"]["chosen"], second["job"]) == (done.id, "decoder", done.id)
    assert first["metrics"]["miou"] == pytest.approx(early["first"]["miou"])


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_segmentation_becomes_the_next_version_only_if_its_miou_is_higher(
    place: Place, shapes: str, epochs: int
) -> None:
    parameters = test_segmentation_job.FAST | {"epochs": epochs, "learning_rate": 1e-8}
    done = place.run(segmented(shapes, name=f"unmoved{epochs}", parameters=parameters))
    early = done.result.summary["early"]
    better = early["later"]["miou"] > early["first"]["miou"]
    assert (early["better"], len(place.models.of(f"unmoved{epochs}"))) == (better, 2 if better else 1)
    assert done.result.summary["version"] == ("2" if better else "1")


def test_a_training_that_diverges_leaves_the_first_version(place: Place, dataset: str) -> None:
    parameters = {"epochs": 200, "learning_rate": 1.0, "weight_decay": 10.0, "batch_size": 2, "spread": 1.0}
    failed = ended(place.store, submit(place.store, asked(dataset, name="diverged", parameters=parameters)), 120)
    assert failed.state is State.FAILED, "the loss stayed finite: the test needs a harder network"
    assert [each.version for each in place.models.of("diverged")] == ["1"]
    logs = [each.log.message for each in place.store.events("me", failed.id, limit=10_000) if each.HasField("log")]
    assert "diverged@1, which was published before, stays" in logs


@pytest.mark.parametrize("recipe", ["feature_extractor", "fine_tune", "scratch"])
def test_recipes_without_a_head_that_learns_first_are_refused(place: Place, dataset: str, recipe: str) -> None:
    with pytest.raises(InvalidArgument, match=f"early: {recipe} has no head") as caught:
        requests.new_job(pb.CreateJobRequest(spec=asked(dataset, recipe)), place.catalogue)
    assert caught.value.field == "early"


@pytest.mark.parametrize("name", ["epochs", "frozen_epochs"])
def test_a_segmentation_of_one_stage_is_refused(place: Place, shapes: str, name: str) -> None:
    spec = segmented(shapes, parameters=test_segmentation_job.FAST | {name: 0})
    with pytest.raises(InvalidArgument, match=f"parameters.{name} is 0") as caught:
        requests.new_job(pb.CreateJobRequest(spec=spec), place.catalogue)
    assert caught.value.field == "early"
