"""Two real TorchServes with an agent each, a bucket, PostgreSQL and a worker; `make cluster` runs this.

One of the TorchServes gives each version processes of its own, the other one has a pool.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from e2e.test_jobs import ouzel
from ouzel import models
from ouzel.buckets import Prefix
from ouzel.model_files import ModelFiles
from ouzel.model_names import POOL, POOL_VERSION
from ouzel.models.store import ModelStore
from ouzel.registry.opening import mirrored, open_registry
from ouzel.registry.reports import parse_reports
from ouzel.serving import Ports
from ouzel.torchserve import rest
from ouzel_client import Client
from ouzel_protos.local import read_serving, token
from support import postgres, seaweed
from support.datasets import two_colours
from support.jobs import Worker, processes_of, until, worker
from support.tuned import ARCH, publish

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
LONG = 240.0  # s, on a busy machine


@dataclass
class Node:
    """A machine: `ouzel up` and `ouzel serving-agent`."""

    name: str
    folder: Path
    place: str
    pool: bool
    agent: subprocess.Popen[bytes] | None = None
    ports: Ports = field(default_factory=Ports.free)

    @property
    def variables(self) -> dict[str, str]:
        ports = {f"OUZEL_{name.upper()}_PORT": str(port) for name, port in asdict(self.ports).items()}
        own = {"OUZEL_STATE": str(self.folder / "state"), "OUZEL_MODEL_STORE": str(self.folder / "store")}
        return os.environ | ports | own | {"OUZEL_THREADS": "1", "OUZEL_WARM_UP_ROWS": "1"}

    @property
    def store(self) -> ModelFiles:
        return ModelFiles(self.folder / "store")

    def start_agent(self) -> None:
        self.folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "ouzel.cli.serving_agent", "--from", self.place, "--node", self.name]
        subprocess.run([*command, "--once"], env=self.variables, check=True, timeout=120)
        with (self.folder / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(command, env=self.variables, stdout=log, stderr=log)

    def stop_agent(self, number: int = signal.SIGTERM) -> None:
        if self.agent is not None:
            self.agent.send_signal(number)
            self.agent.wait(60)
            self.agent = None

    def up(self) -> None:
        flags = ["--pool"] if self.pool else []
        ouzel(self.variables, "up", "--detach", "--no-worker", "--no-gateway", *flags)

    def kill(self) -> None:
        """All of TorchServe and what watches over it, as when the machine goes down."""
        from ouzel.serving import processes

        for each in processes.belonging_to(self.folder / "state"):
            if self.agent is None or each.pid != self.agent.pid:
                each.kill()

    def close(self) -> None:
        self.stop_agent()
        ouzel(self.variables, "down")

    def answer(self, name: str, version: str = "") -> str:
        """The digest of the weights that answer a real request; "" if there is no answer."""
        serving = read_serving(self.folder / "state")
        if serving is None:
            return ""
        model = f"{POOL}/{POOL_VERSION}" if self.pool else "/".join(filter(None, [name, version]))
        address = {"model": name} | ({"version": version} if version else {}) if self.pool else {}
        try:
            key = token(serving["key_file"], "inference")
            asked = {"saliency": ["gradient"]}
            code, body = rest.explain(serving["rest"], key, model, asked, 60, address=address)
        except OSError:
            return ""
        return str(json.loads(body)["model"]["weights_digest"]) if code == 200 else ""


@dataclass
class Cluster:
    place: str
    folder: Path
    nodes: tuple[Node, Node]
    worker: Worker
    jobs: str

    @property
    def store(self) -> ModelStore:
        """As another machine sees it."""
        return ModelStore(*mirrored(self.place, self.folder / "elsewhere"))

    def client(self) -> Client:
        return Client(worker=self.worker.address, worker_token=self.worker.token)

    def served(self, name: str, version: str) -> bool:
        """Whether both answer with a version, by its number and as the default."""
        digest = self.store.file(f"{name}@{version}").digest
        return all(node.answer(name, asked) == digest for node in self.nodes for asked in ("", version))


@contextmanager
def _worker(place: str, url: str, folder: Path) -> Iterator[Worker]:
    uploads, artifacts = (place.replace("/models", f"/{each}") for each in ("uploads", "artifacts"))
    options = ["--store", place, "--serving-quorum", "2", "--uploads", uploads, "--ledger", str(folder / "log")]
    with worker(url, folder / "worker", *options, real=True, artifacts=artifacts) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("nodes")
    with seaweed.seaweed() as weed, postgres.server(durable=False) as url, pytest.MonkeyPatch.context() as patch:
        for name, value in weed.variables.items():
            patch.setenv(name, value)
        place = f"s3://{weed.make('ouzel')}/models"
        with torch.random.fork_rng():
            torch.manual_seed(0)
            save_file(models.build(ARCH, num_classes=3).state_dict(), folder / "base.safetensors")
        (folder / "labels").write_text("cat\ndog\nbird\n")
        flags = ["--arch", ARCH, "--labels", str(folder / "labels"), "--weights", str(folder / "base.safetensors")]
        variables = os.environ | {"OUZEL_STATE": str(folder / "operator"), "OUZEL_MODEL_STORE": place}
        ouzel(variables, "models", "add", "base", *flags)
        nodes = (Node("node-1", folder / "1", place, False), Node("node-2", folder / "2", place, True))
        try:
            for node in nodes:
                node.start_agent()
            for node in nodes:
                node.up()
            with _worker(place, url, folder) as running:
                yield Cluster(place, folder, nodes, running, url)
        finally:
            for node in nodes:
                node.close()


def finetune(client: Client, folder: Path, **more: Any) -> Any:
    if not folder.exists():
        for path, content in two_colours().items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    dataset = client.datasets.upload(folder)
    return client.jobs.finetune("base", dataset, recipe="feature_extractor", image_size=64, **more)


def told(cluster: Cluster) -> Mapping[str, Any]:
    return {each.node: each for each in parse_reports(open_registry(cluster.place).reports())}


def test_a_finetune_reaches_both(cluster: Cluster) -> None:
    with cluster.client() as client:
        job = finetune(client, cluster.folder / "images", name="colours", promote="always")
        result = job.result(timeout=LONG)
        assert (result.summary["served"], result.summary["promoted"], result.summary["version"]) == (True, True, "1")
        until(lambda: cluster.served("colours", "1"), LONG)
        (model,) = [each for each in client.models.list() if each.name == "colours"]
        assert (model.served, model.is_default) == (True, True)


def test_a_promotion_is_followed(cluster: Cluster) -> None:
    version = publish(cluster.store, "by hand", 7, name="followed", owner="local")
    second = publish(cluster.store, "by hand again", 8, name="followed", owner="local")
    until(lambda: cluster.served("followed", version), LONG)
    variables = os.environ | {"OUZEL_STATE": str(cluster.folder / "operator"), "OUZEL_MODEL_STORE": cluster.place}
    ouzel(variables, "models", "promote", f"followed@{second}", "--quorum", "2")
    until(lambda: cluster.served("followed", second), LONG)
    with cluster.client() as client:  # and back, as its owner
        client.models.promote("followed", version)
        until(lambda: cluster.served("followed", version), LONG)
        client.models.delete("followed", second)
        until(lambda: all(node.answer("followed", second) == "" for node in cluster.nodes), LONG)
        assert cluster.served("followed", version)


@pytest.mark.parametrize("number", [0, 1], ids=["own processes", "pool"])
def test_a_machine_that_was_down_catches_up(cluster: Cluster, number: int) -> None:
    node, name = cluster.nodes[number], f"down-{number}"
    old, new = (publish(cluster.store, f"{name} {seed}", seed, name=name, owner="local") for seed in (11, 12))
    until(lambda: cluster.served(name, old), LONG)
    node.kill()
    node.stop_agent(signal.SIGKILL)
    cluster.store.promote(name, new)
    cluster.store.withdraw(name, old)
    node.start_agent()
    node.up()
    until(lambda: cluster.served(name, new), LONG)
    assert [each.answer(name, old) for each in cluster.nodes] == ["", ""]


def test_a_torchserve_that_dies_is_filled_again(cluster: Cluster) -> None:
    """`ouzel up` starts it again by itself; the agent sees another one."""
    node = cluster.nodes[0]
    version = publish(cluster.store, "dies", 21, name="dies", owner="local")
    until(lambda: cluster.served("dies", version), LONG)
    serving = read_serving(node.folder / "state")
    assert serving is not None
    os.kill(serving["pid"], signal.SIGKILL)
    second = publish(cluster.store, "dies again", 22, name="dies", owner="local")
    cluster.store.promote("dies", second)
    until(lambda: cluster.served("dies", second), LONG)


def test_a_damaged_archive_is_refused(cluster: Cluster) -> None:
    for node in cluster.nodes:
        node.stop_agent()
    version = publish(cluster.store, "damaged", 31, name="damaged", owner="local")
    second = publish(cluster.store, "damaged again", 32, name="damaged", owner="local")
    key = open_registry(cluster.place).record("damaged").find(second).key
    prefix = Prefix(cluster.place, "test")
    whole = bytes(prefix.api.get(prefix.store, key).bytes())
    prefix.api.put(prefix.store, key, whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    for node in cluster.nodes:
        node.start_agent()
    until(lambda: cluster.served("damaged", version), LONG)

    def problems() -> dict[str, str]:
        return {node: each.errors.get("damaged@2", "") for node, each in told(cluster).items()}

    until(lambda: len(problems()) == 2 and all(problems().values()), LONG)
    assert all("SHA-256 differs" in problem for problem in problems().values())
    assert all(node.answer("damaged", second) == "" for node in cluster.nodes)


def test_a_job_that_is_killed_before_its_promotion(cluster: Cluster) -> None:
    """Its version is in the bucket and one of two nodes serves it; then its process is killed."""
    node = cluster.nodes[1]
    node.stop_agent()
    with cluster.client() as client:
        job = finetune(client, cluster.folder / "images", name="killed", promote="always")
        until(lambda: "1" in told(cluster)["node-1"].versions.get("killed", {}), LONG)
        (record,) = open_registry(cluster.place).record("killed").versions
        for process in processes_of(job.id):
            process.kill()
        until(lambda: job.refresh().attempt > 1, LONG)
        node.start_agent()
        result = job.result(timeout=LONG)
        assert (result.summary["version"], result.summary["promoted"]) == ("1", True)
    assert open_registry(cluster.place).record("killed").versions == (record,)  # the same archive, and one version
    until(lambda: cluster.served("killed", "1"), LONG)
