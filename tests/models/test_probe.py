from __future__ import annotations

import pytest
import torch
from torch import nn

from ouzel import models
from ouzel.errors import FailedPrecondition


@pytest.mark.parametrize(
    ("arch", "layer", "shape"),
    [
        ("torchvision:resnet18", "layer4", (512, 4, 4)),
        ("torchvision:vgg16", "features.29", (512, 8, 8)),  # the last ReLU, not the max-pool that halves it
        ("torchvision:mobilenet_v2", "features", (1280, 4, 4)),
        ("torchvision:densenet121", "features", (1024, 4, 4)),
        ("timm:tf_efficientnet_lite0", "bn2", (1280, 4, 4)),
        ("timm:test_convnext", "norm_pre", (64, 4, 4)),
    ],
)
def test_cam_layer_of_well_known_networks(arch, layer, shape):
    network = models.build(arch, num_classes=5)
    example = torch.zeros(2, 3, 128, 128)
    assert models.cam_layer(network, example) == layer
    assert {entry.name: entry.shape for entry in models.layers(network, example)}[layer] == shape


def test_no_cam_layer_in_networks_of_tokens_or_without_maps():
    with pytest.raises(FailedPrecondition, match="name a layer"):
        models.cam_layer(models.build("timm:test_vit"), torch.zeros(1, 3, 160, 160))
    with pytest.raises(FailedPrecondition, match="name a layer"):
        models.cam_layer(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), torch.zeros(1, 3, 4, 4))


class _ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 6, 3), nn.LayerNorm(6)

    def forward(self, x):
        return self.norm(self.convolution(x).permute(0, 2, 3, 1)).mean((1, 2))


def test_cam_layer_of_a_network_that_ends_with_channels_last():
    assert models.cam_layer(_ChannelsLast(), torch.zeros(1, 3, 12, 12)) == "norm"


class _Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv2d(3, 3, 3)
        self.idle = nn.ReLU()
        self.pair = _Pair()

    def forward(self, x):
        return self.pair(self.twice(self.twice(x)))[0].mean((2, 3))


class _Pair(nn.Module):
    def forward(self, x):
        return x, x


def test_layers_tell_name_type_and_shape_of_one_row():
    network = _Odd()
    shapes = {layer.name: (layer.type, layer.shape) for layer in models.layers(network, torch.zeros(4, 3, 8, 8))}
    assert shapes == {"twice": ("Conv2d", (3, 4, 4)), "idle": ("ReLU", None), "pair": ("_Pair", None)}
    assert [layer.shape for layer in models.layers(network)] == [None, None, None]


def test_hooks_are_gone_afterwards_also_after_a_failure():
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    models.layers(network, torch.zeros(1, 3, 8, 8))
    with pytest.raises(RuntimeError):
        models.layers(network, torch.zeros(1, 2, 8, 8))
    assert not any(module._forward_hooks for module in network.modules())
