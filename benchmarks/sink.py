"""How many events a sink takes: a real `ouzel audit sink`, senders in other processes, a worker that is a fake.

Each event is on the disk before it is acknowledged. Senders keep a connection each and send the next event when the
last one is acknowledged; the halves of a pair come one after another. 1 % of the pairs are sampled, and the worker,
which is a fake, answers at once: what an audit costs is not measured here. Memory is the resident size of the sink.

    python benchmarks/sink.py [--seconds 10] [--rounds 3] [--senders 32]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
import uuid
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import date
from itertools import chain
from pathlib import Path
from statistics import median, quantiles

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.sink import REQUEST, RESPONSE, Sender, fake_worker, request_body, response_body, sink, write

PROCESSES = 2  # of the senders
LARGE = 150 * 1000  # bytes of the larger requests
Times = list[float]


def one(port: int, size: int, until: float) -> Times:
    """Seconds of each event that was acknowledged in time."""
    sender, took = Sender(port), []
    body = request_body() if not size else request_body(os.urandom(size * 3 // 4))
    said = response_body()
    while time.time() < until:
        identity = uuid.uuid4().hex
        for kind, each in ((REQUEST, body), (RESPONSE, said)):
            message = Sender.message(kind, identity, each)
            start = time.perf_counter()
            sender.send(message)
            took.append(time.perf_counter() - start)
    sender.close()
    return took


def some(port: int, size: int, until: float, senders: int) -> Times:
    """In one process."""
    with ThreadPoolExecutor(senders) as pool:
        return list(chain.from_iterable(pool.map(lambda _: one(port, size, until), range(senders))))


def measure(pool: ProcessPoolExecutor, size: int, seconds: float, senders: int) -> tuple[float, float, float, float]:
    """Events/s, ms of the median and of the 99th percentile, and MiB of the sink at the end."""
    with (
        tempfile.TemporaryDirectory() as folder,
        fake_worker() as worker,
        sink(write(Path(folder), "rate = 0.01"), worker) as found,
    ):
        until = time.time() + 1 + seconds
        started = time.perf_counter()
        parts = [pool.submit(some, found.port, size, until, senders // PROCESSES) for _ in range(PROCESSES)]
        took = list(chain.from_iterable(part.result() for part in parts))
        lasted = time.perf_counter() - started
        status = found.status()
        assert status["received"] == len(took), (status, len(took))
        memory = psutil.Process(found.process.pid).memory_info().rss / 2**20
    cuts = quantiles(took, n=100)
    return len(took) / lasted, 1000 * cuts[49], 1000 * cuts[98], memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--senders", type=int, default=32)
    options = parser.parse_args()
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{date.today()}, Python {platform.python_version()}, {os.cpu_count()} cores, load average {load}\n")
    print("| requests of | events/s | worst round | p50 ms | p99 ms | MiB of the sink |")
    print("|---|---|---|---|---|---|")
    with ProcessPoolExecutor(PROCESSES) as pool:
        list(pool.map(abs, range(PROCESSES)))
        for size in (0, LARGE):
            rounds = [measure(pool, size, options.seconds, options.senders) for _ in range(options.rounds)]
            rate, p50, p99, memory = (median(column) for column in zip(*rounds, strict=True))
            worst = min(each[0] for each in rounds)
            name = f"{LARGE // 1000} kB" if size else f"{len(request_body()) / 1000:.1f} kB"
            print(f"| {name} | {rate:.0f} | {worst:.0f} | {p50:.1f} | {p99:.1f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
