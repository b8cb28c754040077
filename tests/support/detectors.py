"""Small detectors with random weights, made of torchvision's parts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD

from ouzel import models
from ouzel.models import Model, Preprocessing, archive
from ouzel.models.card import Card
from ouzel.models.networks.detectors import Detector, OneStage, Rules, TwoStage

SIZE = 64  # torchvision pads to multiples of 32
CLASSES = 4


class Levels(nn.Module):
    """Two levels of 8 channels, at strides of 8 and 16; the finer one takes nothing from the coarser one."""

    out_channels = 8

    def __init__(self):
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(3, 8, 5, 4, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()
        )
        self.coarse = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())

    def forward(self, x):
        fine = self.fine(x)
        return OrderedDict([("0", fine), ("1", self.coarse(fine))])


def _spread(network: nn.Module) -> nn.Module:
    """Weights such that classes and boxes differ between places, and some classes are likely."""
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=1.6 / parameter[0].numel() ** 0.5)
        elif "cls" in name or "classification" in name:
            nn.init.normal_(parameter, std=0.5)
    return network.eval().double().requires_grad_(False)


@torch.random.fork_rng()
def retinanet(seed: int = 0) -> tuple[OneStage, RetinaNet]:
    torch.manual_seed(seed)
    anchors = AnchorGenerator(((12, 16), (24, 32)), ((0.5, 1.0, 2.0),) * 2)
    theirs = RetinaNet(Levels(), CLASSES, min_size=SIZE, max_size=SIZE, anchor_generator=anchors, topk_candidates=40)
    theirs.score_thresh, theirs.detections_per_img = 0.3, 20
    theirs = _spread(_plain(theirs))
    rules = Rules(0.3, 0.5, 20, group="level", candidates=40)
    return OneStage(theirs, CLASSES, background=False, rules=rules, shared="backbone.fine").eval(), theirs


@torch.random.fork_rng()
def ssd(seed: int = 0) -> tuple[OneStage, SSD]:
    torch.manual_seed(seed)
    anchors = DefaultBoxGenerator([[2], [2]], min_ratio=0.2, max_ratio=0.6)
    theirs = SSD(
        Levels(), anchors, (SIZE, SIZE), CLASSES, score_thresh=0.2, nms_thresh=0.5, topk_candidates=15,
        detections_per_img=20, head=_ssd_head(anchors),
    )  # fmt: skip
    theirs = _spread(_plain(theirs))
    rules = Rules(0.2, 0.5, 20, group="class", candidates=15)
    return OneStage(theirs, CLASSES, background=True, rules=rules, shared="backbone.fine").eval(), theirs


def _ssd_head(anchors):
    from torchvision.models.detection.ssd import SSDHead

    return SSDHead([8, 8], anchors.num_anchors_per_location(), CLASSES)


@torch.random.fork_rng()
def faster_rcnn(seed: int = 0) -> tuple[TwoStage, FasterRCNN]:
    torch.manual_seed(seed)
    anchors = AnchorGenerator(((12, 16), (24, 32)), ((0.5, 1.0, 2.0),) * 2)
    theirs = FasterRCNN(
        Levels(), min_size=SIZE, max_size=SIZE, rpn_anchor_generator=anchors, rpn_pre_nms_top_n_test=30,
        rpn_post_nms_top_n_test=20, box_score_thresh=0.2, box_detections_per_img=15,
        box_head=_Flat(), box_predictor=_Predictor(),
    )  # fmt: skip
    theirs = _spread(_plain(theirs))
    return TwoStage(theirs, CLASSES).eval(), theirs


class _Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8 * 49, 16)

    def forward(self, x):
        return self.fc(x.flatten(1)).relu()


class _Predictor(nn.Module):
    def __init__(self):
        super().__init__()
        self.cls, self.box = nn.Linear(16, CLASSES), nn.Linear(16, 4 * CLASSES)

    def forward(self, x):
        return self.cls(x), self.box(x)


def _plain(network: nn.Module) -> nn.Module:
    """Takes input as it is: normalised, at its size."""
    network.transform.image_mean, network.transform.image_std = [0.0] * 3, [1.0] * 3
    return network


def pictures(count: int = 3, seed: int = 1) -> torch.Tensor:
    """(count, 3, SIZE, SIZE) float64: coarse noise in [0, 1]."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear")


def plain_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes, 0 of two without area."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(wide, 0) * max(high, 0)
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / both if both else 0.0


# -- as models ---------------------------------------------------------------------------------------------------------

ARCH = "ssdlite:timm:test_resnet"
LABELS = ("background", "sheep", "goat", "rock")
EDGE = 96
PREPROCESSING = Preprocessing(input_size=(EDGE, EDGE), resize=EDGE, fit="stretch")


def picture(seed: int, width: int = 192, height: int = 96) -> np.ndarray:
    """(height, width, 3) uint8 of coloured patches."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST))


@torch.random.fork_rng()
def network() -> OneStage:
    """Random weights after which objects of several classes are found."""
    torch.manual_seed(0)
    made = models.build(ARCH, len(LABELS))
    for name, parameter in made.named_parameters():
        if name.startswith("head") and parameter.ndim > 1:
            nn.init.normal_(parameter, std=2.0 / parameter[0].numel() ** 0.5)
    made.rules = replace(made.rules, score=0.3)
    return made


def archived(folder: Path, name: str = "finds", version: str = "1") -> Path:
    """The network in an archive of a store; loaded, it has its own threshold."""
    card = Card(name, version, ARCH, LABELS, PREPROCESSING, task="detection")
    return archive.write(card, network().state_dict(), folder / f"{name}.mar")


def model(detector: Detector | None = None) -> Model:
    """The same without an archive."""
    made = network() if detector is None else detector
    return Model("finds", "1", made, LABELS, PREPROCESSING, ARCH, "sha256:finds", {}, task="detection")
