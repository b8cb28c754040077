"""Jobs that tune: refused in the service, run in a process, killed, published once."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from ouzel import models
from ouzel.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from ouzel.finetune import make_recipe
from ouzel.finetune.data import SPLITS
from ouzel.forking.client import ForkServer
from ouzel.worker.api import requests
from ouzel.worker.store.job import Job, State
from ouzel_protos.recipes import FINETUNE
from ouzel_protos.v1 import job_pb2 as pb
from support.datasets import two_colours
from support.jobs import ended, submit, until
from support.tuning import Place, value

ARCH = "timm:test_resnet"
Class = pb.JobError.Class
SEED = 2**60 + 1


@pytest.fixture
def place(tmp_path: Path, tiny_base: Path, forks: ForkServer) -> Iterator[Place]:
    with closing(Place(tmp_path, tiny_base, forks)) as made:
        yield made


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, forks: ForkServer) -> Iterator[Place]:
    """For tests in which no job comes about."""
    with closing(Place(tmp_path_factory.mktemp("asking"), tiny_base, forks)) as made:
        yield made


def asked(dataset: str, recipe: str = "feature_extractor", **more) -> pb.JobSpec:
    parameters = {key: value(each) for key, each in more.pop("parameters", {}).items()}
    values = {"base": "base", "name": "colours", **more}
    return pb.JobSpec(finetune=pb.FinetuneSpec(dataset=dataset, recipe=recipe, parameters=parameters, **values))


@pytest.mark.parametrize(
    ("change", "error", "field"),
    [
        ({"base": "nobody"}, NotFound, "base"),
        ({"base": "../base"}, NotFound, "base"),
        ({"recipe": "lpft"}, InvalidArgument, "recipe"),
        ({"recipe": "lp_ft", "parameters": {"epochs": 0}}, InvalidArgument, "parameters.epochs"),
        ({"recipe": "lp_ft", "parameters": {"epochs": 10**9}}, InvalidArgument, "parameters.epochs"),
        ({"recipe": "lp_ft", "parameters": {"learning_rate": math.nan}}, InvalidArgument, "parameters.learning_rate"),
        ({"recipe": "lp_ft", "parameters": {"flip": 1}}, InvalidArgument, "parameters.flip"),
        ({"parameters": {"epochs": 3}}, InvalidArgument, "parameters.epochs"),
        ({"name": ""}, InvalidArgument, "name"),
        ({"name": "../x"}, InvalidArgument, "name"),
        ({"name": "x@2"}, InvalidArgument, "name"),
        ({"name": "base"}, AlreadyExists, "name"),
        ({"seed": -1}, InvalidArgument, "seed"),
        ({"max_training_seconds": -1.0}, InvalidArgument, "max_training_seconds"),
        ({"max_training_seconds": math.nan}, InvalidArgument, "max_training_seconds"),
        ({"image_size": 8}, InvalidArgument, "image_size"),
        ({"image_size": 10**6}, InvalidArgument, "image_size"),
        ({"promote": 77}, InvalidArgument, "promote"),
        ({"base_digest": "sha256:" + "0" * 64}, FailedPrecondition, "base_digest"),
        ({"recipe": "lp_ft", "parameters": {"epochs": 1e9}}, InvalidArgument, "parameters.epochs"),
        ({"recipe": "lp_ft", "parameters": {"epochs": 2.5}}, InvalidArgument, "parameters.epochs"),
        ({"dataset": "0" * 64}, NotFound, "dataset"),
        ({"dataset": "../x"}, NotFound, "dataset"),
        ({"dataset": "s3://bucket/x"}, InvalidArgument, "dataset"),
        ({"dataset": "file:///etc"}, InvalidArgument, "dataset"),
    ],
)
def test_what_cannot_work_is_refused_at_once(asking: Place, change: dict, error: type, field: str) -> None:
    dataset = asking.upload()
    spec = asked(**{"dataset": dataset, **change})
    with pytest.raises(error) as caught:
        requests.new_job(pb.CreateJobRequest(spec=spec), asking.catalogue)
    assert caught.value.field == field


def test_validating_alone_gives_the_report(asking: Place) -> None:
    from ouzel.worker import kinds

    dataset = asking.upload(two_colours() | {"red/x.png": b"GIF89a"})
    spec = asked(dataset)
    report = kinds.report_of("finetune", spec, asking.catalogue)
    assert report is not None
    assert report["usable"] is True
    assert [each["path"] for each in report["refused"]] == ["red/x.png"]
    assert json.loads(json.dumps(report))["classes"] == {"blue": "12", "red": "12"}
    assert kinds.report_of("maximize", pb.JobSpec(maximize=pb.MaximizeSpec()), asking.catalogue) is None


def test_a_model_comes_out_and_knows_where_it_comes_from(place: Place) -> None:
    dataset = place.upload()
    parameters = {"epochs": 2.0, "learning_rate": 0.001}
    asked_for = asked(dataset, "lp_ft", parameters=parameters, seed=SEED, image_size=40, max_training_seconds=3600.0)
    done = place.run(asked_for)
    summary = dict(done.result.summary)
    assert (summary["model"], summary["version"], summary["served"]) == ("colours", "1", False)
    assert summary["accuracy"] == 1.0
    assert summary["accuracy_low"] < 1.0 == summary["accuracy_high"]
    names = {each.name for each in place.store.artifacts("me", done.id)}
    assert {"report.html", "report.json", "predictions.csv", "curves.png"} <= names
    assert {"compared/00-before.png", "compared/00-after.png"} <= names
    assert "<h1>colours@1</h1>" in place.file(done, "report.html").decode()
    assert (summary["confusion"], "history" in summary) == ([[2.0, 0.0], [0.0, 2.0]], False)
    tuned = models.load(place.models.find("colours"))
    assert tuned.labels == ("blue", "red")
    assert tuned.digest == summary["digest"]
    lineage = json.loads(place.file(done, "report.json"))["lineage"]
    assert tuned.card["lineage"] == lineage
    base = models.load(place.models.find("base"))
    expected = {
        "job": done.id,
        "owner": "me",
        "base": "base",
        "base_digest": base.digest,
        "base_version": base.version,
        "dataset": dataset,
        "recipe": "lp_ft",
        "seed": str(SEED),  # no double is this number
        "image_size": 40,
        "input_size": [40, 40],
        "max_training_seconds": 3600.0,
        "promote": "never",
        "classes": ["blue", "red"],
        "batch_scale": 1.0,
        "attempt": 1,
    }
    assert expected.items() <= lineage.items()
    recipe = make_recipe("lp_ft", {"epochs": 2, "learning_rate": 0.001})
    assert lineage["parameters"] == {name: getattr(recipe, name) for name in FINETUNE["lp_ft"]}
    steps = 2 * math.ceil(summary["train_images"] / recipe.batch_size)
    assert lineage["training"].items() >= {"steps": steps, "planned_steps": steps, "out_of_time": False}.items()
    assert {part: lineage["split"][part] for part in SPLITS} == {part: summary[f"{part}_images"] for part in SPLITS}
    assert lineage["device"].items() >= {"type": "cpu", "threads": 1}.items()
    assert lineage["precision"] == summary["precision"] == "exact"
    assert "notes" not in lineage
    assert lineage["metrics"]["accuracy"] == 1.0
    assert torch.__version__.startswith(lineage["libraries"]["torch"])
    told = [each.metric.values for each in place.store.events("me", done.id) if each.HasField("metric")]
    assert {"loss", "accuracy", "learning_rate", "images_per_second", "seconds_left"} <= {
        k for each in told for k in each
    }
    for content, label in ((two_colours()["red/3.png"], "red"), (two_colours()["blue/4.png"], "blue")):
        x = tuned.preprocessing(models.decode(content))
        assert tuned.labels[int(tuned.network(x[None]).argmax())] == label
    _the_same_again(place, lineage)


def _the_same_again(place: Place, lineage: dict[str, Any]) -> None:
    """All that a run needs is in the lineage: on the same machine, the same weights come out."""
    names = ("dataset", "recipe", "image_size", "base_digest")
    again = pb.FinetuneSpec(**{name: lineage[name] for name in names}, name="again", seed=int(lineage["seed"]))
    again.base = f"{lineage['base']}@{lineage['base_version']}"
    again.max_training_seconds = lineage["max_training_seconds"]
    for name, each in lineage["parameters"].items():
        again.parameters[name].CopyFrom(value(each))
    repeated = place.run(pb.JobSpec(finetune=again))
    first, second = models.load(place.models.find("colours")), models.load(place.models.find("again"))
    assert second.digest == first.digest == repeated.result.summary["digest"]
    told = second.card["lineage"]
    same = ("parameters", "seed", "split", "image_size", "base_digest", "metrics", "classes")
    assert [told[name] for name in same] == [lineage[name] for name in same]


def _do_not_exist_for_others(place: Place, dataset: str) -> None:
    stranger = place.catalogue.seen_by("you")
    with pytest.raises(NotFound):
        requests.new_job(pb.CreateJobRequest(spec=asked(dataset, name="mine")), stranger)
    with pytest.raises(NotFound):
        stranger.model("colours")
    with pytest.raises(AlreadyExists, match="somebody else's"):
        requests.new_job(pb.CreateJobRequest(spec=asked(dataset)), stranger)


def test_a_tuned_model_is_the_base_of_another_and_versions_count_up(place: Place) -> None:
    dataset = place.upload()
    place.run(asked(dataset))
    _do_not_exist_for_others(place, dataset)
    second = place.run(asked(place.upload(two_colours(9)), base="colours", promote=pb.FinetuneSpec.ALWAYS))
    assert (second.result.summary["version"], second.result.summary["promoted"]) == ("2", True)
    card = models.load(place.models.find("colours")).card
    assert (card["version"], card["lineage"]["base"], card["lineage"]["base_version"]) == ("2", "colours", "1")
    third = place.run(asked(place.upload(), promote=pb.FinetuneSpec.IF_BETTER))
    assert (third.result.summary["version"], third.result.summary["promoted"]) == ("3", False)  # both are right always
    beside = {"served_model": "colours@2", "served_accuracy": 1.0, "fixed": 0, "broken": 0}
    assert beside.items() <= dict(third.result.summary).items()
    assert "The two are right on the very same images." in place.file(third, "report.html").decode()
    assert place.models.default("colours") == "2"


def _too_little_time_for_any_fine_tuning_is_said_everywhere(place: Place, done: Job) -> None:
    report = json.loads(place.file(done, "report.json"))
    (note,) = report["notes"]
    assert "0.001 s was over before any fine-tuning" in note
    assert list(done.result.summary["notes"]) == [note] == report["lineage"]["notes"]
    assert note.encode() in place.file(done, "report.html")
    logs = [each.log for each in place.store.events("me", done.id) if each.HasField("log")]
    assert [each.level for each in logs if each.message == note] == [pb.Log.WARNING]
    training = models.load(place.models.find("colours")).card["lineage"]["training"]
    assert (training["steps"], training["out_of_time"], training["chosen"]) == (0, True, "feature_extractor")
    assert done.message().progress == pb.Progress()


def test_images_that_cannot_be_used_are_left_out_and_a_data_set_without_any_fails_the_job(place: Place) -> None:
    files = two_colours() | {"red/x.png": b"GIF89a", "red/copy.png": two_colours()["red/0.png"]}
    done = place.run(asked(place.upload(files), "lp_ft", max_training_seconds=0.001))
    _too_little_time_for_any_fine_tuning_is_said_everywhere(place, done)
    assert sum(done.result.summary[f"{part}_images"] for part in ("train", "validation", "test")) == 25
    logs = [each.log.message for each in place.store.events("me", done.id) if each.HasField("log")]
    assert any("1 of 26 images are left out" in each for each in logs)
    assert "25 images of 2 classes: the job splits them" in logs
    bad = submit(place.store, asked(place.upload({"a/1.png": b"no", "b/2.png": b"no either"})))
    failed = ended(place.store, bad, 60)
    assert failed.state is State.FAILED
    assert failed.error is not None
    assert (failed.error.failure_class, failed.error.field) == (Class.USER, "dataset")
    assert "class 'a' has 0 image(s)" in failed.error.message


def test_killed_again_and_again_it_publishes_once_and_the_same(place: Place) -> None:
    """The process is killed at moments of chance; the weights are those of a job that was left alone."""
    parameters = {"epochs": 3, "batch_size": 4}
    dataset = place.upload()
    alone = place.run(asked(dataset, "lp_ft", name="alone", parameters=parameters))
    events = len(place.store.events("me", alone.id, limit=10_000))
    chance = random.Random(7)
    job = submit(place.store, asked(dataset, "lp_ft", parameters=parameters))
    kills = 0
    for _ in range(2):
        seen = place.store.get("me", job.id).last_sequence
        wanted = seen + chance.randrange(3, max(4, events // 2))

        def there(wanted: int = wanted) -> bool:
            current = place.store.get("me", job.id)
            return current.state is State.SUCCEEDED or (
                current.state is State.RUNNING and current.last_sequence >= wanted
            )

        until(there, 60)
        held = place.store.leases()
        if place.store.get("me", job.id).state is State.SUCCEEDED or not held or not held[0].handle:
            break
        try:
            psutil.Process(int(held[0].handle.split("/")[1])).kill()
            kills += 1
        except psutil.NoSuchProcess:
            break
    done = ended(place.store, job, 120)
    assert done.state is State.SUCCEEDED, done.error
    assert kills
    assert len(place.models.versions("colours")) == 1
    first, second = (models.load(place.models.find(name)).network.state_dict() for name in ("alone", "colours"))
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)


def test_a_loss_that_is_no_number_fails_the_job_keeps_the_best_and_publishes_nothing(
    tmp_path: Path, tiny_base: Path, forks: ForkServer
) -> None:
    with closing(Place(tmp_path, tiny_base, forks, checkpoint=3600.0)) as place:
        _diverges(place)


def _diverges(place: Place) -> None:
    parameters = {"epochs": 200, "learning_rate": 1.0, "spread": 1.0, "weight_decay": 10.0, "batch_size": 2}
    job = submit(
        place.store, asked(place.upload(), "scratch", parameters={k: v for k, v in parameters.items() if k != "spread"})
    )
    failed = ended(place.store, job, 120)
    if failed.state is State.SUCCEEDED:
        pytest.fail("the loss stayed finite: the test needs a harder network")
    assert failed.error is not None
    assert failed.error.failure_class == Class.USER
    assert failed.error.field == "parameters.learning_rate"
    assert "the loss became" in failed.error.message
    assert failed.checkpoint  # the best until then is in it
    assert [entry.name for entry in place.models.list()] == ["base"]


def test_a_cancelled_job_publishes_nothing(place: Place) -> None:
    job = submit(place.store, asked(place.upload(), "lp_ft", parameters={"epochs": 1000, "patience": 1000}))
    until(lambda: place.store.get("me", job.id).progress.phase == "training", 60)
    place.store.cancel("me", job.id)
    place.runner.nudge()
    assert ended(place.store, job).state is State.CANCELLED
    assert [entry.name for entry in place.models.list()] == ["base"]


def test_a_paused_job_goes_on(place: Place) -> None:
    job = submit(
        place.store, asked(place.upload(), "lp_ft", parameters={"epochs": 15, "patience": 1000, "batch_size": 4})
    )
    until(lambda: place.store.get("me", job.id).progress.phase == "training", 60)
    place.store.pause("me", job.id)
    place.runner.nudge()
    until(lambda: place.store.get("me", job.id).state is State.PAUSED, 30)
    place.store.resume("me", job.id)
    place.runner.nudge()
    done = ended(place.store, job, 120)
    assert done.state is State.SUCCEEDED
    assert done.attempt == 2


def test_data_sets_by_uri_where_the_operator_allows_them(place: Place, tmp_path: Path) -> None:
    for path, content in two_colours().items():
        (tmp_path / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / path).write_bytes(content)
    spec = asked(f"file://{tmp_path}/images")
    allowed = replace(place.catalogue, schemes=frozenset({"file"}))
    requests.new_job(pb.CreateJobRequest(spec=spec), allowed)
    assert place.run(spec).result.summary["accuracy"] == 1.0
    missing = ended(place.store, submit(place.store, asked(f"file://{tmp_path}/nothing")), 60)
    assert missing.error is not None
    assert (missing.error.failure_class, missing.error.field) == (Class.USER, "dataset")


def test_the_service_loads_no_torch_for_it() -> None:
    program = "import sys, ouzel.worker.server, ouzel.worker.kinds as k; k.find('finetune'); "
    program += "print(sorted({'torch', 'numpy', 'PIL', 'matplotlib', 'fsspec'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
