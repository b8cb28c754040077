"""Sizes that a network does not take: one error, which names one that it does."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from ouzel.errors import InvalidArgument
from ouzel.maximize import ClassLogit, Pixel, maximize
from ouzel.models import Model, Preprocessing, check_size
from ouzel.saliency import Explainer, Saliency


def vit() -> nn.Module:
    network = timm.models.VisionTransformer(img_size=32, patch_size=8, embed_dim=8, depth=1, num_heads=1, num_classes=3)
    return network.eval().requires_grad_(False)


class Demanding(nn.Module):
    """Takes 12 pixels and more; in training 20 and more, for its auxiliary head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.aux, self.norm = nn.Conv2d(3, 4, 12), nn.Conv2d(4, 4, 9), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        if self.training:
            self.aux(y)
        return y.mean(dim=(2, 3))


def model(network: nn.Module) -> Model:
    return Model("m", "1", network, tuple("abc"), Preprocessing(input_size=(32, 32), resize=32), "x:y", "sha256:0", {})


@pytest.mark.parametrize("whole", [model(vit()), vit()], ids=["model", "module"])
@pytest.mark.parametrize("edge", [24, 30, 64])
def test_every_door_names_the_size(whole: Model | nn.Module, edge: int) -> None:
    x = torch.rand(1, 3, edge, edge)
    for field, call in (
        ("x", lambda: Explainer(whole)(x, [Saliency("gradient")])),
        ("size", lambda: maximize(whole, [ClassLogit(0)], recipe=Pixel(steps=1), size=(edge, edge))),
    ):
        with pytest.raises(InvalidArgument, match=f"{field}: .* {edge} x {edge} pixels; it takes 32 x 32") as caught:
            call()
        assert caught.value.field == field


@pytest.mark.parametrize(("training", "least"), [(False, 12), (True, 20)])
def test_the_least_size_that_does(training: bool, least: int) -> None:
    network = Demanding().train(training)
    with pytest.raises(InvalidArgument, match=f"image_size: .* the least that it takes is {least} x {least}"):
        check_size(network, (3, 8, 8), "image_size", own=(64, 64), rows=2)
    check_size(network, (3, least, least), "image_size", rows=2)


def test_another_fault_stays_what_it_is() -> None:
    class Moody(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.calls = nn.Conv2d(3, 2, 3), 0

        def forward(self, x: Tensor) -> Tensor:
            if float(x.max()) > 1:
                raise ValueError("too bright")
            return self.conv(x).mean(dim=(2, 3))

    explainer = Explainer(Moody())
    explainer(torch.rand(1, 3, 8, 8), [Saliency("gradient")])
    with pytest.raises(ValueError, match=r"^too bright$"):
        explainer(torch.full((1, 3, 8, 8), 2.0), [Saliency("gradient")])
