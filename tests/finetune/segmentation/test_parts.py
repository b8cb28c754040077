"""Variation against torchvision, the loss against plain loops, mIoU against torchmetrics, intervals against draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassJaccardIndex
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as one

from ouzel.finetune.segmentation.loss import PixelLoss, pixel_losses
from ouzel.finetune.segmentation.metrics import bootstrap, confusions, mean_iou, pixel_score
from ouzel.finetune.segmentation.variation import MaskedVariation
from ouzel.finetune.variation import Pixels, Variation
from ouzel.models import Preprocessing
from ouzel_protos.label_maps import IGNORED
from support.operators import Operators

SIZES = np.array([[110, 140], [110, 110], [300, 110], [112, 133]])
PREPROCESSING = Preprocessing(3, (96, 80), 110, "bilinear", (0.4,) * 3, (0.2,) * 3)


def images(sizes: np.ndarray = SIZES) -> list[torch.Tensor]:
    """(h, w, 4) uint8: noise, and patches of five classes."""
    chance = torch.Generator().manual_seed(0)
    made = []
    for height, width in sizes.tolist():
        pixels = torch.randint(0, 256, (height, width, 3), generator=chance, dtype=torch.uint8)
        patches = torch.randint(0, 5, (1, 1, 11, 13), generator=chance).float()
        labels = torch.nn.functional.interpolate(patches, (height, width)).to(torch.uint8)[0, 0]
        made.append(torch.cat([pixels, labels[..., None]], 2))
    return made


def in_memory(made: list[torch.Tensor]) -> Pixels:
    areas = torch.tensor([each[..., 0].numel() for each in made])
    widths = torch.tensor([each.shape[1] for each in made])
    return Pixels(torch.cat([each.flatten(0, 1) for each in made]), torch.stack([areas.cumsum(0) - areas, widths], 1))


def test_image_and_label_map_are_cut_and_mirrored_together():
    made = images()
    vary = MaskedVariation(Variation(PREPROCESSING, 0.2, flip=True, color=0))
    mirrors = set()
    for step in range(6):
        views = vary.draw((0, 0, step), SIZES)
        x = vary(in_memory(made), views)
        for image, (top, left, high, wide, mirrored), varied in zip(
            made, views.table[:, :5].int().tolist(), x, strict=True
        ):
            mirrors.add(mirrored)
            where, size = (top, left, high, wide), [96, 80]
            channels = image.permute(2, 0, 1)
            nearest = one.resized_crop(channels[3:], *where, size, v2.InterpolationMode.NEAREST_EXACT)
            smooth = one.resized_crop(channels[:3], *where, size, v2.InterpolationMode.BILINEAR, antialias=True)
            if mirrored:
                nearest, smooth = nearest.flip(-1), smooth.flip(-1)
            assert torch.equal(varied[3], nearest[0].float())
            assert torch.equal(varied[:3], PREPROCESSING.normalised(smooth))
    assert mirrors == {0, 1}


def test_colours_leave_the_classes_alone():
    made = images()
    plain, coloured = (MaskedVariation(Variation(PREPROCESSING, 0.5, flip=True, color=color)) for color in (0.0, 0.9))
    first, second = (vary(in_memory(made), vary.draw((1, 0, 0), SIZES)) for vary in (plain, coloured))
    assert torch.equal(first[:, 3], second[:, 3])
    assert not torch.equal(first[:, :3], second[:, :3])


def test_the_step_looks_at_no_value_and_takes_no_more_operators_for_more_images():
    """The label map and the loss; the image's own variation is tested elsewhere."""
    from ouzel.finetune.segmentation.variation import nearest

    counted = []
    for count in (2, 16):
        sizes = np.array([[110, 120]] * count)
        pixels = in_memory(images(sizes))
        vary = Variation(PREPROCESSING, 0.3, flip=True, color=0)
        views = vary.draw((1, 0, 3), sizes)
        logits = torch.randn(count, 5, 96, 80)
        with Operators() as calls:
            labels = nearest(pixels, views, (96, 80))
            pixel_losses(logits, labels.long(), 1.0)
        assert not calls.waiting
        counted.append(sum(calls.made.values()))
    assert counted[0] == counted[1]


