"""Jobs with a gate, and repairs: refused in the service, held back, killed and resumed."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from ouzel import models
from ouzel.errors import AlreadyExists, InvalidArgument, NotFound
from ouzel.finetune import Split
from ouzel.forking.client import ForkServer
from ouzel.worker.api import requests
from ouzel.worker.kinds import grounding
from ouzel.worker.store.job import Job, State
from ouzel_protos.v1 import dataset_pb2
from ouzel_protos.v1 import job_pb2 as pb
from support.audited import pictures
from support.datasets import entries, stored
from support.jobs import ended, submit, until
from worker.test_finetune import Place, asked

GATED = {"promote": pb.FinetuneSpec.IF_GROUNDED}
QUICK = {"parameters": {"held_out": 0.5}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, forks: ForkServer) -> Iterator[Place]:
    with closing(Place(tmp_path_factory.mktemp("grounding"), tiny_base, forks)) as made:
        yield made


def drawn(place: Place, *, mixed: bool = False, masked: bool = True, count: int = 20, seed: int = 0) -> str:
    """Id of a data set of ellipses on backgrounds, of their own class or of all in turn."""
    shown = pictures(count, seed, mixed=mixed)
    files = {f"{each.label}/{each.name}.png": each.png() for each in shown}
    masks = {}
    for each in shown:
        out = io.BytesIO()
        Image.fromarray(np.where(each.mask, 255, 0).astype(np.uint8)).save(out, "PNG")
        masks[f"{each.label}/{each.name}.png"] = out.getvalue()
    return stored(place.datasets, "me", files, masks=masks if masked else None).id


@pytest.fixture(scope="module")
def matched(place: Place) -> str:
    return drawn(place)


@pytest.fixture(scope="module")
def tuned(place: Place, matched: str) -> str:
    """Name of a model that has learnt from pictures whose background tells the class."""
    place.run(asked(matched, name="matched", **QUICK))
    return "matched"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({**GATED, "accuracy_margin": 0.6}, "accuracy_margin"),
        ({**GATED, "accuracy_margin": -0.1}, "accuracy_margin"),
        ({**GATED, "reliance_margin": float("nan")}, "reliance_margin"),
        ({**GATED, "reliance_margin": 2.0}, "reliance_margin"),
        ({"accuracy_margin": 0.1}, "accuracy_margin"),
        ({"reliance_margin": 0.1}, "reliance_margin"),
        ({"scenes": ["cow"]}, "scenes"),
        ({**GATED, "scenes": ["beach"]}, "scenes[0]"),
        ({**GATED, "scenes": ["cow", "cow"]}, "scenes[1]"),
        ({"recipe": "debias", "accuracy_margin": 0.1, "base": "matched"}, "accuracy_margin"),
        ({"recipe": "debias", "parameters": {"epochs": 3}, "base": "matched"}, "parameters.epochs"),
        ({"recipe": "debias", "parameters": {"per_class": 7}, "base": "matched"}, "parameters.per_class"),
        ({"recipe": "debias", "parameters": {"heads": 0}, "base": "matched"}, "parameters.heads"),
        ({"recipe": "debias", "parameters": {"sparse": 1}, "base": "matched"}, "parameters.sparse"),
        ({"recipe": "debias_all", "parameters": {"epochs": 0}, "base": "matched"}, "parameters.epochs"),
        ({"recipe": "debias", "image_size": 64, "base": "matched"}, "image_size"),
        ({"recipe": "debias"}, "dataset"),  # the base has learnt other classes
    ],
)
def test_what_cannot_work_is_refused_at_once(place: Place, matched: str, tuned: str, change: dict, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        requests.new_job(pb.CreateJobRequest(spec=asked(matched, **change)), place.catalogue)
    assert caught.value.field == field


@pytest.mark.parametrize(("change", "field"), [(GATED, "promote"), ({"recipe": "debias", "base": "matched"}, "recipe")])
def test_without_masks_there_is_no_gate_and_no_repair(place: Place, tuned: str, change: dict, field: str) -> None:
    dataset = drawn(place, masked=False)
    with pytest.raises(InvalidArgument, match="needs masks or boxes of the objects") as caught:
        requests.new_job(pb.CreateJobRequest(spec=asked(dataset, **change)), place.catalogue)
    assert caught.value.field == field


def test_a_folder_elsewhere_has_no_masks(place: Place) -> None:
    allowed = replace(place.catalogue, schemes=frozenset({"file"}))
    with pytest.raises(InvalidArgument, match="only uploaded data sets") as caught:
        requests.new_job(pb.CreateJobRequest(spec=asked("file:///data/x", **GATED)), allowed)
    assert caught.value.field == "promote"


def test_held_out_images_without_masks_are_no_test(place: Place) -> None:
    shown = pictures(4)
    files = {f"{part}/{each.label}/{each.name}.png": each.png() for each in shown for part in ("train", "test")}
    made = entries(files)
    for entry in made:
        entry.split = entry.path.partition("/")[0]
        if entry.split == "train":
            entry.boxes.append(dataset_pb2.Box(right=9, bottom=9))
    stored(place.datasets, "me", files)
    dataset = place.datasets.create("me", "", made).id
    with pytest.raises(InvalidArgument, match="none of those in test has one") as caught:
        requests.new_job(pb.CreateJobRequest(spec=asked(dataset, **GATED)), place.catalogue)
    assert caught.value.field == "promote"


def test_a_repair_needs_an_object_of_each_class(place: Place, tuned: str) -> None:
    shown = pictures(4)
    files = {f"{each.label}/{each.name}.png": each.png() for each in shown}
    masks = {path: content for path, content in files.items() if not path.startswith("cow/")}
    dataset = stored(place.datasets, "me", files, masks=masks).id
    with pytest.raises(InvalidArgument, match="no image of 'cow'") as caught:
        requests.new_job(pb.CreateJobRequest(spec=asked(dataset, "debias", base=tuned)), place.catalogue)
    assert caught.value.field == "dataset"


def test_the_name_of_an_operators_model_stays_the_operators(place: Place, matched: str) -> None:
    with pytest.raises(AlreadyExists):
        requests.new_job(pb.CreateJobRequest(spec=asked(matched, name="base", **GATED)), place.catalogue)


def test_too_few_held_out_images_end_the_job_before_it_trains(place: Place, matched: str, tuned: str) -> None:
    job = ended(place.store, submit(place.store, asked(matched, name=tuned, **GATED, **QUICK)), 120)
    assert job.error is not None
    assert (job.error.failure_class, job.error.field) == (pb.JobError.USER, "accuracy_margin")
    assert "0.02 cannot be shown with 30 held-out images: 217 are needed" in job.error.message
    assert [each.version for each in place.models.of(tuned)] == ["1"]


def test_a_default_of_other_classes_is_refused_before_anything_is_trained(place: Place) -> None:
    spec = asked("0" * 64, **GATED).finetune
    told = SimpleNamespace(audits={})
    audits = grounding.Audits(spec, SimpleNamespace(), Split((), (), ()), told)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=r"default base@.*, which tells other classes apart: 'cow'") as caught:
        audits.check(models.load(place.models.find("base")), {"a", "b", "c", "d", "cow"})
    assert caught.value.field == "promote"


def logs(place: Place, job: Job) -> list[str]:
    return [each.log.message for each in place.store.events("me", job.id, 0, 10_000) if each.HasField("log")]


def test_the_entry_of_a_gate_has_room_for_any_number_of_classes() -> None:
    gate = {"scenes": [f"a scene of {number} words or more" for number in range(2000)], "checks": [{"worse": ["a"]}]}
    told = grounding.shortened({"gate": gate})
    assert told["gate"]["checks"] == gate["checks"]
    assert told["gate"]["scenes"]["values"] == 2000
    assert len(json.dumps(told)) < 1000


def test_a_first_version_that_rests_on_backgrounds_is_no_default(place: Place, matched: str) -> None:
    done = place.run(asked(matched, name="lone", **GATED, **QUICK))
    gate = json.loads(place.file(done, "report.json"))["gate"]
    assert (gate["passed"], gate["against"], done.result.summary["promoted"]) == (False, "", False)
    assert {each["name"]: each["passed"] for each in gate["checks"]}["reliance"] is False
    assert done.result.summary["gate"]["reason"] == gate["reason"]
    page = place.file(done, "report.html").decode()
    assert "Not passed" in page
    assert "The name has no default" in page
    names = {each.name for each in place.store.artifacts("me", done.id)}
    assert {"gate/00-seen.png", "gate/00-turned.png"} <= names
    lineage = models.load(place.models.find("lone@1")).card["lineage"]
    assert lineage["gate"]["checks"] == gate["checks"]
    assert lineage["promote"] == "if_grounded"
    entry = json.loads(place.file(done, "ledger/entry.json"))
    facts = entry["facts"]
    assert entry["kind"] == "gate"
    assert (facts["job"], facts["name"], facts["gate"]) == (done.id, "lone", lineage["gate"])
    assert facts["digest"] == done.result.summary["digest"]
    with pytest.raises(NotFound, match="no version of 'lone' is the default"):
        place.models.file("lone")
    with pytest.raises(NotFound, match="lone@1"):
        place.catalogue.model("lone")
    assert place.catalogue.model("lone@1").labels == ("cow", "goat", "sheep")


PARAMETERS = {"held_out": 0.5, "heads": 2, "per_class": 40}


def test_a_repair_that_is_killed_goes_on_to_the_same(place: Place, matched: str, tuned: str) -> None:
    """Killed while it trains, and while it audits; all layers, which takes the most steps."""
    more = {"epochs": 2, "batch_size": 8}
    spec = {"recipe": "debias_all", "base": tuned, "parameters": PARAMETERS | more}
    alone = place.run(asked(matched, name="alone", **GATED, reliance_margin=0.3, **spec))
    job = submit(place.store, asked(matched, name="killed", **GATED, reliance_margin=0.3, **spec))
    for phase in ("training", "auditing the base"):

        def there(phase: str = phase) -> bool:
            current = place.store.get("me", job.id)
            return current.state is State.SUCCEEDED or (
                current.state is State.RUNNING and current.progress.phase == phase and current.progress.step >= 3
            )

        until(there, 90)
        held = place.store.leases()
        assert held
        assert held[0].handle
        psutil.Process(int(held[0].handle.split("/")[1])).kill()
    done = ended(place.store, job, 120)
    assert done.state is State.SUCCEEDED, done.error
    assert done.attempt == 3
    assert len(place.models.of("killed")) == 1
    first, second = (models.load(place.models.find(f"{name}@1")).network.state_dict() for name in ("alone", "killed"))
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)
    told = [dict(each.result.summary) for each in (alone, done)]
    assert told[0]["repair"] == told[1]["repair"]
    assert told[0]["gate"] == told[1]["gate"]
    _is_on_record(place, done, told[1]["repair"])


def _is_on_record(place: Place, done: Job, figures: object) -> None:
    report = json.loads(place.file(done, "report.json"))
    assert report["repair"] == figures
    lineage = report["lineage"]
    assert lineage["pictures"] == {"train": 120, "validation": 60}
    assert lineage["parameters"].items() >= PARAMETERS.items()
    assert (lineage["recipe"], lineage["gate"]["reliance_margin"]) == ("debias_all", 0.3)
    assert 'id="repair"' in place.file(done, "report.html").decode()


def test_a_cancelled_repair_publishes_nothing(place: Place, matched: str, tuned: str) -> None:
    job = submit(place.store, asked(matched, "debias", base=tuned, name="never", parameters=PARAMETERS))
    until(lambda: place.store.get("me", job.id).progress.phase == "auditing the base", 90)
    place.store.cancel("me", job.id)
    place.runner.nudge()
    assert ended(place.store, job).state is State.CANCELLED
    assert "never" not in {entry.name for entry in place.models.list()}
