"""ModelService in a real worker, beside a real TorchServe."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from safetensors.torch import save_file

from ouzel import models, serving
from ouzel.errors import InvalidArgument, NotFound
from ouzel.models import archive
from ouzel.models.store import ModelStore
from ouzel.serving import Ports, RunningServing, ServingOptions
from ouzel.torchserve import publication, rest
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.options import WorkerOptions
from ouzel_protos.v1 import explain_pb2
from ouzel_protos.v1 import job_pb2 as jobs
from ouzel_protos.v1 import model_pb2 as pb
from ouzel_protos.v1.model_pb2_grpc import ModelServiceStub
from support.jobs import Worker, count, worker
from support.looking import Here, look
from support.stub_kinds.maximize import Fault
from support.tuned import ARCH, LABELS, publish

Code = grpc.StatusCode
BOB = "bob-has-a-long-token"


@dataclass
class Site:
    """A store with the operator's `tiny`, two versions of `tuned` of the local user, and bob's `bobs`."""

    folder: Path

    def __post_init__(self) -> None:
        self.store = ModelStore(self.folder / "store")
        with torch.random.fork_rng():
            save_file(models.build(ARCH, num_classes=len(LABELS)).state_dict(), self.folder / "tiny.safetensors")
        archive.create("tiny", ARCH, self.folder / "tiny.safetensors", LABELS, self.store.folder)
        for seed in (1, 2):
            publish(self.store, f"job {seed}", seed, owner="local")
        publish(self.store, "job 3", 3, "bobs", owner="bob")
        (self.folder / "tokens").write_text(f"bob {BOB}\n")
        self.state = self.folder / "state"

    def worker(self, *options: str, real: bool = False) -> Any:
        words = ["--tokens", str(self.folder / "tokens"), "--store", str(self.store.folder), *options]
        if not real:
            look(self.store.folder, self.state)
        return worker(f"sqlite://{self.state / 'jobs.db'}", self.state, *words, real=real)

    def serving(self) -> Any:
        return serving.start(
            ServingOptions(
                store=self.store.folder, models=("tiny", "tuned"), state=self.state, ports=Ports.free(), threads=1
            )
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Worker]]:
    """For tests that change nothing; no TorchServe runs."""
    site = Site(tmp_path_factory.mktemp("models"))
    with site.worker(real=True) as running:
        yield site, running


def call(service: Worker, name: str, request: Any, token: str = "") -> Any:
    metadata = (("authorization", f"Bearer {token or service.token}"),)
    return getattr(ModelServiceStub(service.channel), name)(request, metadata=metadata, timeout=120)


def refused(function: Callable[..., object], *arguments: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        function(*arguments)
    return caught.value.code(), caught.value.details()


def listed(service: Worker, token: str = "", name: str = "") -> list[tuple[str, str, bool, bool]]:
    answer = call(service, "ListModels", pb.ListModelsRequest(name=name), token)
    return [(each.name, each.version, each.is_default, each.served) for each in answer.models]


def test_everybody_sees_what_is_theirs_and_the_operators(shared: tuple[Site, Worker]) -> None:
    site, service = shared
    mine = [("tiny", "1", True, False), ("tuned", "1", True, False), ("tuned", "2", False, False)]
    assert listed(service) == mine
    assert listed(service, BOB) == [("bobs", "1", True, False), mine[0]]
    assert listed(service, name="tuned") == mine[1:]
    assert listed(service, BOB, "tuned") == listed(service, name="none") == []
    (model,) = call(service, "ListModels", pb.ListModelsRequest(name="bobs"), BOB).models
    (entry,) = site.store.versions("bobs")
    assert (model.arch, model.digest, model.size, model.classes) == (ARCH, entry.digest, entry.size, len(LABELS))
    assert (
        json_format.MessageToDict(model.lineage) == entry.lineage == {"owner": "bob", "base": "tuned", "job": "job 3"}
    )
    assert not call(service, "ListModels", pb.ListModelsRequest(name="tiny")).models[0].HasField("lineage")


def test_details(shared: tuple[Site, Worker]) -> None:
    site, service = shared
    for name, version, file in (("tuned", "2", "tuned@2"), ("tuned", "", "tuned@1"), ("tiny", "1", "tiny")):
        details = call(service, "GetModel", pb.GetModelRequest(name=name, version=version))
        shown = site.store.show(file)
        assert (details.model.digest, tuple(details.labels)) == (shown.entry.digest, LABELS)
        assert {layer.name: tuple(layer.shape) for layer in details.layers} == {
            layer.name: layer.shape for layer in shown.layers if layer.shape
        }
        assert json_format.MessageToDict(details.preprocessing) == shown.card["preprocessing"]


def test_what_is_not_theirs_cannot_be_changed(shared: tuple[Site, Worker]) -> None:
    _, service = shared
    requests = {"DeleteModel": pb.DeleteModelRequest, "PromoteModel": pb.PromoteModelRequest}
    for method, message in requests.items():
        for name, version, token in (("bobs", "1", ""), ("tuned", "1", BOB), ("tuned", "9", ""), ("none", "1", "")):
            code, said = refused(call, service, method, message(name=name, version=version), token)
            assert (code, said.partition(";")[0]) == (Code.NOT_FOUND, f"name: no model '{name}@{version}'")
        code, said = refused(call, service, method, message(name="tiny", version="1"))
        assert (code, "is a model of the operator" in said) == (Code.FAILED_PRECONDITION, True)
        assert refused(call, service, method, message(name="tuned"))[0] == Code.INVALID_ARGUMENT
    code, said = refused(call, service, "GetModel", pb.GetModelRequest(name="bobs"))
    assert (code, "bob" in said.partition(";")[2]) == (Code.NOT_FOUND, False)
    assert refused(call, service, "GetModel", pb.GetModelRequest(name="../tiny"))[0] == Code.NOT_FOUND
    code, said = refused(call, service, "DeleteModel", pb.DeleteModelRequest(name="tuned", version="1"))
    assert (code, said) == (
        Code.FAILED_PRECONDITION,
        "version: 1 is the default of 'tuned'; promote another one first",
    )
    assert refused(call, service, "ListModels", pb.ListModelsRequest(), "nobody")[0] == Code.UNAUTHENTICATED


def test_jobs_start_from_models_that_their_owner_sees(shared: tuple[Site, Worker]) -> None:
    _, service = shared

    def create(model: str, token: str) -> jobs.Job:
        parameters = {"steps": explain_pb2.Parameter(integer=1)}
        spec = jobs.MaximizeSpec(
            model=model,
            targets=[jobs.Node(logit=explain_pb2.ClassRef(index=0))],
            height=64,
            width=64,
            parameters=parameters,
        )
        request = jobs.CreateJobRequest(spec=jobs.JobSpec(maximize=spec), validate_only=True)
        return service.call("CreateJob", request, token, 120)

    for model, token in (("tiny", BOB), ("tuned", service.token), ("tuned@2", service.token), ("bobs@1", BOB)):
        assert create(model, token).spec.maximize.model == model
    for model, token in (("tuned", BOB), ("tuned@2", BOB), ("bobs", service.token), ("tuned@3", service.token)):
        code, said = refused(create, model, token)
        assert (code, f"model: no model '{model}'" in said) == (Code.NOT_FOUND, True)


def test_the_process_is_healthy_and_without_torch(shared: tuple[Site, Worker]) -> None:
    _, service = shared
    health = health_pb2_grpc.HealthStub(service.channel)
    answer = health.Check(health_pb2.HealthCheckRequest(service="ouzel.v1.ModelService"), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert "libtorch" not in Path(f"/proc/{service.process.pid}/maps").read_text()


def test_changes_without_torchserve(site: Site) -> None:
    with site.worker() as service:
        promoted = call(service, "PromoteModel", pb.PromoteModelRequest(name="tuned", version="2"))
        assert (promoted.version, promoted.is_default, promoted.served) == ("2", True, False)
        assert site.store.default("tuned") == "2"
        call(service, "DeleteModel", pb.DeleteModelRequest(name="tuned", version="1"))
        call(service, "DeleteModel", pb.DeleteModelRequest(name="tuned", version="2"))
        assert listed(service) == [("tiny", "1", True, False)]
        assert sorted(path.name for path in site.store.folder.iterdir() if not path.name.startswith(".")) == [
            "bobs@1.mar",
            "tiny.mar",
        ]


@pytest.mark.e2e
def test_changes_of_what_is_served(site: Site) -> None:
    digests = {entry.version: entry.digest for entry in site.store.versions("tuned")}
    with site.worker() as service, site.serving() as running:
        assert listed(service) == [("tiny", "1", True, True), ("tuned", "1", True, True), ("tuned", "2", False, True)]
        assert listed(service, BOB)[0] == ("bobs", "1", True, False)
        assert answers(running, "tuned") == digests["1"]
        promoted = call(service, "PromoteModel", pb.PromoteModelRequest(name="tuned", version="2"))
        assert (promoted.version, promoted.is_default, promoted.served) == ("2", True, True)
        assert answers(running, "tuned") == digests["2"]
        call(service, "PromoteModel", pb.PromoteModelRequest(name="bobs", version="1"), BOB)  # not served: in the store
        site.store.folder.joinpath("tuned.default").unlink()
        site.store.folder.joinpath("tuned.default").mkdir()  # now the store cannot be told
        code, _ = refused(call, service, "PromoteModel", pb.PromoteModelRequest(name="tuned", version="1"))
        assert (code, answers(running, "tuned")) == (Code.FAILED_PRECONDITION, digests["2"])
        site.store.folder.joinpath("tuned.default").rmdir()
        call(service, "PromoteModel", pb.PromoteModelRequest(name="tuned", version="2"))
        call(service, "DeleteModel", pb.DeleteModelRequest(name="tuned", version="1"))
        server = publication.Server.local(site.state)
        assert server is not None
        assert publication.served(server) == {("tiny", "1"), ("tuned", "2")}
        call(service, "DeleteModel", pb.DeleteModelRequest(name="tuned", version="2"))
        assert publication.served(server) == {("tiny", "1")}
        assert listed(service) == [("tiny", "1", True, True)]


def answers(running: RunningServing, model: str) -> str:
    """The digest of the weights that answer a real request."""
    options = {"saliency": ["gradient"]}
    status, body = rest.explain(running.rest, running.inference_token, model, options, 60)
    assert status == 200, body
    return str(json.loads(body)["model"]["weights_digest"])


def test_jobs_are_told_where_to_publish(site: Site) -> None:
    def told(service: Worker) -> str:
        job = service.create(count(1, fault=Fault.SERVING))
        assert service.result(job.id).state == jobs.Job.SUCCEEDED
        request = jobs.DownloadArtifactRequest(id=job.id, name="count.txt")
        return b"".join(chunk.data for chunk in service.call("DownloadArtifact", request)).decode()

    with site.worker() as service:
        assert told(service) == "None"
    url, key = "http://127.0.0.1:8", str(site.folder / "key.json")
    elsewhere = ("--serving-rest", url, "--serving-management", url, "--serving-key-file", key)
    with site.worker(*elsewhere) as service:
        assert told(service) == str(publication.Server(url, url, Path(key)))


def test_options(tmp_path: Path) -> None:
    assert WorkerOptions(state=tmp_path).serving == {"state": str(tmp_path)}
    assert WorkerOptions(state=tmp_path, serving_state=tmp_path / "x").serving == {
        "state": str(tmp_path / "x"),
        "named": "yes",
    }
    url, key = "http://host:8080", tmp_path / "key"
    assert WorkerOptions(serving_rest=url, serving_management=url, serving_key_file=key).serving == {
        "rest": url,
        "management": url,
        "key_file": str(key),
    }
    with pytest.raises(InvalidArgument, match="serving_management, serving_key_file: give all three"):
        WorkerOptions(serving_rest=url)
    with pytest.raises(InvalidArgument, match="serving_rest: 'host' does not begin with http://"):
        WorkerOptions(serving_rest="host", serving_management=url, serving_key_file=key)


def test_what_a_catalogue_shows(site: Site) -> None:
    everything = Catalogue(site.store.folder, site.folder / "cache", isolated=Here())
    assert everything.names() == ["bobs", "tiny", "tuned", "tuned@1", "tuned@2"]
    bobs = everything.seen_by("bob")
    assert bobs.names() == ["bobs", "tiny"]
    assert everything.seen_by("bob").model("bobs") is everything.model("bobs@1")
    assert everything.model("tuned@2").digest == site.store.versions("tuned")[1].digest
    for name in ("tuned", "tuned@1", "tiny@2", "../tiny", "", "@", "tiny@"):
        with pytest.raises(NotFound, match=r"there is bobs, tiny$"):
            bobs.model(name)
