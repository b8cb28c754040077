"""Asks the gateway with unmodified clients of the Open Inference Protocol: `make conformance`.

tritonclient (gRPC and HTTP, blocking and asynchronous) and KServe's SDK (gRPC and REST) predict and get explanations
from both engines. They pin versions that do not go with ours, and cannot be loaded into one process: they get a virtual
environment of their own, in the system's folder for temporary files, and a process each. What they get is compared with
what our library computes here. perf_analyzer measures, too. With --fuzz, schemathesis asks all of the REST port by its
OpenAPI document.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from ouzel import models, serving
from ouzel.gateway.engines.in_process import InProcessEngine
from ouzel.gateway.engines.torchserve import TorchServeEngine, local
from ouzel.gateway.options import GatewayOptions
from ouzel.gateway.server import Addresses
from ouzel.gateway.worker.place import WorkerOptions, WorkerPlace
from ouzel.metrics.deletion import area
from ouzel.saliency import Explainer, Saliency
from ouzel.serving import Ports, ServingOptions
from ouzel_client.testing import FakeServer
from support.conformance import perf_analyzer
from support.conformance.environments import environment
from support.gateway import LABELS, gateway, pictures, png, write_store

CLIENTS = ("tritonclient[grpc,http]==2.73.0", "kserve==0.21.0", "ml_dtypes")
FUZZER = ("schemathesis>=4",)
GOAT = LABELS.index("goat")


def write_expected(store: Path, path: Path) -> None:
    """Inputs for the clients, and what the library makes of them."""
    model, shots = models.load(store / "toy.mar"), pictures(3)
    x = torch.stack([model.preprocessing(Image.fromarray(each)) for each in shots])
    found = Explainer(model)(x, [Saliency("grad_cam", target=GOAT)])
    maps, best = found.maps[0].values, found.logits.argsort(dim=1, descending=True)[:, :5]
    areas = [
        [area(model.network, row, values, GOAT, mode, steps=16) for mode in ("deletion", "insertion")]
        for row, values in zip(x, maps, strict=True)
    ]
    files = [png(each) for each in shots]
    np.savez(
        path,
        scores=found.logits.softmax(1).numpy(),
        logits=found.logits.numpy(),
        classes=best.numpy(),
        labels=np.array([[LABELS[k].encode() for k in row] for row in best]),
        saliency=maps.numpy(),
        faithfulness=np.array(areas),
        tensors=x.numpy(),
        files=np.frombuffer(b"".join(files), np.uint8),
        sizes=np.array(list(map(len, files))),
    )


@contextmanager
def in_process(store: Path, _state: Path) -> Iterator[Addresses]:
    with gateway(lambda: InProcessEngine(store), GatewayOptions(rest_port=0, grpc_port=0)) as addresses:
        yield addresses


@contextmanager
def torchserve(store: Path, state: Path) -> Iterator[Addresses]:
    with (
        serving.start(ServingOptions(store=store, state=state, ports=Ports.free(), workers=1)),
        gateway(lambda: TorchServeEngine(local(state)), GatewayOptions(rest_port=0, grpc_port=0)) as addresses,
    ):
        yield addresses


def conform(folder: Path, store: Path) -> int:
    """How many scripts of clients failed."""
    programs, failures = environment("oip-clients", CLIENTS), 0
    write_expected(store, folder / "expected.npz")
    for engine in (in_process, torchserve):
        with engine(store, folder / engine.__name__) as addresses:
            for script in ("triton_clients", "kserve_sdk"):
                print(f"\n{script}, {engine.__name__}", flush=True)
                file = Path(__file__).with_name(f"{script}.py")
                words = [programs / "python", file, addresses.rest, addresses.grpc, folder / "expected.npz"]
                failures += subprocess.run(words, timeout=600, check=False).returncode != 0
            failures += documented(programs / "python", addresses, folder)
            print(f"\nperf_analyzer, {engine.__name__}", flush=True)
            failures += perf_analyzer.measured(addresses, environment, folder)
    return failures


def documented(python: Path, addresses: Addresses, folder: Path) -> bool:
    """Whether the example of docs/gateway.md fails."""
    page = Path(__file__).parents[3] / "docs" / "gateway.md"
    (text,) = re.findall(r"^```python triton\n(.*?)^```$", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    (folder / "cat.png").write_bytes(png(pictures(1)[0]))
    words = [python, "-c", f"GRPC = {addresses.grpc!r}\n{text}"]
    return subprocess.run(words, cwd=folder, timeout=60, check=False).returncode != 0


def fuzz(folder: Path, store: Path, examples: int, seed: int) -> int:
    """1 if schemathesis found a fault of the server, or an answer that the document does not allow."""
    program = environment("schemathesis", FUZZER) / "schemathesis"
    with FakeServer({"m": ("cat", "dog")}) as server:
        place = WorkerPlace(server.target, Path(os.devnull))
        options = GatewayOptions(rest_port=0, grpc_port=0, worker=WorkerOptions(lambda: place))
        with gateway(lambda: InProcessEngine(store), options) as addresses:
            config = folder / "schemathesis.toml"
            config.write_text('[parameters]\n"path.model" = "toy"\n"path.version" = "1"\n')
            words: list[str | Path] = [
                program, "--config-file", config, "run", f"{addresses.rest}/openapi.json",
                "--max-examples", str(examples), "--seed", str(seed),
                "--exclude-path-regex",  # it cannot send lines of JSON, and does not wait for jobs
                "/DatasetService/(CreateDataset|UploadFiles)$|/JobService/(WaitJob|WatchJob)$",
                "--checks", "not_a_server_error,content_type_conformance,response_schema_conformance",
                "--phases", "examples,coverage,fuzzing",
            ]  # fmt: skip
            return subprocess.run(words, timeout=3000, check=False).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fuzz", type=int, metavar="EXAMPLES", help="Ask so many times per operation, and stop.")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    os.environ["no_proxy"] = "127.0.0.1"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        store = write_store(folder / "store")
        failures = fuzz(folder, store, chosen.fuzz, chosen.seed) if chosen.fuzz else conform(folder, store)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
