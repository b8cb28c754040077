"""torchvision's detectors as networks that answer one tensor, from which nothing has been chosen yet.

torchvision's own answer is a list of boxes after thresholds and suppression; of what these drop, and of which place of
the network gave a box, it says nothing. Here a network answers all its candidates, (B, R, N, 1):

    channels 0 .. K-1       logits of the classes
    channels K .. R-2       edges left, top, right, bottom as shares of the input's width and height, in [0, 1]; four
                            for all classes, or four for each class
    channel R-1             the level of the feature pyramid; -1 where there is no candidate

Layers have the names that they have in torchvision. What is chosen from the candidates is `ouzel.models.detection`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class Rules:
    """How detections are chosen from candidates.

    Attributes:
        score: Candidates whose probability is not above this are dropped.
        overlap: Of boxes of one class that overlap more (IoU), the less probable are dropped.
        most: Detections of one image.
        group: "class" or "level": of each, the best `candidates` take part; "" takes all.
        candidates: Of a group.
        smallest: Pixels along an edge; smaller boxes are dropped.
    """

    score: float
    overlap: float
    most: int
    group: str = ""
    candidates: int = 0
    smallest: float = 0.0


class Detector(nn.Module):
    """What all detectors have.

    Attributes:
        classes: K.
        background: Whether class 0 is that of no object, and the probabilities of a candidate add up to 1; else each
            class has its own sigmoid.
        rules: How detections are chosen.
        shared: Of a detector whose class scores have derivatives, the part in which every candidate's score has its
            origin: there methods look at layers. "" of one whose scores have none.
    """

    classes: int
    background: bool
    rules: Rules
    shared: str = ""


class OneStage(Detector):
    """SSD, SSDlite or RetinaNet: each place of a fixed grid of anchors has class logits and a box.

    Args:
        network: Of torchvision.
        classes: K.
        background: See `Detector`.
        rules: See `Detector`.
        shared: See `Detector`.
    """

    def __init__(self, network: Any, classes: int, *, background: bool, rules: Rules, shared: str) -> None:
        super().__init__()
        self.backbone, self.head = network.backbone, network.head
        self.anchor_generator = network.anchor_generator  # has no parameters
        self.coder = network.box_coder
        self.classes, self.background, self.rules, self.shared = classes, background, rules, shared

    def heads(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor, list[int]]:
        """Outputs of the heads, anchors (N, 4) in pixels of the input, and the candidates of each level."""
        features = self.backbone(x)
        levels = [features] if isinstance(features, Tensor) else list(features.values())
        outputs = self.head(levels)
        anchors = self.anchor_generator(_listed(x), levels)[0]
        places = [level.shape[-2] * level.shape[-1] for level in levels]
        each = len(anchors) // sum(places)  # those of SSDs differ between levels, and nobody asks
        return outputs, anchors, [each * count for count in places]

    def forward(self, x: Tensor) -> Tensor:
        """The candidates."""
        outputs, anchors, counts = self.heads(x)
        logits, deltas = outputs["cls_logits"].to(x.dtype), outputs["bbox_regression"].detach().to(x.dtype)
        return self.answer(logits, deltas, anchors, counts, (x.shape[-2], x.shape[-1]))

    def answer(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, counts: list[int], size: tuple[int, int]
    ) -> Tensor:
        """The candidates, of what `heads` has said of inputs of a size (height, width)."""
        rows = len(logits)
        boxes = self.coder.decode_single(deltas.flatten(0, 1), anchors.repeat(rows, 1)).unflatten(0, (rows, -1))
        levels = logits.new_zeros(rows, logits.shape[1], 1)
        if self.rules.group == "level":
            told = torch.arange(len(counts), device=logits.device)
            levels = levels + told.repeat_interleave(torch.tensor(counts, device=logits.device))[None, :, None]
        return torch.cat([logits, _shares(boxes, size), levels], dim=2).transpose(1, 2)[..., None]


class TwoStage(Detector):
    """Faster R-CNN: a first stage proposes regions, a second one tells what each is.

    Its class scores have no derivative that tells how they depend on the image: the region that the second stage looks
    at moves with the image, in steps where other regions are proposed, and no gradient passes there.

    Args:
        network: Of torchvision.
        classes: K, the background included.
    """

    def __init__(self, network: Any, classes: int) -> None:
        super().__init__()
        self.backbone, self.rpn, self.roi_heads = network.backbone, network.rpn, network.roi_heads
        heads = network.roi_heads
        self.classes, self.background = classes, True
        self.rules = Rules(heads.score_thresh, heads.nms_thresh, heads.detections_per_img, smallest=1e-2)

    def forward(self, x: Tensor) -> Tensor:
        """The candidates: one for each region that was proposed, padded to as many as the image with the most has."""
        features = self.backbone(x)
        if isinstance(features, Tensor):
            features = OrderedDict([("0", features)])
        sizes = [(x.shape[-2], x.shape[-1])] * len(x)
        proposals, _ = self.rpn(_listed(x), features)
        regions = self.roi_heads.box_head(self.roi_heads.box_roi_pool(features, proposals, sizes))
        logits, deltas = self.roi_heads.box_predictor(regions)
        boxes = self.roi_heads.box_coder.decode(deltas.to(x.dtype), proposals).reshape(len(logits), self.classes, 4)
        edges = _shares(boxes, (x.shape[-2], x.shape[-1])).flatten(1)
        rows = torch.cat([logits.to(x.dtype), edges, logits.new_zeros(len(logits), 1, dtype=x.dtype)], dim=1)
        # One place that is no candidate: an image may have no proposals at all. Features that are not finite show in
        # it; else they would look like an image without objects.
        sound = sum(0 * level.flatten(1).amax(dim=1) for level in features.values())
        nothing = rows.new_zeros(len(x), 1, rows.shape[1]) + sound.to(x.dtype)[:, None, None]
        parts = rows.split([len(one) for one in proposals])
        each = [torch.cat([part, last]) for part, last in zip(parts, nothing, strict=True)]
        padded = pad_sequence(each, batch_first=True)
        there = torch.tensor([len(part) for part in parts], device=x.device)[:, None]
        levels = torch.where(torch.arange(padded.shape[1], device=x.device) < there, padded[..., -1], -1.0)
        return torch.cat([padded[..., :-1], levels[..., None]], dim=2).transpose(1, 2)[..., None]


def _listed(x: Tensor) -> Any:
    """Images as torchvision's detectors take them."""
    from torchvision.models.detection.image_list import ImageList

    return ImageList(x, [(x.shape[-2], x.shape[-1])] * len(x))


