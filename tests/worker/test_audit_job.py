"""Audits of data sets as jobs: refused in the service, run in a process, also on recorded predictions alone."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from ouzel.audit import AnswerMaps, Source, View
from ouzel.audit.dataset import DatasetDesign, Example
from ouzel.errors import InvalidArgument, NotFound, OuzelError, Unavailable
from ouzel.forking.client import ForkServer
from ouzel.ledger import verify_proof
from ouzel.worker.api import requests
from ouzel.worker.kinds import audit, audit_sources
from ouzel.worker.processes.job_process import failure_of
from ouzel_protos.recipes import AUDIT_LIMITS
from ouzel_protos.v1 import audit_pb2, explain_pb2
from ouzel_protos.v1 import job_pb2 as pb
from support.datasets import coloured, stored
from support.jobs import ended, submit
from worker.test_finetune import Place, value

SEEN = pb.RecordedPrediction(path="red/0.png", label="red", service="theirs")
STRAY = pb.RecordedPrediction(path="green/0.png", label="x")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, forks: ForkServer) -> Iterator[Place]:
    with closing(Place(tmp_path_factory.mktemp("audits"), tiny_base, forks)) as made:
        yield made


@pytest.fixture(scope="module")
def dataset(place: Place) -> str:
    return place.upload()


def asked(dataset: str, parameters: dict[str, float | bool] | None = None, **more: object) -> pb.JobSpec:
    values = {key: value(each) for key, each in (parameters or {}).items()}
    source = {} if {"model", "endpoint", "recorded"} & more.keys() else {"model": "base"}
    return pb.JobSpec(audit=pb.AuditSpec(dataset=dataset, parameters=values, **source, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "error", "field"),
    [
        ({"model": "bas"}, NotFound, "model"),
        ({"model": "base", "model_digest": "sha256:1"}, OuzelError, "model_digest"),
        ({"model": "base", "surrogate": "base"}, InvalidArgument, "surrogate"),
        ({"endpoint": "http://169.254.169.254/"}, NotFound, "endpoint"),
        ({"endpoint": "theirs"}, NotFound, "endpoint"),
        ({"recorded": [SEEN]}, InvalidArgument, "source"),
        ({"recorded": [SEEN], "surrogate": "other"}, NotFound, "surrogate"),
        ({"recorded": [SEEN, SEEN], "surrogate": "base"}, InvalidArgument, "recorded[1].path"),
        ({"recorded": [pb.RecordedPrediction(label="red")], "surrogate": "base"}, InvalidArgument, "recorded[0].path"),
        ({"recorded": [pb.RecordedPrediction(path="a")], "surrogate": "base"}, InvalidArgument, "recorded[0].label"),
        (
            {"recorded": [pb.RecordedPrediction(path="a", label="b", service="c" * 201)], "surrogate": "base"},
            InvalidArgument,
            "recorded[0].service",
        ),
        ({"parameters": {"flip": 0.0}}, InvalidArgument, "parameters.flip"),
        ({"parameters": {"flip": float("nan")}}, InvalidArgument, "parameters.flip"),
        ({"parameters": {"clusters": 1}}, InvalidArgument, "parameters.clusters"),
        ({"parameters": {"suspects": 65}}, InvalidArgument, "parameters.suspects"),
        ({"parameters": {"margin": 1}}, InvalidArgument, "parameters.margin"),
        ({"fills": ["blur", "blur"]}, InvalidArgument, "fills"),
        ({"fills": ["grass"]}, InvalidArgument, "fills"),
        ({"scenes": ["a", "a"]}, InvalidArgument, "scenes"),
        ({"scenes": ["a", "unicorn"]}, InvalidArgument, "scenes[1]"),
        (
            {"recorded": [pb.RecordedPrediction(path="../etc", label="a")], "model": "base"},
            InvalidArgument,
            "recorded[0].path",
        ),
        ({"seed": -1}, InvalidArgument, "seed"),
        ({"seed": 2**31}, InvalidArgument, "seed"),
        ({"method": "grad_camm"}, InvalidArgument, "method"),
        ({"contact": audit_pb2.AuditContact(contact="x" * 501)}, InvalidArgument, "contact.contact"),
    ],
)
def test_what_can_never_work_is_refused(place: Place, dataset: str, change: dict, error: type, field: str) -> None:
    with pytest.raises(error) as caught:
        requests.new_job(pb.CreateJobRequest(spec=asked(dataset, **change)), place.catalogue)
    assert caught.value.field == field


def test_an_unknown_data_set_is_refused(place: Place) -> None:
    with pytest.raises(NotFound) as caught:
        requests.new_job(pb.CreateJobRequest(spec=asked("0" * 64)), place.catalogue)
    assert caught.value.field == "dataset"


def test_the_digest_of_the_model_becomes_part_of_the_job(place: Place, dataset: str) -> None:
    new = requests.new_job(pb.CreateJobRequest(spec=asked(dataset)), place.catalogue)
    assert new.spec.audit.model_digest == place.catalogue.model("base").digest


@pytest.mark.parametrize("bound", ["least", "most"])
def test_the_limits_of_the_wire_are_those_of_the_library(bound: str) -> None:
    """Each bound is taken, and what is just beyond it is refused by the library as well."""
    for name, allowed in AUDIT_LIMITS.items():
        if allowed.kind is bool:
            continue
        edge = getattr(allowed, bound)
        audit.design_of(pb.AuditSpec(parameters={name: value(allowed.kind(edge))}))
        step = 1 if allowed.kind is int else 1e-6
        beyond = edge + (step if bound == "most" else -step)
        with pytest.raises(InvalidArgument):
            audit.design_of(pb.AuditSpec(parameters={name: explain_pb2.Parameter(number=beyond)}))


def test_the_defaults_are_those_of_the_library() -> None:
    assert audit.design_of(pb.AuditSpec()) == DatasetDesign()


def test_an_audit_of_images_without_masks_tells_no_verdict(place: Place, dataset: str) -> None:
    labels = place.catalogue.model("base").labels
    recorded = [pb.RecordedPrediction(path=f"red/{n}.png", label=labels[0], service="=theirs()") for n in range(3)]
    done = place.run(asked(dataset, {"suspects": 2}, recorded=recorded, model="base"))
    record = json.loads(place.file(done, "audit.json"))
    assert record["evidence"]["overall"]["verdict"] in ("inconclusive", "disagrees")
    assert record["evidence"]["design_sha256"] == DatasetDesign(suspects=2).sha256()
    entry = json.loads(place.file(done, "ledger/entry.json"))
    files = {name: hashlib.sha256(place.file(done, name)).hexdigest() for name in ("audit.json", "bundle.zip")}
    assert (entry["kind"], entry["facts"]["files"], entry["facts"]["job"]) == ("audit", files, done.id)
    assert entry["facts"]["design_sha256"] == DatasetDesign(suspects=2).sha256()
    proof = place.file(done, "ledger/entry.tlog-proof").decode()
    verify_proof(proof, place.file(done, "ledger/entry.json"), place.ledger_key())
    rows = list(csv.DictReader(io.StringIO(place.file(done, "predictions.csv").decode())))
    assert [row["name"] for row in rows] == [f"red/{n}.png" for n in range(3)]
    assert {row["service"] for row in rows} == {"'=theirs()"}
    with zipfile.ZipFile(io.BytesIO(place.file(done, "decisions.zip"))) as pages:
        assert len(pages.namelist()) == 3
    logs = [each.log.message for each in place.store.events("me", done.id, 0, 1000) if each.HasField("log")]
    assert any(DatasetDesign(suspects=2).sha256() in line for line in logs)


def test_recorded_predictions_alone_are_weaker_evidence(place: Place, dataset: str) -> None:
    labels = place.catalogue.model("base").labels
    recorded = [pb.RecordedPrediction(path=f"blue/{n}.png", label=labels[1]) for n in range(3)]
    done = place.run(asked(dataset, recorded=recorded, surrogate="base"))
    record = json.loads(place.file(done, "audit.json"))["evidence"]
    assert record["mode"] == "table"
    assert record["overall"]["verdict"] in ("inconclusive", "disagrees")
    assert any("eaker" in limit for limit in record["limits"])


def test_recorded_predictions_of_other_images_end_the_job(place: Place, dataset: str) -> None:
    """Of a data set by URI nobody knows that before."""
    done = ended(place.store, submit(place.store, asked(dataset, recorded=[STRAY], model="base")), 120)
    assert done.error is not None
    assert (done.error.field, "green/0.png" in done.error.message) == ("recorded", True)


def test_an_image_that_cannot_be_read_keeps_its_row(place: Place) -> None:
    """Nobody who counts the rows misses it."""
    files = {f"{label}/{n}.png": coloured(n, 7) for n, label in enumerate(("a", "b"))} | {"a/broken.png": b"no image"}
    spec = asked(stored(place.datasets, "me", files).id, {"suspects": 0, "clusters": False})
    done = place.run(spec)
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(place.file(done, "predictions.csv").decode()))}
    assert rows.keys() == files.keys()
    assert rows["a/broken.png"]["verdict"] == "refused"
    assert json.loads(place.file(done, "audit.json"))["evidence"]["overall"]["refused"] == 1
    assert "decisions.zip" not in {each.name for each in place.store.artifacts("me", done.id)}


def test_if_nothing_can_be_audited_the_job_fails(place: Place, dataset: str) -> None:
    recorded = [pb.RecordedPrediction(path="red/0.png", label="unicorn")]
    done = ended(place.store, submit(place.store, asked(dataset, recorded=recorded, model="base")), 120)
    assert done.error is not None
    assert "unicorn" in done.error.message


def test_a_service_that_does_not_answer_is_named_in_the_jobs_error() -> None:
    """It is tried again as after a lost machine, and not taken for the job store."""

    class Silent:
        """Fakes an endpoint."""

        source, labels, view = Source("endpoint", "theirs"), ("a", "b"), View((32, 32))

        def __call__(self, pictures: object) -> None:
            raise Unavailable("endpoint 'theirs': did not answer within 5 s")

    class Told(SimpleNamespace):
        """Fakes what hears of an audit."""

        def __call__(self, event: object) -> None:
            pass

    silent = Silent()
    sources = audit_sources.Sources(silent, AnswerMaps(silent), None, ExitStack())  # type: ignore[arg-type]
    told = Told(resumed=None, design=DatasetDesign(), context=SimpleNamespace(stop_wanted=lambda: False))
    examples = [Example(f"{n}.png", "a", lambda n=n: coloured(n % 3, n)) for n in range(3)]
    with pytest.raises(audit.SourceUnavailable) as caught:
        audit._evidence(sources, examples, told)  # type: ignore[arg-type]
    assert not isinstance(caught.value, Unavailable)
    failure = failure_of(caught.value)
    assert failure.error.failure_class == pb.JobError.INFRASTRUCTURE
    assert "theirs" in failure.error.message
