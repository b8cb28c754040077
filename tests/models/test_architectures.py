from __future__ import annotations

import hashlib
import math
import socket
import subprocess
import sys

import pytest
import timm
import torch
import torchvision

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


def test_each_of_several_published_weights_is_fed_in_its_own_way(tmp_path, monkeypatch):
    """A file is known by its digest, of which torchvision's names hold the first digits; it may have another name."""
    published = torchvision.models.get_model_weights("regnet_y_16gf")
    older, newer = published.IMAGENET1K_V1, published.DEFAULT
    file = tmp_path / "renamed.bin"
    file.write_bytes(b"weights")
    for weights in (older, newer):
        assert models.default_preprocessing("torchvision:regnet_y_16gf", file) == way_of_library(newer)
        assert "several weights of regnet_y_16gf" in models.doubts("torchvision:regnet_y_16gf", file)
        start = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
        with monkeypatch.context() as patched:
            patched.setattr(weights.value, "url", f"https://download.example/models/regnet_y_16gf-{start}.pth")
            assert models.default_preprocessing("torchvision:regnet_y_16gf", file) == way_of_library(weights)
            assert models.doubts("torchvision:regnet_y_16gf", file) == ""
    assert way_of_library(older) != way_of_library(newer)
    assert models.doubts("torchvision:resnet18", file) == models.doubts("timm:resnet18", file) == ""
    assert "timm stretches images" in models.doubts("timm:eva02_base_patch14_448", file)


def way_of_library(weights):
    own = weights.transforms()
    size = (*own.crop_size, *own.crop_size)
    return models.Preprocessing(3, size, *own.resize_size, own.interpolation.value, tuple(own.mean), tuple(own.std))


@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_torchvision_classifiers_are_fed_as_their_default_weights(name):
    weights = torchvision.models.get_model_weights(name).DEFAULT
    assert models.default_preprocessing(f"torchvision:{name}") == way_of_library(weights)


@pytest.mark.parametrize(
    "name",
    [
        "convnext_tiny",
        "deit_tiny_patch16_224",
        "efficientnet_b0",
        "efficientnet_lite0",
        "inception_v3",
        "mixer_b16_224",
        "mobilenetv3_large_100",
        "regnety_016",
        "resnet18",
        "resnet50",
        "swin_tiny_patch4_window7_224",
        "tf_efficientnet_b4",
        "tf_efficientnet_lite4",
        "vit_base_patch16_224",
    ],
)
def test_timm_classifiers_are_fed_as_timm_feeds_them(name):
    own = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    _, height, width = own["input_size"]
    way = models.Preprocessing(
        input_size=(height, width),
        resize=math.floor(min(height, width) / own["crop_pct"]),
        interpolation=own["interpolation"],
        mean=tuple(own["mean"]),
        std=tuple(own["std"]),
    )
    assert (models.default_preprocessing(f"timm:{name}"), own["crop_mode"]) == (way, "center")


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