def _shares(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., 4) edges in pixels of the input, cut at its edges, as shares of its width and height."""
    height, width = size
    edges = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp_min(0), edges) / edges


def of_torchvision(name: str, num_classes: int) -> Detector:
    """A detector of torchvision with random weights; nothing is downloaded.

    Args:
        name: As torchvision has it.
        num_classes: K.
    """
    from torchvision import models
    from torchvision.models.detection._utils import overwrite_eps

    network: Any = models.get_model(name, weights=None, weights_backbone=None, num_classes=num_classes)
    if name in _FROZEN_AT_ZERO:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
        overwrite_eps(network, 0.0)
    if name.startswith("fasterrcnn"):
        return TwoStage(network, num_classes)
    rules = Rules(
        network.score_thresh,
        network.nms_thresh,
        network.detections_per_img,
        group="level" if name.startswith("retinanet") else "class",
        candidates=network.topk_candidates,
    )
    shared = "backbone.body" if name.startswith("retinanet") else "backbone.features"
    if name.startswith("ssdlite"):
        shared = "backbone.features.0"  # the finest level takes nothing from what follows
    return OneStage(network, num_classes, background=not name.startswith("retinanet"), rules=rules, shared=shared)


# torchvision divides by the deviation alone in the BatchNorms of these, as their published weights were trained.
_FROZEN_AT_ZERO = ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
