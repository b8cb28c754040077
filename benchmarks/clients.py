"""Clients in processes of their own, and services that end with the benchmark, for benchmarks of what is served."""

from __future__ import annotations

import contextlib
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from ouzel import serving
from ouzel.serving import RunningServing, ServingOptions

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
    """Processes that call in a loop, each for itself. They end with this process, however that ends.

    Args:
        count: How many.
        opened: Gives each process its call; a function of a module, with `arguments`.
        arguments: Of `opened`.
    """

    def __init__(self, count: int, opened: Callable[..., Call], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._ends: list[Connection] = []
        self._processes = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_client, args=(theirs, opened, arguments), daemon=True)
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


def _client(end: Connection, opened: Callable[..., Call], arguments: Sequence[object]) -> None:
    call = opened(*arguments)
    end.send("ready")
    with contextlib.suppress(EOFError, OSError):  # the benchmark has ended
        while True:
            seconds, requests = end.recv()
            samples, cpu = Samples(), time.process_time()
            stop = time.perf_counter() + seconds
            while len(samples.latencies) < requests or time.perf_counter() < stop:
                start = time.perf_counter()
                answer = call()
                samples.latencies.append(time.perf_counter() - start)
                samples.size = answer.size
                if answer.timing is not None:
                    samples.timings.append(answer.timing)
            samples.cpu = time.process_time() - cpu
            end.send(samples)


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


__all__ = ["Answer", "Call", "Clients", "Samples", "ouzel_call", "photograph", "services"]
