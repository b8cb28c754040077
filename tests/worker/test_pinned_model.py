"""A job runs with the model that it was checked with, or not at all."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from pathlib import Path

import pytest
import torch

from ouzel import models
from ouzel.errors import FailedPrecondition
from ouzel.forking.client import ForkServer
from ouzel.models import archive
from ouzel.models.card import Card
from ouzel.models.store import ModelStore
from ouzel.worker.api import requests
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.isolated import Isolated
from ouzel.worker.processes.local_executor import LocalExecutor
from ouzel.worker.runner.runner import Runner
from ouzel.worker.runner.supervisor import Slot
from ouzel.worker.store.job import Job, NewJob, State
from ouzel.worker.store.open import open_store
from ouzel_protos.v1 import explain_pb2
from ouzel_protos.v1 import job_pb2 as pb
from support import tuned
from support.jobs import QUICK, ended, environment

NODE = pb.Node(logit=explain_pb2.ClassRef(label="bird"))
STEPS = {"steps": explain_pb2.Parameter(integer=2)}
MAXIMIZE = pb.JobSpec(maximize=pb.MaximizeSpec(model="tuned", targets=[NODE], parameters=STEPS))
SEARCH = pb.JobSpec(search_activations=pb.SearchActivationsSpec(model="tuned", targets=[NODE], top_k=1))


class Place:
    """ann's model "tuned", a worker's store, and its catalogue as ann sees it."""

    def __init__(self, folder: Path, forks: ForkServer) -> None:
        self.folder, self.forks = folder, forks
        self.models = ModelStore(folder / "models")
        self.version = tuned.publish(self.models, "job-1", seed=1)
        self.catalogue = Catalogue(self.models.folder, folder / "cache", isolated=Isolated(forks)).seen_by("ann")

    def new(self, spec: pb.JobSpec) -> NewJob:
        return requests.new_job(pb.CreateJobRequest(spec=spec), self.catalogue)

    def run(self, new: NewJob) -> Job:
        url = f"sqlite://{self.folder / 'jobs.db'}"
        with closing(open_store(url)) as store:
            job = store.create("ann", new)
            told = environment(url, self.folder)
            slots = [Slot("cpu", {"OMP_NUM_THREADS": "1"})]
            runner = Runner(store, LocalExecutor(self.folder / "logs", self.forks), slots, told, options=QUICK)
            runner.start()
            try:
                return ended(store, job, 120)
            finally:
                runner.stop()


@pytest.fixture
def place(tmp_path: Path, forks: ForkServer) -> Place:
    return Place(tmp_path, forks)


def test_the_digest_is_filled_in(place: Place) -> None:
    digest = place.models.file("tuned").digest
    for spec in (MAXIMIZE, SEARCH):
        new = place.new(spec)
        assert getattr(new.spec, new.kind).model_digest == digest
        assert not getattr(spec, new.kind).model_digest  # the request stays what it was


def test_a_repeated_request_is_the_same_whatever_was_filled_in(place: Place) -> None:
    request = pb.CreateJobRequest(spec=MAXIMIZE, request_id="once")
    with closing(open_store(place.folder / "jobs.db")) as store:
        first = store.create("ann", requests.new_job(request, place.catalogue))
        place.models.remove(f"tuned@{place.version}")
        tuned.publish(place.models, "job-2", seed=2)
        assert store.create("ann", requests.new_job(request, place.catalogue)).id == first.id


@pytest.mark.parametrize("spec", [MAXIMIZE, SEARCH], ids=["maximize", "search_activations"])
def test_other_weights_than_those_asked_for_are_refused_at_once(place: Place, spec: pb.JobSpec) -> None:
    wrong = pb.JobSpec()
    wrong.CopyFrom(spec)
    getattr(wrong, wrong.WhichOneof("kind")).model_digest = "sha256:0"
    with pytest.raises(FailedPrecondition, match=r"^model_digest: 'tuned' has the weights sha256:") as caught:
        place.new(wrong)
    assert caught.value.field == "model_digest"


@pytest.mark.parametrize("spec", [MAXIMIZE, SEARCH], ids=["maximize", "search_activations"])
def test_replaced_by_another_owner(place: Place, spec: pb.JobSpec) -> None:
    """Even with the same weights: bob's model is not ann's to look into."""
    new = place.new(spec)
    place.models.remove(f"tuned@{place.version}")
    tuned.publish(place.models, "job-2", seed=1, owner="bob")
    job = place.run(new)
    assert (job.state, job.error.failure_class, job.error.field) == (State.FAILED, pb.JobError.USER, "model")
    assert job.error.message == "model: no model 'tuned' any more"


@pytest.mark.parametrize("spec", [MAXIMIZE, SEARCH], ids=["maximize", "search_activations"])
def test_replaced_by_the_operator(place: Place, spec: pb.JobSpec) -> None:
    """With other weights: the job would tell of another model."""
    new = place.new(spec)
    before = place.models.file("tuned").digest
    place.models.remove(f"tuned@{place.version}")
    with torch.random.fork_rng():
        torch.manual_seed(2)
        state = models.build(tuned.ARCH, num_classes=len(tuned.LABELS)).state_dict()
    card = Card("tuned", "1", tuned.ARCH, tuned.LABELS, models.default_preprocessing(tuned.ARCH))
    archive.write(card, state, place.models.folder / "tuned.mar")
    after = place.models.file("tuned")
    assert (after.lineage, after.digest != before) == (None, True)
    job = place.run(new)
    assert (job.state, job.error.failure_class, job.error.field) == (State.FAILED, pb.JobError.USER, "model")
    assert job.error.message == (
        f"model: 'tuned' has the weights {after.digest}, not {before} as when the job was submitted"
    )


def test_another_default_does_not_disturb_a_job(place: Place) -> None:
    """The version that was checked is still there."""
    new = place.new(MAXIMIZE)
    before = place.models.file("tuned").digest
    place.models.promote("tuned", tuned.publish(place.models, "job-2", seed=2))
    assert place.models.file("tuned").digest != before
    job = place.run(new)
    assert job.state is State.SUCCEEDED, job.error
    assert job.result is not None
    assert job.result.summary["digest"] == before


def test_a_job_of_before_runs_with_what_there_is(place: Place) -> None:
    """Jobs that were accepted by an older worker carry no digest."""
    job = place.run(dataclasses.replace(place.new(MAXIMIZE), spec=MAXIMIZE))
    assert job.state is State.SUCCEEDED, job.error
