from __future__ import annotations

import socket
import subprocess
import sys

import pytest
import torch

from ouzel import models
from ouzel.errors import InvalidArgument, NotFound


@pytest.mark.parametrize("arch", ["torchvision:resnet18", "timm:test_efficientnet"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_built_networks_are_frozen_and_of_the_size_asked_for(arch, channels):
    network = models.build(arch, num_classes=7, in_channels=channels)
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert network(torch.zeros(2, channels, 64, 64)).shape == (2, 7)


@pytest.mark.parametrize("arch", ["torchvision:resnet18", "torchvision:inception_v3", "timm:tf_efficientnet_lite0"])
def test_nothing_is_fetched(arch, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    models.build(arch)
    models.default_preprocessing(arch)
    assert len(models.read_labels("imagenet")) == 1000


@pytest.mark.parametrize("arch", ["resnet18", "", ":", "keras:resnet50", None, 3, "resnet18:torchvision"])
def test_a_name_without_a_known_library_is_refused(arch):
    with pytest.raises(InvalidArgument, match="torchvision:NAME or timm:NAME") as caught:
        models.build(arch)
    assert caught.value.field == "arch"


@pytest.mark.parametrize(
    ("arch", "near"),
    [
        ("timm:tf_efficientnet_lite00", "timm:tf_efficientnet_lite0"),
        ("torchvision:resnet5", "torchvision:resnet50"),
        ("torchvision:Resnet50", "torchvision:resnet50"),
    ],
)
def test_an_unknown_name_brings_close_ones(arch, near):
    with pytest.raises(NotFound, match="did you mean") as caught:
        models.build(arch)
    assert near in str(caught.value)


@pytest.mark.parametrize(
    "arch",
    [
        "timm:hf-hub:timm/resnet18.a1_in1k",
        "timm:local-dir:/",
        "timm:../resnet18",
        "timm:__class__",
        "torchvision:raft_large",
    ],
)
def test_names_that_lead_elsewhere_are_unknown(arch):
    with pytest.raises(NotFound):
        models.build(arch)


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "3", 10**9])
@pytest.mark.parametrize("field", ["num_classes", "in_channels"])
def test_counts_out_of_range_are_refused(field, value):
    with pytest.raises(InvalidArgument, match=field):
        models.build("torchvision:resnet18", **{field: value})


def test_published_preprocessing():
    resnet = models.default_preprocessing("torchvision:resnet50")
    assert (resnet.input_size, resnet.resize, resnet.interpolation) == ((224, 224), 232, "bilinear")
    lite = models.default_preprocessing("timm:tf_efficientnet_lite0")
    assert (lite.input_size, lite.resize, lite.interpolation, lite.mean) == (
        (224, 224),
        256,
        "bicubic",
        (0.5, 0.5, 0.5),
    )


def test_imports_stay_light():
    code = (
        "import sys; import ouzel.cli.models; assert 'torch' not in sys.modules, 'torch';"
        "import ouzel.models; heavy = {'timm', 'torchvision'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
