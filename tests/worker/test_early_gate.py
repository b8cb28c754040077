"""Jobs that publish twice behind the gate, which decides on each of the two versions."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from PIL import Image

from ouzel import models
from ouzel.errors import NotFound
from ouzel.forking.client import ForkServer
from ouzel.worker.store.job import Job, State
from ouzel_protos.v1 import job_pb2 as pb
from support.datasets import entries, send
from support.tuning import Place
from worker.test_early import asked, killed, recorded, same, told, waves, weights

WIDE = {"accuracy_margin": 0.5, "reliance_margin": 1.0}  # that twenty images can show


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, forks: ForkServer) -> Iterator[Place]:
    with closing(Place(tmp_path_factory.mktemp("early_gate"), tiny_base, forks)) as made:
        yield made


def uploaded(place: Place, radius: int, *, behind: bool = False) -> str:
    """Id of a data set of discs with waves that tell the class. behind: the background has them, the disc noise."""
    rows, columns = np.mgrid[:40, :40]
    disc = (rows - 19.5) ** 2 + (columns - 19.5) ** 2 <= radius**2
    mask, files = png(np.where(disc, 255, 0)), {}
    for part, count in (("train", 14), ("validation", 10), ("test", 10)):
        for number in range(2 * count):
            label, seed = number % 2, 1000 * len(part) + number
            shown = np.asarray(Image.open(io.BytesIO(waves(label, seed))))
            noise = np.random.default_rng([7, seed]).normal(128, 80, shown.shape).clip(0, 255)
            files[f"{part}/{('across', 'down')[label]}/{number}.png"] = png(
                np.where((disc ^ behind)[..., None], shown, noise)
            )
    made = entries(files, dict.fromkeys(files, mask))
    for entry in made:
        entry.split = entry.path.partition("/")[0]
    send(place.datasets, "me", {mask, *files.values()})
    return place.datasets.create("me", "", made).id


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def gated(dataset: str, **more: Any) -> pb.JobSpec:
    return asked(dataset, **{"promote": pb.FinetuneSpec.IF_GROUNDED, **WIDE, **more})


def summary(job: Job) -> dict[str, Any]:
    return MessageToDict(job.result.summary)


def auditing(phase: str, attempt: int) -> Any:
    return lambda job: job.attempt == attempt and job.state is State.RUNNING and job.progress.phase == phase


@pytest.fixture(scope="module")
def dataset(place: Place) -> str:
    return uploaded(place, 18)


@pytest.fixture(scope="module")
def interrupted(place: Place, dataset: str) -> Job:
    """A job that was killed while each of its versions was audited."""
    moments = [
        auditing("auditing the first version", 1),
        auditing("auditing the new version", 2),
    ]
    return killed(place, gated(dataset, name="kept"), moments)


def test_each_version_passes_the_gate_before_it_is_the_default(place: Place, interrupted: Job) -> None:
    facts = summary(interrupted)
    early = facts["early"]
    assert early["first"]["accuracy"] < early["later"]["accuracy"], "the test needs images that the head does not know"
    assert [(each["version"], each["promoted"]) for each in (early["first"], early["later"])] == [
        ("1", True),
        ("2", True),
    ]
    assert (early["first"]["gate"]["passed"], early["first"]["gate"]["against"]) == (True, "")
    assert (facts["gate"]["passed"], facts["gate"]["against"], facts["promoted"]) == (True, "kept@1", True)
    steps = [step for n in "12" for step in (("gate", None), ("publication", n), ("promotion", n))]
    assert recorded(place, interrupted) == steps
    assert [(each.version, each.promoted) for each in told(place, interrupted)] == [("1", True), ("2", True)]
    for version, folder in (("1", "ledger/first"), ("2", "ledger")):
        lineage = models.load(place.models.find(f"kept@{version}")).card["lineage"]
        entry = json.loads(place.file(interrupted, f"{folder}/entry.json"))["facts"]
        assert (entry["job"], entry["gate"]) == (interrupted.id, lineage["gate"])
        assert entry["digest"] == early["first" if version == "1" else "later"]["digest"]
    page = place.file(interrupted, "report.html").decode()
    assert page.index('id="early"') < page.index('id="gate"')


def test_a_first_version_that_is_held_back_is_not_what_the_second_is_compared_with(
    place: Place, dataset: str, interrupted: Job
) -> None:
    """The default is from before: as right as all layers come to, which is more than the head alone is."""
    done = place.run(gated(dataset, name="kept", accuracy_margin=0.3))
    facts = summary(done)
    first = facts["early"]["first"]
    assert (first["version"], first["promoted"], first["gate"]["passed"]) == ("3", False, False)
    assert (facts["version"], facts["promoted"], facts["gate"]["passed"]) == ("4", True, True)
    assert first["gate"]["against"] == facts["gate"]["against"] == facts["served_model"] == "kept@2"
    assert recorded(place, done) == [
        ("gate", None),
        ("publication", "3"),
        ("gate", None),
        ("publication", "4"),
        ("promotion", "4"),
    ]
    assert place.models.default("kept") == "4"
    for interrupted_one, whole in (("1", "3"), ("2", "4")):
        assert same(weights(place, f"kept@{interrupted_one}"), weights(place, f"kept@{whole}"))


def test_neither_is_the_default_if_both_rest_on_backgrounds(place: Place) -> None:
    done = place.run(gated(uploaded(place, 10, behind=True), name="lone", reliance_margin=0.3))
    facts = summary(done)
    gates = [facts["gate"], facts["early"]["first"]["gate"]]
    assert [(each["passed"], each["against"]) for each in gates] == [(False, "")] * 2
    assert {(each.number, each.promoted) for each in told(place, done)} <= {(1, False), (2, False)}
    assert not facts["promoted"]
    assert "Not passed" in place.file(done, "report.html").decode()
    with pytest.raises(NotFound, match="no version of 'lone' is the default"):
        place.models.file("lone")
