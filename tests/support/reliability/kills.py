"""Model processes that are killed while calls arrive: each call is answered, or told UNAVAILABLE, and none waits."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import psutil

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from ouzel.serving import processes
from ouzel.serving.forking.zygote import WORKER_NAME
from ouzel.torchserve import log
from support import oip_bytes as wire
from support.front_door import FrontDoor, front_door, metadata
from support.gateway import MODEL, pictures, png, write_store

INFER = "/inference.GRPCInferenceService/ModelInfer"
ANSWERS = ("OK", "UNAVAILABLE")
_NAMES = {200: "OK", 503: "UNAVAILABLE"}
_DEADLINE = 60.0  # s: far more than an answer takes


@dataclass(frozen=True)
class Killed:
    """One kill.

    Attributes:
        idle: Whether no call was under way.
        answers: (status, seconds) of the calls that came around it.
        back: Seconds until a call was answered that began after it.
    """

    idle: bool
    answers: list[tuple[str, float]]
    back: float


@dataclass
class Report:
    """What many kills did."""

    kills: list[Killed] = field(default_factory=list)

    def statuses(self) -> dict[str, int]:
        found = [status for kill in self.kills for status, _ in kill.answers]
        return {status: found.count(status) for status in sorted(set(found))}

    @property
    def longest(self) -> float:
        return max(seconds for kill in self.kills for _, seconds in kill.answers)

    @property
    def back(self) -> float:
        return max(kill.back for kill in self.kills)


def model_processes(state: Path) -> list[psutil.Process]:
    found = []
    for each in processes.belonging_to(state):
        with suppress(psutil.Error):
            if each.name() == WORKER_NAME:
                found.append(each)
    return found


def _message(samples: int) -> bytes:
    parameters = [wire.parameter("method", "smoothgrad"), wire.parameter("samples", samples)]
    image = wire.elements(png(pictures(1)[0]))
    outputs = [wire.chunk(1, "scores"), wire.chunk(1, "saliency")]
    tensor = wire.tensor("image", "BYTES", (1,))
    return wire.infer(MODEL, [tensor], [image], parameters=parameters, outputs=outputs)


class Killer:
    """Kills model processes of the services behind a door.

    Args:
        door: The front door, before a model of several processes.
        workers: How many.
    """

    def __init__(self, door: FrontDoor, channel: grpc.Channel, workers: int) -> None:
        self._door, self._workers = door, workers
        self._ask = channel.unary_unary(INFER)
        self._short, self._long, self._image = _message(1), _message(24), png(pictures(1)[0])

    def call(self, message: bytes, rest: bool = False) -> tuple[str, float]:
        began = time.monotonic()
        if rest:
            headers = {"X-Ouzel-Options": '{"saliency": ["gradient"]}', "X-Ouzel-Timeout": str(_DEADLINE)}
            status, _, _ = self._door.ask("POST", f"/v1/models/{MODEL}/explain", self._image, headers)
            return _NAMES.get(status, str(status)), time.monotonic() - began
        try:
            self._ask(message, timeout=_DEADLINE, metadata=metadata(self._door.key))
            return "OK", time.monotonic() - began
        except grpc.RpcError as error:
            return error.code().name, time.monotonic() - began

    def kill(self, idle: bool) -> Killed:
        """Kills one process; calls come in the milliseconds around that."""
        self._settle()
        victim = random.choice(model_processes(self._door.state))
        with ThreadPoolExecutor(8) as threads:
            calls = []
            if not idle:
                calls = [threads.submit(self.call, self._long) for _ in range(self._workers)]
                time.sleep(random.uniform(0.03, 0.15))
            before = random.randrange(3)
            calls += [threads.submit(self.call, self._short, number == 1) for number in range(before)]
            with suppress(psutil.Error):
                victim.kill()
            for number in range(5 - before):
                calls.append(threads.submit(self.call, self._short, number % 2 == 1))
                time.sleep(random.expovariate(300))
            began = time.monotonic()
            while self.call(self._short)[0] != "OK" and time.monotonic() - began < _DEADLINE:
                time.sleep(0.05)
            back = time.monotonic() - began
            return Killed(idle, [call.result() for call in calls], back)

    def _settle(self) -> None:
        """Until all processes are there, and calls are answered."""
        deadline = time.monotonic() + _DEADLINE
        while len(model_processes(self._door.state)) < self._workers or self.call(self._short)[0] != "OK":
            assert time.monotonic() < deadline, self._log()
            time.sleep(0.05)

    def _log(self) -> str:
        lines = (self._door.state / log.FILE).read_text("utf-8", "replace").splitlines()
        return "\n".join(["the processes do not come back", *lines[-60:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--workers", type=int, default=3)
    chosen = parser.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory(prefix="ouzel-kills-") as place:
        folder = Path(place)
        services = ("--workers", str(chosen.workers), "--threads", "1", "--loaded-versions", "1", "--no-worker")
        with front_door(write_store(folder / "store"), folder, services=services) as door, door.channel() as channel:
            killer = Killer(door, channel, chosen.workers)
            for number in range(chosen.kills):
                kill = killer.kill(idle=number % 2 == 0)
                report.kills.append(kill)
                worst = max(kill.answers, key=lambda each: each[1])
                print(
                    f"{number} idle={kill.idle} worst {worst[0]} {worst[1]:.2f} s, back {kill.back:.2f} s", flush=True
                )
    print(report.statuses(), f"longest {report.longest:.2f} s, back within {report.back:.2f} s")
    sys.exit(0 if set(report.statuses()) <= set(ANSWERS) and report.longest < 10 and report.back < 10 else 1)


if __name__ == "__main__":
    main()
