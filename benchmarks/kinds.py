"""One job of each kind, from CreateJob to its end, on services that are started for it.

Seconds are taken from the times of the job's events: until a process has claimed it, until its first step is done, and
until its end. The network has random weights, and the pictures are drawn: it is the way through the services that is
measured, not what comes out.

    python benchmarks/kinds.py [--device cuda] [--quick]
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from ouzel import models, serving
from ouzel.models import archive
from ouzel.serving import Ports, ServingOptions
from ouzel_client import ClassLogit, Client, Job, ProgressEvent, StateEvent

ARCH, QUICK = "timm:tf_efficientnet_lite0", "timm:test_resnet"
MODEL, TUNED = "base", "tuned"
IMAGES, AUDITED, EDGE = 60, 4, 160  # of each of two classes
WAIT = 240.0  # s


def draw(folder: Path, images: int) -> None:
    """Discs and squares on noise, so many of each."""
    chance = np.random.default_rng(0)
    down, across = np.mgrid[:EDGE, :EDGE]
    for label in ("disc", "square"):
        (folder / label).mkdir(parents=True)
        for number in range(images):
            pixels = chance.integers(0, 120, (EDGE, EDGE, 3), dtype=np.uint8)
            y, x = chance.integers(40, EDGE - 40, 2)
            inside = (
                np.hypot(down - y, across - x) < 30
                if label == "disc"
                else np.maximum(abs(down - y), abs(across - x)) < 27
            )
            pixels[inside] = 130 + chance.integers(0, 120, 3, dtype=np.uint8)
            out = io.BytesIO()
            Image.fromarray(pixels).save(out, "PNG")
            (folder / label / f"{number}.png").write_bytes(out.getvalue())


def row(kind: str, start: Callable[[], Job]) -> str:
    """The line of a job: what it took until its claim, its first step and its end."""
    job = start()
    events = list(job.events())
    job.result(WAIT)  # raises what the job ended with
    claimed = next(each.time for each in events if isinstance(each, StateEvent) and each.state == "RUNNING")
    first = next(each.time for each in events if isinstance(each, ProgressEvent) and each.progress.step)
    seconds = [(moment - events[0].time).total_seconds() for moment in (claimed, first, events[-1].time)]
    return f"| {kind} | {' | '.join(f'{each:.2f}' for each in seconds)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="A tiny network: whether this script works.")
    chosen = parser.parse_args()
    if chosen.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # of the services
    print(f"{date.today()}, {chosen.device}, torch {torch.__version__}\n")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        arch = QUICK if chosen.quick else ARCH
        torch.manual_seed(0)
        network = models.build(arch)
        save_file(network.state_dict(), folder / "weights.safetensors")
        (folder / "store").mkdir()
        archive.create(MODEL, arch, folder / "weights.safetensors", "imagenet", folder / "store")
        draw(folder / "drawn", IMAGES)
        draw(folder / "audited", AUDITED)
        os.environ["OUZEL_STATE"] = str(folder / "state")  # where the client looks for the services
        options = ServingOptions(store=folder / "store", state=folder / "state", ports=Ports.free(), worker=True)
        with serving.start(options), Client() as client:
            dataset, audited = (client.datasets.upload(folder / name) for name in ("drawn", "audited"))
            steps = 4 if chosen.quick else 32
            print("| kind | claimed, s | first step, s | ended, s |\n|---|---|---|---|", flush=True)
            for kind, start in {
                "maximize": lambda: client.jobs.maximize(
                    MODEL, [ClassLogit(0), ClassLogit(1)], parameters={"steps": steps}, size=(128, 128)
                ),
                "finetune": lambda: client.jobs.finetune(MODEL, dataset, name=TUNED, recipe="lp_ft", image_size=96),
                "audit": lambda: client.jobs.audit(audited, model=TUNED),
            }.items():
                print(row(kind, start), flush=True)
    print("\nall jobs ended with their results")


if __name__ == "__main__":
    main()
