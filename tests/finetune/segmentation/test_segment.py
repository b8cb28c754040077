"""Learning the class of each pixel: what is learnt, what a state holds, what comes of a base that segments already."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ouzel import models
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.finetune import Event, Example, make_recipe
from ouzel.finetune.data import split_annotated
from ouzel.finetune.segmentation import masked, masked_from_folder, segment
from ouzel.finetune.segmentation.comparison import beside
from ouzel.finetune.segmentation.metrics import mean_iou
from ouzel.finetune.segmentation.network import head_tensors
from ouzel.finetune.segmentation.report import make_segmentation_report, write_segmentation_report
from ouzel.models import Model, Preprocessing
from ouzel.task_names import SEGMENTATION
from ouzel.worker.kinds import checkpoint
from ouzel_protos import label_maps
from support.masked import CLASSES, files, png, scene

FAST = {"frozen_epochs": 1, "epochs": 2, "batch_size": 4}


@pytest.fixture(scope="module")
def tiny() -> Model:
    """470 k random parameters, BatchNorms, inputs of 32 x 32."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.build("timm:test_resnet", num_classes=4)
    preprocessing = Preprocessing(input_size=(32, 32), resize=36)
    return Model("tiny", "1", network, ("a", "b", "c", "d"), preprocessing, "timm:test_resnet", "sha256:tiny", {})


def shapes(count: int = 16, first: int = 0) -> tuple[Example, ...]:
    made = []
    for number in range(first, first + count):
        pixels, labels = (png(scene(number)[0]), label_maps.write(scene(number)[1]))
        made.append(masked(f"{number}.png", lambda pixels=pixels: pixels, lambda labels=labels: labels))
    return tuple(made)


@pytest.fixture(scope="module")
def learnt(tiny: Model) -> Any:
    recipe = make_recipe("segment", {"frozen_epochs": 2, "epochs": 14, "batch_size": 8, "spread": 1.0})
    return segment(tiny, shapes(48), CLASSES, recipe, seed=1)


@pytest.fixture
def every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ouzel.finetune.loop.TELL_EVERY", 0)


def distance(a: Any, b: Any) -> float:
    pairs = zip(a.network.state_dict().values(), b.network.state_dict().values(), strict=True)
    return max(float((x.double() - y.double()).abs().max()) for x, y in pairs)


def test_it_learns_and_its_figures_are_those_of_its_network(learnt: Any) -> None:
    assert learnt.test.miou > 0.6
    assert learnt.test.interval[0] <= learnt.test.miou <= learnt.test.interval[1]
    counts = np.zeros((3, 3), int)
    for example in learnt.split.test:
        number = int(example.name.removesuffix(".png"))
        pixels, labels = scene(number)
        image = learnt.preprocessing(models.decode(png(pixels)))
        predicted = learnt.network(image[None])[0].argmax(0).numpy()
        from PIL import Image

        seen = np.asarray(Image.fromarray(labels).resize((32, 32), Image.Resampling.NEAREST))
        np.add.at(counts, (seen, predicted), 1)
    assert learnt.test.confusion == tuple(map(tuple, counts.tolist()))
    assert learnt.test.miou == pytest.approx(float(mean_iou(counts)))
    assert learnt.arch == "unet:timm:test_resnet"
    assert learnt.preprocessing.resize == 32  # nothing is cut off
    best = max(learnt.history, key=lambda row: (row["miou"], -row["loss"]))
    assert learnt.chosen == ("decoder" if best["epoch"] <= 2 else "all layers")


