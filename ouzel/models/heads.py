"""Which part of an architecture depends on the number of classes: its head."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from ouzel.models.architectures import build


@cache
def head_tensors(arch: str, channels: int) -> frozenset[str]:
    """Names in the state dict that depend on the number of classes."""
    with torch.device("meta"):
        few, many = (build(arch, num_classes=count, in_channels=channels).state_dict() for count in (7, 11))
    return frozenset(name for name in few if few[name].shape != many[name].shape)


def linear_layer(network: nn.Module, arch: str, channels: int) -> str:
    """Name of the one linear layer with a bias that is all of a network's head; "" if its head is something else."""
    owners = {name.rpartition(".")[0] for name in head_tensors(arch, channels)}
    if len(owners) == 1:
        (name,) = owners
        module = network.get_submodule(name)
        if isinstance(module, nn.Linear) and module.bias is not None:
            return name
    return ""


@cache
def linear_head(arch: str, channels: int) -> tuple[str, int]:
    """Name of that layer of an architecture, and how many features it takes; ("", 0) without one."""
    with torch.device("meta"):
        network = build(arch, num_classes=7, in_channels=channels)
    name = linear_layer(network, arch, channels)
    layer = network.get_submodule(name) if name else None
    return (name, layer.in_features) if isinstance(layer, nn.Linear) else ("", 0)
