"""Machines that serve one model store of a bucket, and the workers of its jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from e2e.test_jobs import ouzel
from ouzel import models
from ouzel.model_files import ModelFiles
from ouzel.model_names import POOL, POOL_VERSION
from ouzel.models.store import ModelStore
from ouzel.registry.opening import mirrored
from ouzel.serving import Ports
from ouzel.torchserve import rest
from ouzel_client import Client
from ouzel_protos.local import read_serving, token
from support.datasets import two_colours
from support.jobs import Worker, worker
from support.tuned import ARCH

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
    workers: Sequence[Worker]

    @property
    def store(self) -> ModelStore:
        """As another machine sees it."""
        return ModelStore(*mirrored(self.place, self.folder / "elsewhere"))

    def client(self, number: int = 0) -> Client:
        """Of one of the workers."""
        return Client(worker=self.workers[number].address, worker_token=self.workers[number].token)

    def served(self, name: str, version: str) -> bool:
        """Whether both answer with a version, by its number and as the default."""
        digest = self.store.file(f"{name}@{version}").digest
        return all(node.answer(name, asked) == digest for node in self.nodes for asked in ("", version))


@contextmanager
def _worker(place: str, url: str, folder: Path, number: int, more: Sequence[str]) -> Iterator[Worker]:
    uploads, artifacts = (place.replace("/models", f"/{each}") for each in ("uploads", "artifacts"))
    options = ["--store", place, "--serving-quorum", "2", "--uploads", uploads, "--ledger", str(folder / "log"), *more]
    with worker(url, folder / f"worker{number}", *options, real=True, artifacts=artifacts) as running:
        yield running


@contextmanager
def cluster(place: str, url: str, folder: Path, workers: int = 1, more: Sequence[str] = ()) -> Iterator[Cluster]:
    """Two nodes that serve a model "base", one with processes for each version and one with a pool.

    place: of the model store, "s3://BUCKET/models". url: of the jobs. more: options of the workers.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(models.build(ARCH, num_classes=3).state_dict(), folder / "base.safetensors")
    (folder / "labels").write_text("cat\ndog\nbird\n")
    flags = ["--arch", ARCH, "--labels", str(folder / "labels"), "--weights", str(folder / "base.safetensors")]
    variables = os.environ | {"OUZEL_STATE": str(folder / "operator"), "OUZEL_MODEL_STORE": place}
    ouzel(variables, "models", "add", "base", *flags)
    nodes = (Node("node-1", folder / "1", place, False), Node("node-2", folder / "2", place, True))
    with ExitStack() as stack:
        for node in nodes:
            stack.callback(node.close)
            node.start_agent()
        for node in nodes:
            node.up()
        running = [stack.enter_context(_worker(place, url, folder, number, more)) for number in range(workers)]
        yield Cluster(place, folder, nodes, running)


def finetune(client: Client, folder: Path, **more: Any) -> Any:
    """A job that learns two colours."""
    if not folder.exists():
        for path, content in two_colours().items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    dataset = client.datasets.upload(folder)
    return client.jobs.finetune("base", dataset, **{"recipe": "feature_extractor", "image_size": 64, **more})