def plain_loss(logits: torch.Tensor, labels: torch.Tensor, dice: float) -> float:
    """Of one image (K, H, W), pixel by pixel, in float64."""
    classes = len(logits)
    entropy, pixels = 0.0, 0
    both, said, truth = [0.0] * classes, [0.0] * classes, [0] * classes
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = int(labels[y, x])
            if label == IGNORED:
                continue
            shares = torch.softmax(logits[:, y, x].double(), 0).tolist()
            pixels += 1
            entropy -= np.log(shares[label])
            truth[label] += 1
            for k in range(classes):
                said[k] += shares[k]
                both[k] += shares[k] * (k == label)
    if not pixels:
        return 0.0
    each = [(2 * both[k] + 1) / (said[k] + truth[k] + 1) for k in range(classes) if truth[k]]
    return entropy / pixels + dice * (1 - sum(each) / len(each))


@pytest.mark.parametrize("dice", [0.0, 1.0, 2.5])
def test_the_loss_is_the_plain_one(dice):
    chance = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(4, 3, 6, 5, generator=chance, dtype=torch.float64)
    labels = torch.randint(0, 3, (4, 6, 5), generator=chance)
    labels[1][labels[1] == 2] = 0  # has not all classes
    labels[2, :3] = IGNORED
    labels[3] = IGNORED
    expected = torch.tensor([plain_loss(a, b, dice) for a, b in zip(logits, labels, strict=True)], dtype=torch.float64)
    varied = torch.cat([torch.zeros(4, 3, 6, 5), labels[:, None].float()], 1)
    torch.testing.assert_close(PixelLoss(dice)(logits, varied), expected)
    torch.testing.assert_close(PixelLoss(dice)(logits[1:2], varied[1:2]), expected[1:2])  # alone as in the batch
    assert torch.equal(PixelLoss(dice).inputs(varied), varied[:, :3])


@pytest.mark.parametrize("absent", [False, True])
def test_miou_is_torchmetrics(absent):
    chance = torch.Generator().manual_seed(1)
    classes = 6
    labels = torch.randint(0, classes - absent, (7, 20, 30), generator=chance)
    predicted = torch.where(
        torch.rand(labels.shape, generator=chance) < 0.6,
        labels,
        torch.randint(0, classes - absent, labels.shape, generator=chance),
    )
    labels[torch.rand(labels.shape, generator=chance) < 0.1] = IGNORED
    each = confusions(predicted, labels, classes)
    made = pixel_score(each)
    options = {"num_classes": classes, "ignore_index": IGNORED}
    assert made.miou == pytest.approx(float(MulticlassJaccardIndex(**options)(predicted, labels)), abs=1e-6)
    theirs = MulticlassJaccardIndex(average="none", **options)(predicted, labels).tolist()
    ours = [0.0 if iou is None else iou for iou in made.ious]
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert (made.ious[-1] is None) == absent
    counts = labels != IGNORED
    assert made.pixel_accuracy == pytest.approx(float((predicted == labels)[counts].float().mean()), abs=1e-6)
    for number in range(7):
        alone = MulticlassJaccardIndex(**options)(predicted[number : number + 1], labels[number : number + 1])
        assert float(mean_iou(each[number].numpy())) == pytest.approx(float(alone), abs=1e-6)


def test_the_interval_is_that_of_images_drawn_again_and_again():
    chance = np.random.default_rng(5)
    each = chance.integers(0, 30, (12, 3, 3))
    for counts in each:
        counts[np.arange(3), np.arange(3)] += int(chance.integers(0, 200))
    plain = np.random.default_rng(9)
    values = [float(mean_iou(each[plain.integers(0, 12, 12)].sum(0))) for _ in range(4000)]
    low, high = np.percentile(values, (2.5, 97.5))
    ours = bootstrap(each, draws=4000)
    spread = high - low
    assert ours == pytest.approx((low, high), abs=0.06 * spread)
    assert ours == bootstrap(each, draws=4000)
    assert bootstrap(each[:1])[0] == pytest.approx(float(mean_iou(each[0])))
