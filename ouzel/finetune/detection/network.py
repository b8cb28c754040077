"""A detector on the features of a classifier, and what its heads say while it learns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.models import Model, Preprocessing, build, detection, heads
from ouzel.models.networks.detectors import OneStage
from ouzel.task_names import CLASSIFICATION, DETECTION, kind_of

_BACKBONE = "detector.backbone.model."  # begins the names of what comes from the classifier
_SSDLITE = "ssdlite:timm:"


class Learner(nn.Module):
    """A detector that learns: answers what the heads say at each anchor, before boxes are decoded and chosen.

    Args:
        detector: An SSD.
        channels: Of the input.
        size: (height, width) of the input.

    Attributes:
        detector: The same.
        anchors: (N, 4), in pixels of the input.
        counts: Of these, how many each level has.
        size: The same.
    """

    anchors: Tensor

    def __init__(self, detector: OneStage, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.detector, self.size = detector, size
        device = next(detector.parameters()).device
        with torch.no_grad():
            _, anchors, self.counts = detector.eval().heads(torch.zeros(1, channels, *size, device=device))
        self.register_buffer("anchors", anchors, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, K + 4): logits of the classes, and how the anchor becomes a box."""
        outputs, _, _ = self.detector.heads(x)
        return torch.cat([outputs["cls_logits"], outputs["bbox_regression"]], 2)

    def found(self, output: Tensor) -> list[detection.Detections]:
        """What is found in each image, of what `forward` has answered."""
        logits, deltas = output.split([self.detector.classes, 4], 2)
        answer = self.detector.answer(logits, deltas.detach(), self.anchors, self.counts, self.size)
        return detection.select(detection.candidates(answer, self.detector, self.size), self.detector.rules)


def architecture(base: Model) -> str:
    """The base's own if it is a detector that `detect` can make, else the one over its features.

    Raises:
        FailedPrecondition: There is none.
    """
    if base.task == DETECTION and base.arch.startswith(_SSDLITE):
        return base.arch
    if base.task != CLASSIFICATION:
        raise FailedPrecondition(
            f"base: {base.name!r:.80} is {kind_of(base.task)} of the architecture {base.arch}; a classifier is needed, "
            f"or a detector of {_SSDLITE}...",
            field="base",
        )
    over = detection.architectures_over(base.arch)
    if not over:
        raise FailedPrecondition(
            f"base: {base.arch} gives no features for a detector; take a classifier of timm", field="base"
        )
    return over[0]


def labels_of(classes: Sequence[str]) -> tuple[str, ...]:
    """Labels of the detector's outputs: the background first."""
    return ("background", *classes)


def learner(base: Model, classes: Sequence[str], *, pretrained: bool, seed: int) -> Learner:
    """A detector for so many classes: the base's features, and of a detector its heads; the rest is random.

    In eval mode, every parameter asks for its gradient.

    Args:
        base: Has the preprocessing of the detector already. Of a detector, the layers that tell classes apart are kept
            if they are the same ones.
        classes: Names of the classes of objects.
        pretrained: Whether the base's weights are used.
        seed: Of random weights.

    Raises:
        FailedPrecondition: There is no detector over the base.
        InvalidArgument: The input is too small for it.
    """
    arch, labels, preprocessing = architecture(base), labels_of(classes), base.preprocessing
    detection.check_count(len(labels), "classes")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = build(arch, len(labels), preprocessing.channels)
        except InvalidArgument as error:
            raise FailedPrecondition(
                f"base: {base.arch} gives no features for a detector ({error})", field="base"
            ) from None
    assert isinstance(network, OneStage)
    detection.check_labels(labels, network)
    if pretrained and base.task == DETECTION:
        last = frozenset() if labels == base.labels else heads.head_tensors(arch, preprocessing.channels)
        kept = {name: tensor for name, tensor in base.network.state_dict().items() if name not in last}
        network.load_state_dict(kept, strict=False)
    elif pretrained:
        detection.load_backbone(network, base.network.state_dict())
    models.check_size(network, (preprocessing.channels, *preprocessing.input_size), "image_size")
    device = next(base.network.parameters()).device
    return Learner(network.to(device), preprocessing.channels, preprocessing.input_size).requires_grad_(True)


def head_tensors(network: nn.Module) -> frozenset[str]:
    """Names in the state dict of a learner that do not come from a classifier."""
    return frozenset(name for name in network.state_dict() if not name.startswith(_BACKBONE))


def stretched(base: Model, edge: int) -> Preprocessing:
    """That of the detector: the whole image, at `edge` pixels along each edge; 0 is the usual of its architecture."""
    own = base.preprocessing.input_size if base.task == DETECTION else None
    size = (edge, edge) if edge else own or models.default_preprocessing(architecture(base)).input_size
    return dataclasses.replace(base.preprocessing, input_size=size, resize=max(size), fit="stretch")