@pytest.mark.usefixtures("every_step_is_told")
@pytest.mark.parametrize("change", [{}, {"pretrained": False, "train_batchnorm": True, "validation": 0.0}])
def test_a_run_that_was_stopped_anywhere_ends_as_one_that_was_not(tiny: Model, change: dict[str, Any]) -> None:
    recipe = make_recipe("segment", FAST | {"color": 0.2} | change)
    states: list[bytes] = []

    def remember(event: Event) -> None:
        if event.state is not None:
            states.append(checkpoint.dump(event.state()))  # as a file, that nothing of the run hangs on

    whole = segment(tiny, shapes(), CLASSES, recipe, seed=3, on_event=remember)
    assert len(states) > 5
    for state in (states[0], states[len(states) // 2], states[-1]):
        resumed = segment(tiny, shapes(), CLASSES, recipe, seed=3, resume=checkpoint.read(state))
        assert distance(whole, resumed) <= 1e-5
        assert (resumed.test, resumed.chosen) == (whole.test, whole.chosen)
        assert [row.get("miou") for row in resumed.history] == [row.get("miou") for row in whole.history]


@pytest.mark.usefixtures("every_step_is_told")
def test_first_the_decoder_alone_then_everything_moves(tiny: Model) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def watch(event: Event) -> None:
        if event.phase == "training" and event.state is not None:
            network = event.state()["training"]["network"]
            seen.append({name: each.clone() for name, each in network.items()})

    recipe = make_recipe("segment", FAST | {"epochs": 1})
    made = segment(tiny, shapes(), CLASSES, recipe, on_event=watch)
    head = head_tensors(made.network)
    base = tiny.network.state_dict()
    body = [name for name in seen[0] if name not in head]
    half = len(seen) // 2
    assert all(torch.equal(seen[half - 1][name], base[name.removeprefix("backbone.")]) for name in body)
    moved = [name for name in head if not torch.equal(seen[0][name], seen[half - 1][name])]
    assert any("running_mean" in name for name in moved)  # the decoder's statistics are new
    changed = [name for name in body if not torch.equal(seen[-1][name], base[name.removeprefix("backbone.")])]
    assert changed
    assert not any("running" in name for name in changed)  # those of the base are kept
    frozen = segment(tiny, shapes(), CLASSES, make_recipe("segment", FAST | {"epochs": 0}))
    state = frozen.network.state_dict()
    assert all(torch.equal(state[name], base[name.removeprefix("backbone.")]) for name in body)
    assert frozen.chosen == "decoder"


def test_a_segmentation_learns_on_and_keeps_its_last_layer_for_the_same_classes(tiny: Model, learnt: Any) -> None:
    changes = {"network": learnt.network, "labels": CLASSES, "arch": learnt.arch, "task": SEGMENTATION}
    base = dataclasses.replace(tiny, preprocessing=learnt.preprocessing, digest="sha256:second", **changes)
    slow = {"frozen_epochs": 0, "epochs": 1, "learning_rate": 1e-8, "head_rate": 1e-8, "validation": 0.0}
    same = segment(base, shapes(12, 100), CLASSES, make_recipe("segment", slow))
    assert same.test.miou > 0.5  # as learnt
    other = segment(base, shapes(12, 100), ("background", "box", "disc"), make_recipe("segment", slow))
    assert other.test.miou < same.test.miou  # its last layer is random
    before = {name: each for name, each in learnt.network.state_dict().items() if not name.startswith("head.")}
    after = other.network.state_dict()
    assert all(torch.allclose(each, after[name], atol=1e-5) for name, each in before.items())  # with its statistics


def test_without_images_to_choose_by_all_are_learnt_from_and_the_last_weights_taken(tiny: Model) -> None:
    recipe = make_recipe("segment", FAST | {"validation": 0.0})
    made = segment(tiny, shapes(10), CLASSES, recipe)
    assert [len(part) for part in (made.split.train, made.split.validation, made.split.test)] == [8, 0, 2]
    assert len(made.history) == 3
    assert "miou" not in made.history[0]


def test_splits_are_those_that_are_given_or_those_of_the_recipe() -> None:
    recipe = make_recipe("segment", {})
    parts = split_annotated(shapes(20), recipe, 5)
    assert [len(each) for each in (parts.train, parts.validation, parts.test)] == [13, 3, 4]
    assert parts == split_annotated(shapes(20), recipe, 5)
    assert parts != split_annotated(shapes(20), recipe, 6)
    given = [dataclasses.replace(each, split="test" if n < 3 else "train") for n, each in enumerate(shapes(10))]
    parts = split_annotated(given, recipe, 5)
    assert [each.name for each in parts.test] == ["0.png", "1.png", "2.png"]
    grouped = [dataclasses.replace(each, group=f"group {n % 4}") for n, each in enumerate(shapes(20))]
    parts = split_annotated(grouped, recipe, 5)
    groups = [{each.group for each in part} for part in (parts.train, parts.validation, parts.test)]
    assert not (groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2])
    with pytest.raises(InvalidArgument, match="there is no test image among 1"):
        split_annotated(shapes(1), recipe)


def test_what_cannot_be_learnt_is_refused(tiny: Model) -> None:
    with pytest.raises(InvalidArgument, match=r"parameters\.epochs: 0, and parameters\.frozen_epochs is 0"):
        segment(tiny, shapes(4), CLASSES, make_recipe("segment", {"epochs": 0, "frozen_epochs": 0}))
    with pytest.raises(InvalidArgument, match="segment knows only"):
        make_recipe("segment", {"balance": True})
    wrong = masked("bad.png", shapes(1)[0].read, lambda: label_maps.write(np.full((40, 40), 9, np.uint8)), "train")
    with pytest.raises(InvalidArgument, match=r"data: bad\.png: mask: has the class 9 at x = 0, y = 0 .* 3 classes"):
        segment(tiny, [*shapes(8), wrong], CLASSES, make_recipe("segment", FAST))
    blind = dataclasses.replace(tiny, arch="torchvision:squeezenet1_0")
    with pytest.raises(FailedPrecondition, match="gives no features to decode"):
        segment(blind, shapes(8), CLASSES, make_recipe("segment", FAST))


def test_a_folder_is_read_as_examples(tmp_path: Path) -> None:
    for name, content in files(4).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    examples, classes = masked_from_folder(tmp_path)
    assert classes == CLASSES
    assert [each.name for each in examples] == ["0.png", "1.png", "2.png", "3.png"]
    assert len({each.sha256 for each in examples}) == 4
    (tmp_path / "masks/0.png").unlink()
    with pytest.raises(InvalidArgument, match=r"data: images without a mask: '0\.png'"):
        masked_from_folder(tmp_path)


def test_the_same_image_with_two_masks_is_two_examples() -> None:
    first, second = (label_maps.write(np.full((40, 40), value, np.uint8)) for value in (0, 1))
    read = shapes(1)[0].read
    assert masked("a", read, lambda: first).sha256 != masked("a", read, lambda: second).sha256


def test_the_report_shows_the_worst_images_and_what_was_looked_at(tiny: Model, learnt: Any, tmp_path: Path) -> None:
    changes = {"network": learnt.network, "labels": CLASSES, "arch": learnt.arch, "task": SEGMENTATION}
    served = dataclasses.replace(tiny, preprocessing=learnt.preprocessing, name="shapes", **changes)
    same = beside(served, learnt)
    assert same.miou == pytest.approx(learnt.test.miou)
    assert same.gain == pytest.approx((0, 0, 0))
    worse = beside(dataclasses.replace(served, network=models.build(learnt.arch, 3)), learnt)
    assert worse.gain is not None
    assert 0 < worse.gain[1] <= worse.gain[0] <= worse.gain[2]
    assert "other classes" in beside(dataclasses.replace(served, labels=("x", "y", "z")), learnt).problem
    assert beside(dataclasses.replace(tiny, labels=CLASSES), learnt).problem == "it is a classifier"
    report = make_segmentation_report(tiny, learnt, worse)
    each = mean_iou(learnt.counts)
    assert [one.miou for one in report.worst] == sorted(each[each < 1].tolist())[:12]
    assert report.worst[0].picture.shape == (32, 32, 3)
    assert len({one.looks.tobytes() for one in report.worst}) == len(report.worst)
    page = write_segmentation_report(report, tmp_path, title="shapes@2").read_text()
    assert "<h1>shapes@2</h1>" in page
    assert "what it looked at for" in page
    figures = json.loads((tmp_path / "report.json").read_text())
    assert figures["miou"] == learnt.test.miou
    assert figures["served_miou"] == worse.miou
    assert len(json.loads((tmp_path / "images.json").read_text())) == learnt.test.images


def test_two_workers_give_what_one_gives(tiny):
    """Also the BatchNorms of the new decoder, which learn."""
    recipe = make_recipe("segment", FAST | {"epochs": 1, "frozen_epochs": 1})
    one, two = (segment(tiny, shapes(12), CLASSES, recipe, seed=3, workers=count) for count in (1, 2))
    assert [row["loss"] for row in two.history] == pytest.approx([row["loss"] for row in one.history], rel=1e-2)
    assert two.test.miou == pytest.approx(one.test.miou, abs=0.02)
