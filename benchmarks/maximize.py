"""Activation maximization against torch-lucent: 16 channels of an early, a middle and the last layer.

Both seek the same channels by Fourier coefficients of decorrelated colours, under random views, with the same size and
number of steps, for networks with random weights. Lucent is measured as its documentation uses it, one channel after
the other, where it enlarges smaller images to 224 pixels before they enter the network; without that; and without that
and with all channels in one batch. Each has run once before its first measurement: libraries are loaded then, and
convolutions are planned. They take turns within one run; on a GPU, clocks stop when the device is done. Where Lucent is
not installed, Ouzel is measured alone.

    python benchmarks/maximize.py [--models vgg16 resnet18] [--steps 6] [--rounds 2] [--size 128] [--device cpu]
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import os
import threading
import time
import warnings
from collections.abc import Callable
from datetime import date

import psutil
import torch
import torchvision
from torch import nn

from ouzel.maximize import Channel, ClassLogit, FourierRecipe, maximize

CHANNELS = 16
LAYERS = {
    "vgg16": {"early": "features.7", "middle": "features.17", "last": "classifier.6"},
    "resnet18": {"early": "layer1", "middle": "layer3", "last": "fc"},
}


def ours(network: nn.Module, layer: str, last: bool, steps: int, size: int) -> Callable[[], object]:
    nodes = [ClassLogit(c) if last else Channel(layer, c) for c in range(CHANNELS)]
    return lambda: maximize(network, nodes, recipe=FourierRecipe(steps=steps), size=(size, size))


def lucent(
    network: nn.Module, layer: str, steps: int, size: int, *, enlarge: bool = False, together: bool = False
) -> Callable[[], object]:
    from lucent.optvis import objectives, param, render  # a peer, which may be missing

    name = layer.replace(".", "_")
    quiet = {
        "thresholds": (steps,),
        "show_image": False,
        "progress": False,
        "fixed_image_size": None if enlarge else size,
    }

    def one_by_one() -> None:
        for channel in range(CHANNELS):
            render.render_vis(network, objectives.channel(name, channel), lambda: param.image(size), **quiet)

    def batch() -> None:
        objective = sum(
            (objectives.channel(name, c, batch=c) for c in range(1, CHANNELS)), objectives.channel(name, 0, 0)
        )
        render.render_vis(network, objective, lambda: param.image(size, batch=CHANNELS), **quiet)

    return batch if together else one_by_one


class Peak:
    """The most memory that was held inside the context, above what was held on entering, in MiB.

    Of the process; on a GPU, of torch's allocator.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __enter__(self) -> Peak:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._start = torch.cuda.memory_allocated(self._device)
            return self
        self._process = psutil.Process(os.getpid())
        self._start = self._most = self._process.memory_info().rss
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._device.type == "cuda":
            self.mib = (torch.cuda.max_memory_allocated(self._device) - self._start) / 2**20
            return
        self._done.set()
        self._thread.join()
        self.mib = (self._most - self._start) / 2**20

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self._most = max(self._most, self._process.memory_info().rss)


def seconds(job: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    job()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    where_to = torch.device(chosen.device)
    device = torch.cuda.get_device_name() if chosen.device.startswith("cuda") else f"{psutil.cpu_count()} cores"
    peer = importlib.util.find_spec("lucent") is not None
    told = "torch-lucent 0.1.8" if peer else "without torch-lucent, which is not installed"
    print(f"{date.today()}, {device}, torch {torch.__version__}, {told}; random weights, {CHANNELS} channels,")
    print(f"{chosen.steps} steps at {chosen.size} px\n")
    print(
        "| model | layer | ouzel s | lucent / ouzel | not enlarged / ouzel | in one batch / ouzel | peak MiB of each |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in chosen.models:
        torch.manual_seed(0)
        network = getattr(torchvision.models, name)(weights=None).eval().to(chosen.device)
        for where, layer in LAYERS[name].items():
            contenders = {"ouzel": ours(network, layer, where == "last", chosen.steps, chosen.size)}
            if peer:
                contenders |= {
                    "lucent": lucent(copy.deepcopy(network), layer, chosen.steps, chosen.size, enlarge=True),
                    "same size": lucent(copy.deepcopy(network), layer, chosen.steps, chosen.size),
                    "batch": lucent(copy.deepcopy(network), layer, chosen.steps, chosen.size, together=True),
                }
            times: dict[str, list[float]] = {each: [] for each in contenders}
            peaks = dict.fromkeys(contenders, 0.0)
            for job in contenders.values():
                seconds(job, where_to)
            for _ in range(chosen.rounds):
                for each, job in contenders.items():
                    with Peak(where_to) as peak:
                        times[each].append(seconds(job, where_to))
                    peaks[each] = max(peaks[each], peak.mib)
            best = {each: min(spent) for each, spent in times.items()}
            ratios = " | ".join(
                f"{best[each] / best['ouzel']:.1f}" if peer else "-" for each in ("lucent", "same size", "batch")
            )
            memory = ", ".join(f"{peaks[each]:.0f}" for each in contenders)
            print(f"| {name} | {where}: {layer} | {best['ouzel']:.2f} | {ratios} | {memory} |", flush=True)


if __name__ == "__main__":
    main()
