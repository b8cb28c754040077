"""A network with a decoder for the classes of pixels, on the features of a classifier."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ouzel import models
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.models import Model, Preprocessing, build, heads, load_backbone
from ouzel.task_names import SEGMENTATION

_BACKBONE = "backbone."  # begins the names of what comes from the classifier


def architecture(base: Model) -> str:
    """The base's own if it segments, else the lightest that segments with its features. Raises FailedPrecondition."""
    if base.task == SEGMENTATION:
        return base.arch
    over = models.architectures_over(base.arch)
    if not over:
        raise FailedPrecondition(
            f"base: {base.arch} gives no features to decode; take a classifier of timm, or a ResNet-50, ResNet-101 or "
            "MobileNetV3-Large of torchvision",
            field="base",
        )
    return over[0]


def segmenter(base: Model, classes: Sequence[str], *, pretrained: bool, seed: int) -> nn.Module:
    """A network for so many classes: the base's features, and of a base that segments its decoder; the rest is random.

    In eval mode, every parameter asks for its gradient.

    Args:
        base: The classifier, or a segmentation model, whose last layer is kept if it tells the same classes apart.
        classes: Names of the classes.
        pretrained: Whether the base's weights are used.
        seed: Of random weights.

    Raises:
        FailedPrecondition: There is no decoder for the base.
    """
    arch, channels = architecture(base), base.preprocessing.channels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = build(arch, num_classes=len(classes), in_channels=channels)
        except InvalidArgument as error:
            raise FailedPrecondition(f"base: {base.arch} gives no features to decode ({error})", field="base") from None
    if pretrained and base.task == SEGMENTATION:
        last = frozenset() if tuple(classes) == base.labels else heads.head_tensors(arch, channels)
        kept = {name: tensor for name, tensor in base.network.state_dict().items() if name not in last}
        network.load_state_dict(kept, strict=False)
    elif pretrained:
        load_backbone(network, base.network.state_dict())
    device = next(base.network.parameters()).device
    return network.to(device).requires_grad_(True)


def head_tensors(network: nn.Module) -> frozenset[str]:
    """Names in the state dict that do not come from a classifier."""
    return frozenset(name for name in network.state_dict() if not name.startswith(_BACKBONE))


def whole_side(preprocessing: Preprocessing) -> Preprocessing:
    """The same, but nothing of the shorter side is cut off: each of its pixels has a class."""
    return preprocessing.adapted(resize=max(preprocessing.input_size))
