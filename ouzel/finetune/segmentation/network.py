"""A network with a decoder for the classes of pixels, on the features of a classifier."""

from __future__ import annotations

import torch
from torch import nn

from ouzel.models import Model, Preprocessing

_BACKBONE = "backbone."  # begins the names of what comes from the classifier


def segmenter(base: Model, classes: tuple[str, ...], *, pretrained: bool, seed: int) -> nn.Module:
    """A decoder on the base's architecture, with the base's weights as far as they fit; or random weights throughout.

    In eval mode, every parameter asks for its gradient.
    """
    import sys
    sys.path.insert(0, "/tmp/w/s4")
    from unet_tmp import over_timm
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = over_timm(base.arch.removeprefix("timm:"), len(classes), base.preprocessing.channels)
    if pretrained:
        own, theirs = network.state_dict(), base.network.state_dict()
        if not any(name.startswith(_BACKBONE) for name in theirs):  # a classifier
            theirs = {_BACKBONE + name: tensor for name, tensor in theirs.items()}
        kept = {name: each for name, each in theirs.items() if name in own and own[name].shape == each.shape}
        network.load_state_dict(kept, strict=False)
    device = next(base.network.parameters()).device
    return network.to(device).eval().requires_grad_(True)


def head_tensors(network: nn.Module) -> frozenset[str]:
    """Names in the state dict that do not come from a classifier."""
    return frozenset(name for name in network.state_dict() if not name.startswith(_BACKBONE))


def whole_side(preprocessing: Preprocessing) -> Preprocessing:
    """The same, but nothing of the shorter side is cut off: each of its pixels has a class."""
    return preprocessing.adapted(resize=max(preprocessing.input_size))
