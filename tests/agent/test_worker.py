"""A real worker whose models are served by a node, with a fake TorchServe and an agent."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner

from ouzel import serving
from ouzel.agent import agent as agents
from ouzel.cli.models import models as commands
from ouzel.cli.services import up
from ouzel.errors import InvalidArgument
from ouzel.model_files import ModelFiles
from ouzel.registry.opening import mirrored, open_registry
from ouzel.registry.reports import AgentReport, Serves, VersionReport
from ouzel.serving.supervision.status import State
from ouzel.worker.options import WorkerOptions
from ouzel_protos.v1 import model_pb2 as pb
from ouzel_protos.v1.model_pb2_grpc import ModelServiceStub
from support.agents import FakeNode
from support.jobs import Worker, until, worker
from support.metrics import Metrics
from support.toys import write_toy


@dataclass
class Site:
    place: str
    node: FakeNode
    store: ModelFiles
    worker: Worker

    def call(self, name: str, request: object) -> pb.ListModelsResponse:
        return getattr(ModelServiceStub(self.worker.channel), name)(request, metadata=self.worker.metadata, timeout=60)

    def listed(self) -> dict[str, tuple[bool, bool]]:
        """Of each version, whether it is the default and whether it is served."""
        answer = self.call("ListModels", pb.ListModelsRequest(name="toy"))
        return {each.version: (each.is_default, each.served) for each in answer.models}


@pytest.fixture
def site(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(agents, "BEAT", 0.2)
    store = ModelFiles(*mirrored(bucket, tmp_path / "elsewhere"))
    for number in (1, 2):
        store.folder.mkdir(exist_ok=True)
        store.add("toy", str(number), lambda path, n=number: write_toy(path, str(n), n, f"job {n}", owner="local"))
    node = FakeNode(bucket, tmp_path, "node-1")
    flags = ["--store", bucket, "--serving-quorum", "1", "--metrics-port", "0", "--no-fork"]
    try:
        with node.running(), worker(f"sqlite://{tmp_path / 'jobs.db'}", tmp_path / "worker", *flags) as running:
            yield Site(bucket, node, store, running)
    finally:
        node.torchserve.stop()


def test_models_by_way_of_the_worker(site: Site) -> None:
    until(lambda: site.listed() == {"1": (True, True), "2": (False, True)})
    promoted = site.call("PromoteModel", pb.PromoteModelRequest(name="toy", version="2"))
    assert (promoted.is_default, promoted.served) == (True, True)
    until(lambda: site.node.serves() == ("2", ["1", "2"]))
    with pytest.raises(grpc.RpcError, match="is the default"):
        site.call("DeleteModel", pb.DeleteModelRequest(name="toy", version="2"))
    site.call("DeleteModel", pb.DeleteModelRequest(name="toy", version="1"))
    until(lambda: site.node.serves() == ("2", ["2"]))
    until(lambda: site.listed() == {"2": (True, True)})
    text = site.worker.log.read_text()
    url = next(word for word in text.split() if word.startswith("http://") and word.endswith("/metrics"))
    numbers = Metrics(url)
    assert numbers.value("ouzel_worker_serving_agent_torchserve_up", node="node-1") == 1
    assert numbers.value("ouzel_worker_serving_agent_seen_seconds", node="node-1") < 60


def test_who_waits_for_agents_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    store = ModelFiles(tmp_path / "shared")
    store.folder.mkdir()
    for number in (1, 2):
        store.add("toy", str(number), lambda path, n=number: write_toy(path, str(n), n, f"job {n}", owner="local"))
    flags = ["--store", str(store.folder), "--serving-quorum", "1", "--no-fork"]
    with worker(f"sqlite://{tmp_path / 'jobs.db'}", tmp_path / "worker", *flags) as running:
        stub = ModelServiceStub(running.channel)
        request = pb.PromoteModelRequest(name="toy", version="2")
        waiting = [stub.PromoteModel.future(request, metadata=running.metadata, timeout=60) for _ in range(20)]
        until((store.folder / ".toy.wanted").is_file)  # they have come to the agents, of which there are none
        for _ in range(3):
            answer = stub.ListModels(pb.ListModelsRequest(), metadata=running.metadata, timeout=60)
            assert [each.version for each in answer.models] == ["1", "2"]
        assert not any(each.done() for each in waiting)
        for each in waiting[1:]:
            each.cancel()
        registry = open_registry(store.folder)
        sha256 = registry.record("toy").require("2").sha256
        for number in itertools.count():  # an agent comes that tells something new again and again
            versions = {"toy": {"2": VersionReport(Serves.SERVED, sha256)}}
            registry.report("node-1", AgentReport("node-1", str(number), 0.0, True, versions=versions).to_json())
            if waiting[0].done():
                break
            threading.Event().wait(0.1)
        assert waiting[0].result().is_default
    assert store.default("toy") == "2"


def test_the_operators_commands(site: Site, tmp_path: Path) -> None:
    def command(*words: str, code: int = 0) -> str:
        environment = {"OUZEL_STATE": str(tmp_path / "operator"), "OUZEL_MODEL_STORE": site.place}
        result = CliRunner().invoke(commands, list(words), env=environment)
        assert result.exit_code == code, result.output
        return result.output

    assert "toy" in command("list")
    assert command("promote", "toy@2", "--quorum", "1") == "toy: version 2 is the default\n"
    until(lambda: site.node.serves()[0] == "2")
    assert "1 agents" not in command("promote", "toy@1", "--quorum", "2", "--patience", "0", code=1)
    assert site.store.default("toy") == "2"
    assert (
        f"toy@1.mar of {site.place}"
        in CliRunner().invoke(commands, ["delete", "toy@1", "--store", site.place], input="n\n").output
    )
    command("delete", "toy@1", "--yes")
    until(lambda: site.node.serves() == ("2", ["2"]))


def test_the_status_of_the_machine_shows_its_agent(site: Site) -> None:
    def notes() -> list[str]:
        status = serving.status(site.node.options.state)
        assert status is not None
        (part,) = [each for each in status.parts if each.name == "serving agent"]
        assert part.state is State.UP
        return [part.note]

    until(lambda: notes() == [f"node-1 follows {site.place}; 2 versions are served"])


def test_who_reads_folders_says_so() -> None:
    result = CliRunner().invoke(up, ["--store", "s3://bucket/models"])
    assert result.exit_code == 2
    assert "`ouzel serving-agent` fills one from a bucket" in result.output
    result = CliRunner().invoke(commands, ["list", "--store", "gs://bucket/models"])
    assert "is not a folder or s3://BUCKET/PREFIX" in result.output


def test_options(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="serving_quorum: agents tell what is served"):
        WorkerOptions(serving_quorum=1, serving_state=tmp_path)
    with pytest.raises(InvalidArgument, match="serving_quorum"):
        WorkerOptions(serving_quorum=-1)
    with pytest.raises(InvalidArgument, match="store: 'gs://b' is not a folder"):
        WorkerOptions(models="gs://b")
    options = WorkerOptions(state=tmp_path, models="s3://b/m/")
    assert (options.models, options.serving) == ("s3://b/m", None)
    assert options.environment.local == tmp_path / "jobs" / "fetched"
    assert type(options.environment).from_dict(options.environment.to_dict()) == options.environment
    assert WorkerOptions(state=tmp_path, models=tmp_path / "m").environment.local is None
