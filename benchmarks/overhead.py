"""What an answer costs beside the network: processor time of the client, of Java and of the model's process.

timm:test_resnet with random weights, so small that next to nothing is computed; each answer holds the `gradient` map of
a 451 x 300 JPEG, 224 x 224 float32, 200 KB. Clients are processes of their own. Java compiles what it runs often: its
cost falls over thousands of requests, which are sent until it no longer does. The share of each stage in the model's
process is measured in this process, on batches of the size that the service saw, by the processor's clock: on a machine
with few cores the time that passes says little.

    python benchmarks/overhead.py [--requests 800] [--rounds 5] [--clients 4] [--workers 1] [--batch-size 8]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import psutil
import torch
from clients import Clients, ouzel_call, photograph, seconds, services, tiny, warm_up

from ouzel import models
from ouzel.explain import STAGES, ExplainService, RawRequest
from ouzel.serving import Ports, RunningServing, ServingOptions

NAME = "test-resnet"
_MOST = 12_000  # requests of the warm-up


@dataclass(frozen=True)
class Cost:
    """Milliseconds of processor time per request."""

    client: float
    java: float
    worker: float
    rate: float
    batch: float


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=800, help="per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    chosen = parser.parse_args()
    print(f"{date.today()}, {platform.processor() or platform.machine()}, {psutil.cpu_count()} cores, no GPU")
    print(f"torch {torch.__version__}")
    with tempfile.TemporaryDirectory(prefix="ouzel-bench-") as folder:
        store = Path(folder) / "store"
        store.mkdir()
        tiny(store, NAME)
        options = ServingOptions(
            store=store,
            state=Path(folder) / "state",
            ports=Ports.free(),
            workers=chosen.workers,
            batch_size=chosen.batch_size,
            threads=1,
        )
        with services(options) as running:
            arguments = (running.grpc, running.inference_token, NAME, photograph())
            with Clients(chosen.clients, ouzel_call, *arguments) as clients:
                warm_up(clients, running, chosen.requests, _MOST)
                costs = [measure(clients, running, chosen.requests) for _ in range(chosen.rounds)]
        report(costs, stages(store, round(statistics.median(cost.batch for cost in costs))))


def measure(clients: Clients, running: RunningServing, requests: int) -> Cost:
    """One round."""
    java, workers = [running.pid], running.worker_pids()
    before = [seconds(java), seconds(workers)]
    samples = clients.run(requests=requests)
    spent = [seconds(java) - before[0], seconds(workers) - before[1]]
    per_request = [1e3 * each / samples.answers for each in (samples.cpu, *spent)]
    return Cost(*per_request, samples.rate, samples.stage("batch_size"))


def stages(store: Path, rows: int) -> dict[str, float]:
    """Milliseconds of processor time per request by stage, in this process, whose clock is exchanged for that."""
    from ouzel.explain import stages as clock

    torch.set_num_threads(1)
    service = ExplainService(models.load(store / f"{NAME}.mar"), threads=1)
    requests = [RawRequest(image=photograph(), options=b'{"saliency": ["gradient"], "top_k": 1}')] * rows
    clock.time = type("Clock", (), {"perf_counter": staticmethod(time.process_time)})  # type: ignore[assignment]  # a module, in whose place stands a clock
    seen: list[dict[str, float]] = []
    for _ in range(100):
        timing = service.answer(requests)[0].envelope.timing
        seen.append({stage: getattr(timing, f"{stage}_ms") / rows for stage in STAGES})
    return {stage: statistics.median(each[stage] for each in seen[20:]) for stage in STAGES}


def report(costs: list[Cost], split: dict[str, float]) -> None:
    """The table."""
    client, java, worker, rate, batch = (
        statistics.median(getattr(cost, name) for cost in costs)
        for name in ("client", "java", "worker", "rate", "batch")
    )
    rest = worker - sum(split.values())
    names = [*STAGES, "rest"]
    print("\nProcessor time, ms per request (median of the rounds); mean rows of a batch")
    print(f"| client | Java | worker | {' | '.join(f'of that {name}' for name in names)} | requests/s | rows |")
    print("|" + "---|" * (len(names) + 5))
    cells = [client, java, worker, *split.values(), rest]
    print(f"| {' | '.join(f'{cell:.2f}' for cell in cells)} | {rate:.0f} | {batch:.1f} |")


if __name__ == "__main__":
    main()
