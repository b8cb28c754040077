"""Segmentation: which networks and classes there may be, and label maps of what a network answers.

A label map is uint8: the index of the class of each pixel. 255 is no class (void): pixels that nobody has looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ouzel.errors import InvalidArgument

VOID = 255  # in a label map, as the data sets of Pascal VOC and Cityscapes have it
MOST_CLASSES = VOID
# What labels call the class of all that is none of the others.
_BACKGROUND = ("background", "__background__")
# Segmentation networks over torchvision's classifiers, by the classifier's name.
_OVER_TORCHVISION = {
    "resnet50": ("fcn_resnet50", "deeplabv3_resnet50"),
    "resnet101": ("fcn_resnet101", "deeplabv3_resnet101"),
    "mobilenet_v3_large": ("lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"),
}
_PARTS = ("", "features.")  # where a classifier keeps what becomes the backbone


@dataclass(frozen=True)
class Segments:
    """What a segmentation network answers, per pixel and per class.

    Attributes:
        label_map: (B, H, W) uint8, the index of the class of each pixel: of several largest logits the first.
        areas: (B, K) float64, the share of the pixels that each class has; they add up to 1.
        confidences: (B, K) float64, the mean probability of a class over the pixels that it has; 0 without any.
    """

    label_map: Tensor
    areas: Tensor
    confidences: Tensor


def segments(logits: Tensor) -> Segments:
    """Label map, areas and confidences, on the device of the logits.

    Args:
        logits: (B, K, H, W), K at most 255.
    """
    classes = logits.argmax(dim=1, keepdim=True)
    probabilities = logits.softmax(dim=1).gather(1, classes)
    flat = classes.flatten(1)
    none = logits.new_zeros(logits.shape[:2], dtype=torch.float64)
    counts = none.scatter_add(1, flat, none.new_ones(1, 1).expand_as(flat))
    sums = none.scatter_add(1, flat, probabilities.flatten(1).double())
    return Segments(classes[:, 0].byte(), counts / flat.shape[1], sums / counts.clamp_min(1))


def check_count(classes: int, field: str) -> None:
    """Check the number of classes of a segmentation network. Raises InvalidArgument that names `field`."""
    if not 2 <= classes <= MOST_CLASSES:
        more = "; with one thing to find, the background is the other class" if classes == 1 else ""
        raise InvalidArgument(
            f"{field}: {classes} classes; a segmentation network tells 2 to {MOST_CLASSES} apart{more}", field=field
        )


def background(labels: Sequence[str]) -> int | None:
    """The class of all that is none of the others, told by its label; None if no label says so."""
    return next((index for index, label in enumerate(labels) if label.casefold() in _BACKGROUND), None)


def architectures_over(classifier: str) -> tuple[str, ...]:
    """Segmentation networks whose backbone is a classifier.

    Args:
        classifier: Its architecture, `timm:NAME` or `torchvision:NAME`.

    Returns:
        Names for `build`, the lightest first; none if there is no such network.
    """
    library, _, name = classifier.partition(":")
    if library == "timm":
        return (f"unet:{classifier}",)
    return tuple(f"torchvision:{each}" for each in _OVER_TORCHVISION.get(name, ())) if library == "torchvision" else ()


def load_backbone(network: nn.Module, classifier: Mapping[str, Tensor]) -> None:
    """Fill the backbone of a segmentation network with the weights of a classifier.

    Args:
        network: Built as one of `architectures_over`; its backbone is changed.
        classifier: The state dict of the classifier. What the backbone has no place for, its head above all, is left.

    Raises:
        InvalidArgument: The network has no backbone, or the classifier lacks a tensor of it or has another shape.
    """
    backbone = dict(network.named_children()).get("backbone")
    if backbone is None:
        raise InvalidArgument(f"network: {type(network).__name__} has no backbone", field="network")
    wanted = backbone.state_dict()
    part = max(_PARTS, key=lambda each: sum(f"{each}{name}" in classifier for name in wanted))
    state = {}
    for name, tensor in wanted.items():
        given = classifier.get(f"{part}{name}")
        if given is None or given.shape != tensor.shape:
            theirs = "is missing" if given is None else f"is {tuple(given.shape)}"
            raise InvalidArgument(
                f"weights: {part}{name} {theirs} where the backbone has {tuple(tensor.shape)}", field="weights"
            )
        state[name] = given
    backbone.load_state_dict(state, strict=True)
