"""Layers that keep their channels last, or their places as tokens, against the formulas on what the layer puts out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.saliency import Explainer, ResolvedTarget, Saliency

from . import reference
from .nets import images

CLASSES = 5
METHODS = ("grad_cam", "grad_cam_plus_plus", "layer_cam")


def swin() -> nn.Module:
    sizes = {"img_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 8, "depths": (2, 2), "num_heads": (2, 2)}
    return timm.models.SwinTransformer(num_classes=CLASSES, **sizes)


def torchvision_swin() -> nn.Module:
    return torchvision.models.SwinTransformer([2, 2], 8, [2, 2], [2, 2], [4, 4], num_classes=CLASSES)


def hiera() -> nn.Module:
    return timm.models.Hiera(
        img_size=(32, 32), embed_dim=8, num_heads=1, stages=(1, 1), q_pool=1, mask_unit_size=(2, 2), num_classes=CLASSES
    )


def vit(**options: object) -> nn.Module:
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    return timm.models.VisionTransformer(num_classes=CLASSES, **sizes, **options)


def small(name: str) -> nn.Module:
    return timm.create_model(name, num_classes=CLASSES)


class Square(nn.Module):
    """Three axes of one size behind the batch: no shape tells which of them is channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 8, 3, 4, 1), nn.LayerNorm(8), nn.Linear(8, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x).permute(0, 2, 3, 1))
        return self.head(self.last(y).relu().square().mean(dim=(1, 2)))


def last(output: Tensor) -> Tensor:
    return output.permute(0, 3, 1, 2)


def first(output: Tensor) -> Tensor:
    return output


def tokens(before: int) -> Callable[[Tensor], Tensor]:
    """A class token and others come before the patches, which go row by row."""

    def maps(output: Tensor) -> Tensor:
        patches = output[:, before:].transpose(1, 2)
        edge = round(patches.shape[2] ** 0.5)
        return patches.reshape(*patches.shape[:2], edge, edge)

    return maps


def rolled(output: Tensor) -> Tensor:
    """Of the four places of each 2 x 2 neighbourhood first all first ones, then all second ones, and so on."""
    return output.view(len(output), 2, 2, 4, 4, -1).permute(0, 5, 3, 1, 4, 2).reshape(len(output), -1, 8, 8)


CASES = [
    (swin, "layers.0", last),
    (swin, "layers.1.blocks.1", last),
    (swin, "layers.1.blocks.1.norm2", tokens(0)),
    (swin, "norm", last),
    (swin, "", last),
    (torchvision_swin, "features.1", last),
    (torchvision_swin, "norm", last),
    (torchvision_swin, "permute", first),
    (lambda: small("test_mambaout"), "", last),
    (lambda: small("test_mambaout"), "stages.0", last),
    (lambda: small("test_convnext"), "stages.1.blocks.0.norm", None),
    (lambda: small("test_convnext"), "stages.1.blocks.0.mlp.fc1", None),
    (hiera, "blocks.0", rolled),
    (hiera, "blocks.1", tokens(0)),
    (vit, "patch_embed.proj", first),
    (vit, "blocks.0", tokens(1)),
    (vit, "blocks.1.norm1", tokens(1)),
    (lambda: vit(reg_tokens=3), "blocks.0.norm2", tokens(4)),
    (lambda: vit(global_pool="avg", class_token=False), "blocks.1", tokens(0)),
    (Square, "norm", last),
    (Square, "last", last),
    (Square, "conv", first),
]


def weighed(method: str, activation: Tensor, gradient: Tensor) -> Tensor:
    """(h, w) of (c, h, w), a channel at a time."""
    cam = torch.zeros(activation.shape[1:], dtype=activation.dtype)
    for a, g in zip(activation, gradient, strict=True):
        if method == "grad_cam":
            cam += g.mean() * a
        elif method == "layer_cam":
            cam += g.clamp_min(0) * a
        else:
            denominator = 2 * g**2 + a.sum() * g**3
            alpha = torch.where(denominator != 0, g**2 / denominator, 0)
            cam += (alpha * g.clamp_min(0)).sum() * a
    return cam.clamp_min(0)


