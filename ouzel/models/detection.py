"""Detection: which networks and classes there may be, and detections of what a network answers.

A box is (left, top, right, bottom). Networks answer in shares of their input, `ouzel.models.networks.detectors` says
how; boxes here are in pixels of the input, and `in_image` brings them to the uploaded image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ouzel.errors import InvalidArgument
from ouzel.models.networks.detectors import Detector, Rules
from ouzel.models.segmentation import background

MOST_CLASSES = 1000


@dataclass(frozen=True)
class Candidates:
    """All that a detector considers, of B images, before anything is dropped.

    Attributes:
        boxes: (B, N, 4), or (B, N, K, 4) where each class has its own; in pixels of the input, within it.
        probabilities: (B, N, K), 0 for the background.
        objectness: (B, N), the probability that there is an object of any class: what the background leaves; of a
            network without a background the largest probability.
        levels: (B, N), of the feature pyramid; -1 where there is no candidate.
    """

    boxes: Tensor
    probabilities: Tensor
    objectness: Tensor
    levels: Tensor


@dataclass(frozen=True)
class Detections:
    """What was found in one image, the most probable first.

    Attributes:
        boxes: (D, 4), in pixels of the input.
        labels: (D,) int64, classes.
        scores: (D,), probabilities.
        places: (D,) int64, of the candidates that became detections.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    places: Tensor

    def __len__(self) -> int:
        return len(self.scores)


def candidates(answer: Tensor, network: Detector, size: tuple[int, int]) -> Candidates:
    """Take a network's answer apart.

    Args:
        answer: (B, R, N, 1).
        network: That gave it.
        size: (height, width) of its input.
    """
    height, width = size
    rows = answer[..., 0].transpose(1, 2)
    logits, boxes, levels = rows[..., : network.classes], rows[..., network.classes : -1], rows[..., -1]
    boxes = boxes.unflatten(2, (-1, 4)) * boxes.new_tensor([width, height, width, height])
    if boxes.shape[2] == 1:
        boxes = boxes[:, :, 0]
    if network.background:
        probabilities = logits.softmax(dim=2)
        objectness = 1 - probabilities[..., 0]
        probabilities = torch.cat([torch.zeros_like(probabilities[..., :1]), probabilities[..., 1:]], dim=2)
    else:
        probabilities = logits.sigmoid()
        objectness = probabilities.amax(dim=2)
    there = levels >= 0
    return Candidates(boxes, probabilities * there[..., None], objectness * there, levels)


def select(found: Candidates, rules: Rules) -> list[Detections]:
    """Detections of each image: thresholds, the best of each group, non-maximum suppression within each class."""
    return [
        _select(found.boxes[row], found.probabilities[row], found.levels[row], rules)
        for row in range(len(found.probabilities))
    ]


def _select(boxes: Tensor, probabilities: Tensor, levels: Tensor, rules: Rules) -> Detections:
    from torchvision.ops import batched_nms

    places, labels = (probabilities > rules.score).nonzero(as_tuple=True)
    scores = probabilities[places, labels]
    order = scores.argsort(descending=True, stable=True)
    if rules.group:
        groups = (labels if rules.group == "class" else levels[places].long())[order]
        order = order[_rank_within(groups) < rules.candidates]
    places, labels, scores = places[order], labels[order], scores[order]
    chosen = boxes[places] if boxes.ndim == 2 else boxes[places, labels]
    if rules.smallest:
        large = ((chosen[:, 2:] - chosen[:, :2]) >= rules.smallest).all(dim=1)
        places, labels, scores, chosen = places[large], labels[large], scores[large], chosen[large]
    kept = batched_nms(chosen, scores, labels, rules.overlap)[: rules.most]
    return Detections(chosen[kept], labels[kept], scores[kept], places[kept])


def _rank_within(groups: Tensor) -> Tensor:
    """(n,) how many of the same group come before each."""
    sorted_groups, order = groups.sort(stable=True)
    number = torch.arange(len(groups), device=groups.device)
    begins = torch.ones_like(sorted_groups, dtype=torch.bool)
    begins[1:] = sorted_groups[1:] != sorted_groups[:-1]
    first = torch.where(begins, number, 0).cummax(dim=0).values if len(groups) else number
    ranks = torch.empty_like(number)
    ranks[order] = number - first
    return ranks


def in_image(boxes: Tensor, view: Sequence[float], size: tuple[int, int]) -> Tensor:
    """(D, 4) boxes in pixels of the input as boxes in pixels of the image.

    Args:
        boxes: Of the input.
        view: left, top, right, bottom of what became the input, in pixels of the image.
        size: (height, width) of the input.
    """
    scale, shift = _affine(view, size, boxes)
    return boxes * scale + shift


def in_input(boxes: Tensor, view: Sequence[float], size: tuple[int, int]) -> Tensor:
    """The inverse of `in_image`; boxes may reach beyond the input."""
    scale, shift = _affine(view, size, boxes)
    return (boxes - shift) / scale


def _affine(view: Sequence[float], size: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    left, top, right, bottom = view
    across, down = (right - left) / size[1], (bottom - top) / size[0]
    return like.new_tensor([across, down, across, down]), like.new_tensor([left, top, left, top])


def check_count(classes: int, field: str) -> None:
    """Check the number of classes of a detector. Raises InvalidArgument that names `field`."""
    if not 2 <= classes <= MOST_CLASSES:
        more = "; the first is the background" if classes == 1 else ""
        raise InvalidArgument(
            f"{field}: {classes} classes; a detector tells 2 to {MOST_CLASSES} apart{more}", field=field
        )


def check_labels(labels: Sequence[str], network: nn.Module) -> None:
    """Check that the first label is the background, of a network whose first class is. Raises InvalidArgument."""
    if isinstance(network, Detector) and network.background and background(labels) != 0:
        raise InvalidArgument(
            f"labels[0]: {labels[0]!r:.80} is not the background, which is the first class of this detector: put "
            "background before the others",
            field="labels",
        )


def architectures_over(classifier: str) -> tuple[str, ...]:
    """Detectors whose backbone is a classifier.

    Args:
        classifier: Its architecture, `timm:NAME`.

    Returns:
        Names for `build`; none if there is no such network.
    """
    return (f"ssdlite:{classifier}",) if classifier.startswith("timm:") else ()


def load_backbone(network: Detector, classifier: Mapping[str, Tensor]) -> None:
    """Fill the backbone of a detector with the weights of a classifier of timm.

    Args:
        network: Built as one of `architectures_over`; its backbone is changed.
        classifier: The state dict of the classifier; its head is left.

    Raises:
        InvalidArgument: The classifier lacks a tensor of the backbone or has another shape.
    """
    model = network.get_submodule("backbone.model")
    state = {}
    for name, tensor in model.state_dict().items():
        given = classifier.get(name)
        if given is None or given.shape != tensor.shape:
            theirs = "is missing" if given is None else f"is {tuple(given.shape)}"
            raise InvalidArgument(
                f"weights: {name} {theirs} where the backbone has {tuple(tensor.shape)}", field="weights"
            )
        state[name] = given
    model.load_state_dict(state, strict=True)
