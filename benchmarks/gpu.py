"""All that is worth measuring on a GPU, in under six minutes: each benchmark with what fits its share of the time.

    exactness   maps of every method in every precision against float64
    library     maps against captum, pytorch-grad-cam and the floor of one forward and one backward pass
    decoding    JPEGs decoded on the device: its time, and how far inputs and maps deviate
    served      TorchServe with 1 to 128 clients: share of the in-process limit, and where the time of an answer goes
    throughput  images per second that are trained on, in every precision
    finetune    fine-tuning by phase
    jobs        one job of each kind on a worker of its own, from CreateJob to its end
    maximize    activation maximization against Lucent

Each part is a process of its own. One that fails, takes too long, or lacks a peer's package costs the others nothing.
Every process that was started has ended when this one has, also if it is killed. Nothing is downloaded or installed;
weights are random, from a seed. Output is printed as it comes, and what each part came to is the table at the end.

Exit status 1: a part did not end well.

    python benchmarks/gpu.py [--device cuda] [--parts exactness library ...] [--quick]
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from ending import all_ended

LIMIT = 350.0  # s for everything


@dataclass(frozen=True)
class Part:
    """A benchmark, and what it is asked for.

    Attributes:
        script: Beside this one.
        words: Its arguments, beside --device.
        quick: Those that only show that it works, in seconds on a CPU.
        seconds: That it may take.
    """

    script: str
    words: str
    quick: str
    seconds: float


PARTS: Mapping[str, Part] = {
    "exactness": Part("exactness.py", "--models resnet50", "--quick", 40),
    "decoding": Part("decoding.py", "", "--quick", 25),
    "library": Part(
        "saliency.py", "--models resnet50 --rounds 9", "--models efficientnet-lite0 --batches 1 --rounds 1", 50
    ),
    "served": Part(
        "explain.py",
        "--models resnet50 --clients 1 8 32 128 --seconds 2 --rounds 1 --workers auto --warm-up 4000",
        "--models efficientnet-lite0 --clients 1 --seconds 1 --rounds 1 --warm-up 50",
        80,
    ),
    "throughput": Part("finetune.py", "--throughput", "--throughput --size 32 --batch 4", 50),
    # fastai, which needs minutes, is left to `make bench`.
    "finetune": Part("finetune.py", "--rounds 1 --alone", "--rounds 0 --alone --data textures --size 48", 50),
    "jobs": Part("kinds.py", "", "--quick", 50),
    "maximize": Part(
        "maximize.py", "--models resnet18 --steps 32", "--models resnet18 --steps 2 --rounds 1 --size 64", 30
    ),
}


@dataclass(frozen=True)
class Result:
    """How a part ended.

    Attributes:
        code: Exit status; negative for a signal.
        seconds: That it took.
        last: The last line that it printed, which says what it came to.
    """

    code: int
    seconds: float
    last: str

    def __str__(self) -> str:
        outcome = "ended well" if self.code == 0 else "took too long" if self.code < 0 else f"failed ({self.code})"
        return f"{outcome} | {self.seconds:.0f} | {self.last.strip('| ').replace(' | ', ', ')}"


def run(part: Part, words: str, device: str, seconds: float, environment: Mapping[str, str]) -> Result:
    """Run a part to its end, or to the end of its time; what it prints is printed at once."""
    command = [sys.executable, "-u", str(Path(__file__).with_name(part.script)), "--device", device, *words.split()]
    start = time.monotonic()
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    late = threading.Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))
    late.start()
    last = ""
    try:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
        code = process.wait()
    finally:
        late.cancel()
    return Result(code, time.monotonic() - start, last)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--quick", action="store_true", help="Small networks, few rounds: whether it works, on a CPU in minutes."
    )
    chosen = parser.parse_args()
    what = torch.cuda.get_device_name(chosen.device) if chosen.device.startswith("cuda") else f"{os.cpu_count()} cores"
    begun = time.monotonic()
    results: dict[str, Result] = {}
    with all_ended() as environment:
        for name in chosen.parts:
            part = PARTS[name]
            left = LIMIT if chosen.quick else min(part.seconds, LIMIT - (time.monotonic() - begun))
            print(f"\n## {name}\n", flush=True)
            words = part.quick if chosen.quick else part.words
            results[name] = run(part, words, chosen.device, left, environment)
    print(f"\n{date.today()}, {what}, torch {torch.__version__}, {time.monotonic() - begun:.0f} s in all\n")
    print("| part | | s | what it came to |\n|---|---|---|---|")
    for name, result in results.items():
        print(f"| {name} | {result} |")
    return 1 if any(result.code for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
