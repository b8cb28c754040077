"""Sheep on grass and goats on gravel: a network that is right for the wrong reason, found out and mended.

    python examples/lecture/sheep_and_goats.py    # docs/lecture/sheep_and_goats.jpg

A head is learnt on the features of EfficientNet-Lite0 at 160 pixels. An audit then tells what each prediction rests on.
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from common import FAILED, Tile, as_model, imagenet_network, main, sheet
from PIL import Image

from ouzel.audit import Claim, ModelMaps, ModelPredictor, Pool, Scene, audit_prediction
from ouzel.finetune import Example, finetune, make_recipe
from ouzel.grounding import repair
from ouzel.models import Model
from ouzel.saliency import Explainer, Saliency
from ouzel_protos import overlay

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from support import flock

EDGE = 160  # pixels, of the drawn images and of the network's input
LAYER = "blocks.4"  # of the maps: 10 x 10 places
SWAPPED = {"sheep": "gravel", "goat": "grass"}
GOOD = "#2e7d32"


def draw(path: Path, train: int = 60, test: int = 40, shown: int = 3, per_class: int = 120) -> None:
    own = [example(kind, flock.OWN[kind], n, "train") for kind in flock.KINDS for n in range(train)]
    own += [example(kind, flock.OWN[kind], n, "test") for kind in flock.KINDS for n in range(1000, 1000 + test)]
    base = imagenet_network()
    taught = finetune(base, own, "feature_extractor", image_size=EDGE)
    before = as_model(base, taught)
    mended = repair(before, own, make_recipe("debias", {"per_class": per_class}), image_size=EDGE)
    after = as_model(base, mended)
    asked = {
        "learnt from": [(each.label, picture(each)) for each in own if each.split == "train"],
        "same ground": [(each.label, picture(each)) for each in own if each.split == "test"],
    }
    swapped = {kind: [flock.scene(kind, SWAPPED[kind], (7, n)) for n in range(test)] for kind in flock.KINDS}
    asked |= {f"{kind} on {SWAPPED[kind]}": [(kind, a) for a, _ in many] for kind, many in swapped.items()}
    right = {name: [accuracy(ModelPredictor(m), many) for m in (before, after)] for name, many in asked.items()}
    for name, (old, new) in right.items():
        print(f"{name}: right on {old:.0%}, mended {new:.0%}", flush=True)

    pool = Pool([scene(each) for each in own if each.split == "train"])
    rows = [
        [Tile(np.asarray(picture(own[n])), f"learnt: {own[n].label}") for n in (0, 1, 2, train, train + 1, train + 2)]
    ]
    for model in (before, after):
        rows.append([])
        for image, mask in swapped["goat"][:shown]:
            rows[-1] += judged(model, "goat", image, mask, pool)
            print(rows[-1][-1].caption, flush=True)
    old, new = right[f"goat on {SWAPPED['goat']}"]
    names = ("training images", f"goats on grass:\n{old:.0%} right", f"after the repair:\n{new:.0%} right")
    sheet(path, rows, names=names, inches=1.4)


def judged(model: Model, kind: str, image: Image.Image, mask: Image.Image, pool: Pool) -> list[Tile]:
    """A test image with what the model says of it, and what it looked at, with the verdict of the audit."""
    explainer = Explainer(model)
    predictor = ModelPredictor(model, explainer)
    maps = ModelMaps(model, model.labels, "grad_cam", explainer=explainer)
    said = predictor(predictor.view.picture(image)[None])[0]
    label = model.labels[int(said.argmax())]
    evidence = audit_prediction(predictor, maps, image, Claim(label, np.asarray(mask) > 127), pool=pool)
    (why,) = explainer(model.preprocessing(image)[None], [Saliency("grad_cam", layer=LAYER)]).maps
    drawn = overlay.draw(image, why.values[0].numpy(), method=why.method)
    colour = GOOD if label == kind else FAILED
    caption = evidence.verdict.replace("_", " ")
    return [Tile(np.asarray(image), f"called {label}, p = {said.max():.2f}", colour), Tile(np.asarray(drawn), caption)]


def scene(each: Example) -> Scene:
    mask = np.asarray(Image.open(io.BytesIO(each.read_mask()))) > 127
    return Scene(each.name, each.label, np.asarray(picture(each)), mask)


def example(kind: str, ground: str, number: int, split: str) -> Example:
    image, mask = (png(each) for each in flock.scene(kind, ground, (1, flock.KINDS.index(kind), number)))
    digest = hashlib.sha256(image).hexdigest()
    return Example(f"{kind} {number}", kind, digest, lambda: image, split, read_mask=lambda: mask)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def picture(each: Example) -> Image.Image:
    return Image.open(io.BytesIO(each.read()))


def accuracy(predictor: ModelPredictor, images: Sequence[tuple[str, Image.Image]]) -> float:
    with torch.no_grad():
        answers = predictor(np.stack([predictor.view.picture(image) for _, image in images]))
    said = [predictor.labels[index] for index in answers.argmax(1)]
    return float(np.mean([one == label for one, (label, _) in zip(said, images, strict=True)]))


if __name__ == "__main__":
    main(draw, "sheep_and_goats.jpg", __doc__)