@pytest.mark.parametrize(("make", "layer", "maps"), CASES)
def test_against_the_formula(
    make: Callable[[], nn.Module], layer: str, maps: Callable[[Tensor], Tensor] | None
) -> None:
    torch.manual_seed(0)
    network = make().double().eval()
    for parameter in network.parameters():
        # Some heads and positions begin with nothing. A class's bias must not outweigh what its map shows.
        if not parameter.any() and parameter.shape != (CLASSES,):
            nn.init.normal_(parameter, std=0.2)
    size = 64 if layer and maps is None else 32
    x = images(2, size=size)
    target = int(network(x)[0].argmax())
    e = Explainer(network)(x, [Saliency(method, target, **({"layer": layer} if layer else {})) for method in METHODS])
    seen: list[Tensor] = []
    name = e.maps[0].parameters["layer"]
    network.get_submodule(name).register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    logits = network(x.clone().requires_grad_())
    (gradient,) = torch.autograd.grad(logits[:, target].sum(), seen[0])
    if maps is None:  # the convolutions around it tell: one of the two is square
        maps = first if seen[0].shape[2] == seen[0].shape[3] else last
    activation, gradient = maps(seen[0].detach()), maps(gradient)
    highest = 0.0
    for one in e.maps:
        for row in range(2):
            cam = weighed(one.method, activation[row], gradient[row])
            expected = F.interpolate(cam[None, None], size=(size, size), mode="bilinear", align_corners=False)[0, 0]
            highest = max(highest, float(expected.max()))
            assert reference.error(one.values[row], expected) < 1e-9
    assert highest > 0


def test_guided_grad_cam_of_channels_last() -> None:
    torch.manual_seed(0)
    network = Square().double().eval()
    x = images(1, size=32)
    guided, cam, both = (
        Explainer(network)(x, [Saliency(method, 1, "none", **parameters)]).maps[0].values
        for method, parameters in (
            ("guided", {}),
            ("grad_cam", {"layer": "norm"}),
            ("guided_grad_cam", {"layer": "norm"}),
        )
    )
    assert torch.allclose(both, guided * cam[:, None])
    assert both.abs().max() > 0


@pytest.mark.parametrize("layer", ["layers.0.blocks.0.attn.softmax", "layers.0.blocks.0.attn.proj"])
def test_windows_are_refused(layer: str) -> None:
    with pytest.raises((InvalidArgument, FailedPrecondition), match="layer") as caught:
        Explainer(swin().eval())(images(1, size=32, dtype=torch.float32), [Saliency("grad_cam", layer=layer)])
    assert caught.value.field == "saliency[0].layer"


def test_attention_is_no_map() -> None:
    """(heads, N, N) looks like maps, and like tokens."""
    network = vit(class_token=False, global_pool="avg").eval()
    for block in network.blocks:
        block.attn.fused_attn = False
    with pytest.raises(InvalidArgument, match="no places of the image"):
        Explainer(network)(
            images(1, size=32, dtype=torch.float32), [Saliency("grad_cam", layer="blocks.0.attn.attn_drop")]
        )


def test_a_class_token_alone_says_no_place() -> None:
    with pytest.raises(FailedPrecondition, match="class token alone, which has no place"):
        Explainer(vit().eval())(images(1, size=32, dtype=torch.float32), [Saliency("grad_cam", layer="norm")])


def test_layouts_follow_the_size_of_the_input() -> None:
    explainer = Explainer(Square().double().eval())
    for height, width in ((32, 32), (16, 40), (8, 32)):
        x = images(2, size=40)[:, :, :height, :width]
        cam, plain = (
            explainer(x, [Saliency("layer_cam", ResolvedTarget(2).index, layer=layer)]).maps[0]
            for layer in ("last", "conv")
        )
        assert cam.values.shape == plain.values.shape == (2, height, width)
