"""A detector from a classifier and images with boxes: an SSDlite over the classifier's features."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.finetune.detection.annotations import Boxed
from ouzel.finetune.detection.average_precision import AveragePrecision, Objects, average_precision
from ouzel.finetune.detection.options import DetectOptions
from ouzel.models import Model, Preprocessing, archive, detection
from ouzel.models.card import Card
from ouzel.models.networks.detectors import OneStage
from ouzel.task_names import CLASSIFICATION, DETECTION

_OVERLAP = 0.5  # from which on an anchor is an object's
_NEGATIVES = 3  # anchors of the background that count, for each of an object


@dataclass(frozen=True)
class Epoch:
    """After an epoch.

    Attributes:
        number: From 1.
        of: All epochs.
        loss: Mean of its steps.
        state: Gives what `detect` goes on from, if it is called before the next epoch.
    """

    number: int
    of: int
    loss: float
    state: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Detected:
    """What was learnt.

    Attributes:
        network: In eval mode, frozen.
        arch: As of `ouzel.models.build`.
        labels: The background first.
        preprocessing: From an image to the input.
        test: On the images that were held out.
        held_out: Their paths.
        base: Name, version and digest of the classifier, for the lineage.
        options: That were used.
        seed: That was used.
    """

    network: OneStage
    arch: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    test: AveragePrecision
    held_out: tuple[str, ...]
    base: Mapping[str, str]
    options: DetectOptions
    seed: int

    def card(self, name: str, version: str = "1", **lineage: Any) -> Card:
        """A card with the lineage; `lineage` adds to it."""
        figures = {"map": self.test.map, "map50": self.test.map50}
        known = {**self.base, "recipe": "detect", "seed": self.seed, "metrics": figures, **lineage}
        known["parameters"] = dataclasses.asdict(self.options)
        return Card(name, version, self.arch, self.labels, self.preprocessing, lineage=known, task=DETECTION)

    def archive(self, path: str | Path, name: str, version: str = "1") -> Path:
        """Write an archive of a model store. Raises as `ouzel.models.archive.write`."""
        return archive.write(self.card(name, version), self.network.state_dict(), path)


def detect(
    base: Model,
    data: Sequence[Boxed],
    classes: Sequence[str],
    options: DetectOptions | None = None,
    *,
    seed: int = 0,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    resume: Mapping[str, Any] | None = None,
) -> Detected:
    """Learn to detect. The base stays as it is; work happens on its device.

    The loss is that of SSD: smooth L1 of the boxes, and cross-entropy of the classes with three anchors of the
    background for each of an object, those that are most wrong. BatchNorms of the features keep the base's statistics.

    Args:
        base: A classifier of timm.
        data: The images.
        classes: Their names, the background first.
        options: None is the defaults.
        seed: Of all that is drawn.
        on_epoch: Hears of each epoch, and may raise to end it.
        resume: The state of an epoch of a run with the same arguments.

    Raises:
        InvalidArgument: Data or options are wrong.
        FailedPrecondition: The base is no classifier, or gives no features.
    """
    options = options or DetectOptions()
    base.need(CLASSIFICATION, "detectors", "base")
    base.preprocessing.check_takes_images("base")
    labels = tuple(classes)
    train, test = _parts(data, options.held_out, seed)
    arch, network, preprocessing = _begun(base, labels, options.size, seed)
    device = next(base.network.parameters()).device
    network.to(device)
    pictures = _Pictures(preprocessing, train)
    done, steps = 0, _Steps(network, options, device)
    if resume is not None:
        network.load_state_dict(resume["network"])
        done = int(resume["epoch"])
    if done > options.frozen_epochs or (done == options.frozen_epochs and options.epochs):
        steps.begin(frozen=False)
    else:
        steps.begin(frozen=True)
    if resume is not None and resume["optimizer"] is not None:
        steps.optimizer.load_state_dict(resume["optimizer"])
    total = options.frozen_epochs + options.epochs
    for epoch in range(done, total):
        if epoch == options.frozen_epochs and epoch:
            steps.begin(frozen=False)
        loss = steps.epoch(pictures, seed * 100_003 + epoch)

        def state(number: int = epoch + 1) -> dict[str, Any]:
            # A stage that begins next begins with an optimizer of its own.
            fresh = number == options.frozen_epochs and bool(options.epochs)
            kept = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
            return {
                "epoch": number,
                "network": kept,
                "optimizer": None if fresh else copy.deepcopy(steps.optimizer.state_dict()),
            }

        on_epoch(Epoch(epoch + 1, total, loss, state))
    models.freeze(network)
    figures = measured(network, preprocessing, test)
    named = {"base": base.name, "base_version": base.version, "base_digest": base.digest}
    held_out = tuple(str(one.path) for one in test)
    return Detected(network, arch, labels, preprocessing, figures, held_out, named, options, seed)


def measured(network: OneStage, preprocessing: Preprocessing, data: Sequence[Boxed]) -> AveragePrecision:
    """The mean average precision of a detector on images, in their own pixels."""
    device, size = next(network.parameters()).device, preprocessing.input_size
    there, found = [], []
    for one in data:
        pixels, view = _input(one, preprocessing)
        x = preprocessing.normalised(pixels)[None].to(device)
        with torch.no_grad(), models.computing():
            (mine,) = detection.select(detection.candidates(network(x), network, size), network.rules)
        boxes = detection.in_image(mine.boxes.double(), view, size).cpu().numpy()
        found.append(Objects(boxes, mine.labels.cpu().numpy(), mine.scores.double().cpu().numpy()))
        there.append(Objects(np.array(one.boxes, np.float64).reshape(-1, 4), np.array(one.labels, np.int64)))
    return average_precision(there, found)


def _parts(data: Sequence[Boxed], held_out: float, seed: int) -> tuple[list[Boxed], list[Boxed]]:
    ordered = sorted(data, key=lambda one: str(one.path))
    order = np.random.default_rng(seed).permutation(len(ordered))
    count = max(1, round(held_out * len(ordered)))
    test = [ordered[index] for index in sorted(order[:count])]
    train = [ordered[index] for index in sorted(order[count:])]
    for what, part in (("learnt from", train), ("held out", test)):
        if not any(one.boxes for one in part):
            raise InvalidArgument(
                f"data: of {len(data)} images, {len(part)} are {what}, and none of them has an object"
            )
    return train, test


def _begun(base: Model, labels: tuple[str, ...], size: int, seed: int) -> tuple[str, OneStage, Preprocessing]:
    over = detection.architectures_over(base.arch)
    if not over:
        raise FailedPrecondition(f"base: {base.arch} gives no features for a detector; take a classifier of timm")
    detection.check_count(len(labels), "classes")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = models.build(over[0], len(labels), base.preprocessing.channels)
    assert isinstance(network, OneStage)
    detection.check_labels(labels, network)
    detection.load_backbone(network, base.network.state_dict())
    edge = size or models.default_preprocessing(over[0]).input_size[0]
    preprocessing = dataclasses.replace(base.preprocessing, input_size=(edge, edge), resize=edge, fit="stretch")
    models.check_size(network, (preprocessing.channels, edge, edge), "parameters.size")
    return over[0], network, preprocessing


def _input(one: Boxed, preprocessing: Preprocessing) -> tuple[Tensor, tuple[float, float, float, float]]:
    """(C, H, W) uint8, and what of the image it shows."""
    picture = models.decode(one.path.read_bytes(), smallest=preprocessing.resize)
    return preprocessing.pixels(picture), preprocessing.view(*models.original_size(picture))


class _Pictures:
    """Inputs and boxes of images, decoded once."""

    def __init__(self, preprocessing: Preprocessing, data: Sequence[Boxed]) -> None:
        self.preprocessing = preprocessing
        self.pixels, self.boxes, self.labels = [], [], []
        for one in data:
            pixels, view = _input(one, preprocessing)
            boxes = torch.tensor(one.boxes, dtype=torch.float32).reshape(-1, 4)
            self.pixels.append(pixels)
            self.boxes.append(detection.in_input(boxes, view, preprocessing.input_size))
            self.labels.append(torch.tensor(one.labels, dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.pixels)


class _Steps:
    """Epochs of a network."""

    def __init__(self, network: OneStage, options: DetectOptions, device: torch.device) -> None:
        self._network, self._options, self._device = network, options, device
        self.optimizer: torch.optim.Optimizer

    def begin(self, *, frozen: bool) -> None:
        """A stage, with an optimizer of its own."""
        options, network = self._options, self._network
        features = network.get_submodule("backbone.model")
        old = {id(parameter) for parameter in features.parameters()}
        new = [parameter for parameter in network.parameters() if id(parameter) not in old]
        network.requires_grad_(True)
        features.requires_grad_(not frozen)
        groups = [{"params": new, "lr": options.head_rate if frozen else options.learning_rate}]
        if not frozen:
            groups.append({"params": list(features.parameters()), "lr": options.learning_rate / options.spread})
        self.optimizer = torch.optim.AdamW(groups, weight_decay=options.weight_decay)

    @torch.random.fork_rng()
    def epoch(self, pictures: _Pictures, seed: int) -> float:
        """The mean loss."""
        self._network.train()
        for module in self._network.get_submodule("backbone.model").modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # for what the network itself draws
        order = torch.randperm(len(pictures), generator=generator).tolist()
        size = self._options.batch_size
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        if len(batches) > 1 and len(batches[-1]) == 1:  # a BatchNorm learns from two images or more
            batches[-2:] = [batches[-2] + batches[-1]]
        losses = [self._step(pictures, batch, generator) for batch in batches]
        self._network.eval()
        return sum(losses) / len(losses)

    def _step(self, pictures: _Pictures, batch: Sequence[int], generator: torch.Generator) -> float:
        width = pictures.preprocessing.input_size[1]
        images, targets = [], []
        for index in batch:
            pixels, boxes = pictures.pixels[index], pictures.boxes[index]
            if self._options.flip and torch.rand((), generator=generator) < 0.5:
                pixels, boxes = (
                    pixels.flip(2),
                    torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1),
                )
            images.append(pixels)
            targets.append({"boxes": boxes.to(self._device), "labels": pictures.labels[index].to(self._device)})
        x = pictures.preprocessing.normalised(torch.stack(images).to(self._device))
        with models.computing():
            loss = loss_of(self._network, x, targets)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self._network.parameters(), 10.0)
            self.optimizer.step()
        if not torch.isfinite(loss):
            raise FailedPrecondition("the loss is not finite any more; take a smaller learning rate")
        return float(loss.detach())


def loss_of(network: OneStage, x: Tensor, targets: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """The loss of SSD, as torchvision has it. targets: boxes and labels of each image."""
    from torchvision.models.detection._utils import SSDMatcher
    from torchvision.models.detection.ssd import SSD
    from torchvision.ops import box_iou

    outputs, anchors, _ = network.heads(x)
    matcher, matched = SSDMatcher(_OVERLAP), []
    for one in targets:
        if len(one["boxes"]):
            matched.append(matcher(box_iou(one["boxes"], anchors)))
        else:
            matched.append(torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device))
    of = SimpleNamespace(box_coder=network._coder, neg_to_pos_ratio=_NEGATIVES)
    losses = SSD.compute_loss(of, targets, outputs, [anchors] * len(x), matched)
    total: Tensor = losses["bbox_regression"] + losses["classification"]
    return total
