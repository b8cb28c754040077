"""Clients in processes of their own, and services that end with the benchmark, for benchmarks of what is served."""

from __future__ import annotations

import contextlib
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from ouzel import serving
from ouzel.serving import RunningServing, ServingOptions

_PROCESSES = 16
_STEADY = 0.1  # of Java's cost, from one round to the next two
Call = Callable[[], "Answer"]
_GUARD = (
    "import sys; sys.stdin.read(); from pathlib import Path; from ouzel import serving; serving.stop(Path(sys.argv[1]))"
)


@dataclass(frozen=True)
class Answer:
    """What one call brought: bytes of its map, and the answer's own timing if it has one."""

    size: int
    timing: dict[str, float] | None = None


@dataclass
class Samples:
    """What one contender did, over all rounds.

    Attributes:
        latencies: In seconds.
        timings: Of the answers.
        wall: Seconds.
        cpu: Seconds of the clients' processor time.
        size: Bytes of the last answer.
    """

    latencies: list[float] = field(default_factory=list)
    timings: list[dict[str, float]] = field(default_factory=list)
    wall: float = 0.0
    cpu: float = 0.0
    size: int = 0

    @property
    def answers(self) -> int:
        return len(self.latencies)

    @property
    def rate(self) -> float:
        return self.answers / self.wall

    def add(self, other: Samples) -> None:
        """Adds a round, or another client's share of one; the wall time is the caller's to add."""
        self.latencies += other.latencies
        self.timings += other.timings
        self.cpu += other.cpu
        self.size = other.size or self.size

    def stage(self, name: str) -> float:
        """Mean of a field of the answers' timing, by batch: each of its requests counts as one of `batch_size`."""
        batches = sum(1 / timing["batch_size"] for timing in self.timings)
        return sum(timing[name] / timing["batch_size"] for timing in self.timings) / batches


class Clients:
    """Callers that call in a loop, each for itself, in other processes. These end with this one, however it ends.

    Args:
        count: How many; where they are more than processes make sense, some share one, as threads.
        opened: Gives each process its call; a function of a module, with `arguments`.
        arguments: Of `opened`.
    """

    def __init__(self, count: int, opened: Callable[..., Call], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._ends: list[Connection] = []
        self._processes = []
        shared = min(count, _PROCESSES)
        for number in range(shared):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_client,
                args=(theirs, opened, arguments, count // shared + (number < count % shared)),
                daemon=True,
            )
            process.start()
            theirs.close()
            self._ends.append(ours)
            self._processes.append(process)
        for end in self._ends:
            end.recv()  # it is ready

    def run(self, *, seconds: float = 0.0, requests: int = 0) -> Samples:
        """Has all call at a time, for some seconds, or until each has had its share of the requests."""
        start = time.perf_counter()
        for end in self._ends:
            end.send((seconds, requests // len(self._ends)))
        together = Samples()
        for end in self._ends:
            together.add(end.recv())
        together.wall = time.perf_counter() - start
        return together

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join(5)
            process.kill()


def _client(end: Connection, opened: Callable[..., Call], arguments: Sequence[object], callers: int) -> None:
    calls = [opened(*arguments) for _ in range(callers)]
    end.send("ready")
    with ThreadPoolExecutor(callers) as pool, contextlib.suppress(EOFError, OSError):  # the benchmark has ended
        while True:
            seconds, requests = end.recv()
            together, cpu = Samples(), time.process_time()
            for samples in pool.map(lambda call: _loop(call, seconds, requests // callers), calls):  # noqa: B023
                together.add(samples)
            together.cpu = time.process_time() - cpu
            end.send(together)


def _loop(call: Call, seconds: float, requests: int) -> Samples:
    samples, stop = Samples(), time.perf_counter() + seconds
    while len(samples.latencies) < requests or time.perf_counter() < stop:
        start = time.perf_counter()
        answer = call()
        samples.latencies.append(time.perf_counter() - start)
        samples.size = answer.size
        if answer.timing is not None:
            samples.timings.append(answer.timing)
    return samples


@contextlib.contextmanager
def services(options: ServingOptions) -> Iterator[RunningServing]:
    """Services that end with the block, with a signal, and shortly after this process if that is killed."""
    command = [sys.executable, "-c", _GUARD, str(options.state)]
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        with serving.stop_on_signals(), serving.start(options) as running:
            yield running
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait(60)


def seconds(pids: Sequence[int]) -> float:
    """Processor time of processes so far."""
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def warm_up(clients: Clients, running: RunningServing, requests: int, most: int) -> None:
    """Calls until Java's cost per request has stopped falling.

    Args:
        clients: Who call.
        running: What they call.
        requests: Of a round.
        most: Requests in all.
    """
    seen: list[float] = []
    while len(seen) * requests < most:
        before = seconds([running.pid])
        answers = clients.run(requests=requests).answers
        seen.append(1e3 * (seconds([running.pid]) - before) / answers)
        print(f"warm-up: Java {seen[-1]:.2f} ms per request after {len(seen) * requests}", flush=True)
        if len(seen) > 3 and max(seen[-3:]) < (1 + _STEADY) * min(seen[-3:]):
            break


def ouzel_call(target: str, token: str, model: str, image: bytes) -> Call:
    """A prediction and the map of `gradient`."""
    from ouzel_client import Client

    served = Client(target=target, token=token).models[model]

    def call() -> Answer:
        answer = served.explain(image, saliency=["gradient"], top_k=1, timeout=120)
        return Answer(answer.saliency["gradient"].array.nbytes, vars(answer.timing))

    return call


def photograph() -> bytes:
    """A JPEG of 451 x 300 pixels."""
    import io

    from PIL import Image
    from skimage import data

    out = io.BytesIO()
    Image.fromarray(data.chelsea()).save(out, "JPEG", quality=90)
    return out.getvalue()


def tiny(store: Path, name: str) -> None:
    """Writes the archive of a network of next to no cost: timm:test_resnet with random weights, for 224 pixels."""
    import torch
    from safetensors.torch import save_file

    from ouzel import models
    from ouzel.models import Preprocessing, archive

    torch.manual_seed(0)
    weights = store / f"{name}.safetensors"
    save_file(models.build("timm:test_resnet").state_dict(), weights)
    archive.create(name, "timm:test_resnet", weights, "imagenet", store, preprocessing=Preprocessing())


__all__ = [
    "Answer",
    "Call",
    "Clients",
    "Samples",
    "ouzel_call",
    "photograph",
    "seconds",
    "services",
    "tiny",
    "warm_up",
]
