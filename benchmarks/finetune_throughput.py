"""Images per second of training steps of ResNet-50: of `benchmarks/finetune.py --throughput`."""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import torch

from ouzel import models
from ouzel.finetune.recipes import make_recipe
from ouzel.finetune.schedule import make_optimizer, set_rate
from ouzel.finetune.steps import Stepper
from ouzel.finetune.variation import Pixels, variation
from ouzel.models import Preprocessing
from ouzel.precision_names import PRECISIONS

CLASSES = 100
IMAGES = 512
ROUNDS, SECONDS = 3, 3.0


def measure(device: str, size: int, batch: int) -> None:
    """Steps of all layers: variation, both passes, AdamW. The precisions take turns."""
    place = torch.device(device)
    print(f"; ResNet-50, {size} px, batches of {batch}, steps of all layers\n")
    recipe = make_recipe("lp_ft", {"batch_size": batch})
    preprocessing = Preprocessing(input_size=(size, size), resize=size * 256 // 224)
    sizes = np.array([[preprocessing.resize, preprocessing.resize * 4 // 3]] * IMAGES)
    chance = torch.Generator(place).manual_seed(0)
    values = torch.randint(0, 256, (int(sizes.prod(1).sum()), 3), generator=chance, device=place, dtype=torch.uint8)
    areas = sizes.prod(1)
    places = torch.from_numpy(np.stack([areas.cumsum() - areas, sizes[:, 1]], 1)).to(place)
    classes = torch.randint(0, CLASSES, (IMAGES,), generator=chance, device=place)
    runs = {}
    for precision in PRECISIONS:
        torch.manual_seed(0)
        network = models.build("torchvision:resnet50", num_classes=CLASSES).to(place)
        network = network.to(memory_format=torch.channels_last).requires_grad_(True)
        stepper = Stepper(network, variation(recipe, preprocessing), recipe, None, batch, precision)
        optimizer = make_optimizer(network, {"fc.weight", "fc.bias"}, recipe, all_layers=True)
        set_rate(optimizer, recipe, 1e-4)

        def step(number: int, stepper: Stepper = stepper, optimizer: torch.optim.Optimizer = optimizer) -> None:
            rows = torch.arange(batch, device=place).add_(number * batch).remainder_(IMAGES)
            stepper.take(
                optimizer, Pixels(values, places[rows]), sizes[:1].repeat(batch, 0), classes[rows], (0, 1, number)
            )

        runs[precision] = (stepper, step)
        for number in range(3):
            step(number)
        stepper.read()
    speeds: dict[str, list[float]] = {precision: [] for precision in runs}
    for _ in range(ROUNDS):
        for precision, (stepper, step) in runs.items():
            start, done = time.perf_counter(), 0
            while time.perf_counter() - start < SECONDS:
                for _ in range(5 if place.type == "cuda" else 1):
                    step(done)
                    done += 1
                assert not stepper.read().wrong  # waits for the device
            speeds[precision].append(done * batch / (time.perf_counter() - start))
    print("| precision | images/s | of each round |")
    print("|---|---|---|")
    for precision, told in speeds.items():
        print(f"| {precision} | {median(told):.0f} | {', '.join(f'{each:.0f}' for each in told)} |")
