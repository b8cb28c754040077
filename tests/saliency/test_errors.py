"""Bad requests get an error that names the field; nothing else of the batch suffers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound, OuzelError
from ouzel.saliency import Contrast, Explainer, Rank, Saliency, Top

from .nets import CLASSES, Cnn, Residual, images, seeded


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    explainer = Explainer(seeded(Cnn, nn.ReLU()))
    explainer.labels = ("cat", "dog", "owl", "crane", "crane")
    return explainer


@pytest.mark.parametrize(
    ("method", "options", "field", "message"),
    [
        ("guidde", {}, "method", "did you mean 'guided'"),
        ("", {}, "method", "is not one of gradient, guided, input_x_gradient"),
        (["gradient"], {}, "method", "is not one of"),
        ("gradient", {"layer": "conv1"}, "parameters.layer", "it takes none"),
        ("grad_cam", {"layers": "conv1"}, "parameters.layers", "one of layer"),
        ("grad_cam", {"layer": 3}, "parameters.layer", "3 is a int, grad_cam takes a str"),
        ("gradient", {"reduction": "max"}, "reduction", "did you mean 'max_abs'"),
    ],
)
def test_request(method: Any, options: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Saliency(method, **options)
    assert caught.value.field == field
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (-1, "-1 is not an integer in 0..4"),
        (CLASSES, "5 is not an integer in 0..4"),
        (2**63, "not an integer in 0..4"),
        (True, "True is not an integer"),
        (1.0, "neither an index"),
        ("wolf", "no class 'wolf'"),
        ("cow", "did you mean 'owl'"),
        ("crane", "classes 3, 4"),
        ("5", "nor is it an index in 0..4"),
        ("index:5", "nor is it an index in 0..4"),
        (Contrast("cat", "index:0"), "with itself"),
        (Contrast(1, 1), "with itself"),
        (Contrast("dog", 1), "with itself"),
        (Contrast(0, 9), "9 is not"),
        (Contrast(0, None), "None is not"),  # type: ignore[arg-type]
        (Top(0), "0 is not an integer in 1..5"),
        (Top(CLASSES + 1), "6 is not an integer in 1..5"),
        (Top(True), "True is not"),
        (Top("2"), "'2' is not"),  # type: ignore[arg-type]
        (Rank(CLASSES), "5 is not"),
        (Rank(-1), "-1 is not"),
    ],
    ids=repr,
)
def test_target(target: Any, message: str, explainer: Explainer) -> None:
    with pytest.raises(InvalidArgument) as caught:
        explainer(images(1), [Saliency("gradient"), Saliency("gradient", target=target)])
    assert caught.value.field == "saliency[1].target"
    assert str(caught.value).startswith("saliency[1].target: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("labels", [(), ("1", "10", "2", "3", "1")])
@pytest.mark.parametrize(("text", "index"), [("4", 4), ("index:4", 4), ("index:1", 1), ("0", 0)])
def test_digits_that_are_no_label_are_an_index(
    labels: tuple[str, ...], text: str, index: int, explainer: Explainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explainer, "labels", labels)
    result = explainer(images(1), [Saliency("gradient", target=text), Saliency("gradient", target=Contrast(text, 3))])
    assert [one.target[0].index for one in result.maps] == [index, index]  # type: ignore[index]


@pytest.mark.parametrize(
    ("targets", "message"),
    [([0], "1 targets for 2 rows"), ([0, 1, 2], "3 targets"), ([Top(2), 1], "as many"), ([Top(2), Top(3)], "as many")],
)
def test_targets_per_row(targets: Any, message: str, explainer: Explainer) -> None:
    with pytest.raises(InvalidArgument, match=message) as caught:
        explainer(images(2), [Saliency("gradient", targets)])
    assert caught.value.field == "target"


@pytest.mark.parametrize("layer", ["conv3", "__class__", "conv1.weight", "forward", "x" * 10_000])
def test_unknown_layer(layer: str, explainer: Explainer) -> None:
    with pytest.raises(NotFound) as caught:
        explainer(images(1), [Saliency("grad_cam", layer=layer)])
    assert caught.value.field == "saliency[0].layer"
    assert len(str(caught.value)) < 400
    assert ("did you mean 'conv" in str(caught.value)) == (layer == "conv3")


class Odd(nn.Module):
    """Layers at which nothing can be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, CLASSES)
        self.unused, self.constant, self.aside = nn.Conv2d(4, 4, 1), nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
        self.patches, self.pair = nn.Conv2d(4, 4, 1), Pair()

    def forward(self, x: Tensor) -> Tensor:
        y = self.pair(self.conv(x))[0].relu()
        y = y + self.constant(torch.ones_like(x)).mean()
        self.aside(y)
        y = y + self.patches(y.repeat(2, 1, 1, 1)).unflatten(0, (2, -1))[0]
        return self.head(y.mean(dim=(2, 3)))


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("layer", "kind", "message"),
    [
        ("unused", FailedPrecondition, "gives no tensor"),
        ("pair", FailedPrecondition, "gives no tensor"),
        ("patches", FailedPrecondition, "a row per image"),
        ("constant", FailedPrecondition, "the image does not reach 'constant'"),
        ("aside", FailedPrecondition, "does not depend on 'aside'"),
        ("head", InvalidArgument, "needs (c, h, w)"),
    ],
)
def test_layer_without_a_map(layer: str, kind: type[OuzelError], message: str) -> None:
    explainer = Explainer(seeded(Odd))
    requests = [Saliency("gradient"), Saliency("grad_cam", layer=layer)]
    with pytest.raises(kind) as caught:
        explainer(images(2), requests)
    assert caught.value.field == "saliency[1].layer"
    assert message in str(caught.value)
    error, maps = explainer.forward(images(2), [requests, requests[:1]]).explain()
    assert isinstance(error, kind)
    assert isinstance(maps, list)
    assert maps[0].values.abs().amax() > 0


def test_no_default_layer() -> None:
    network = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, CLASSES)))
    with pytest.raises(FailedPrecondition, match="name a layer") as caught:
        Explainer(network)(images(1, size=4), [Saliency("grad_cam")])
    assert caught.value.field == "saliency[0].layer"


class Independent(nn.Module):
    """Its answer has nothing to do with the image. `how`: it may still take part in the graph."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.conv = how, nn.Conv2d(3, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.arange(CLASSES, dtype=x.dtype).repeat(len(x), 1)
        if self.how == "detached":
            return self.conv(x.detach()).mean(dim=(2, 3))
        return scores


@pytest.mark.parametrize("how", ["constant", "detached"])
@pytest.mark.parametrize("method", ["gradient", "guided"])
def test_model_that_ignores_the_image(how: str, method: str) -> None:
    with pytest.raises(FailedPrecondition, match="does not depend on the image") as caught:
        Explainer(Independent(how))(images(2, dtype=torch.float32), [Saliency(method)])
    assert caught.value.field == "saliency[0].method"


@pytest.mark.parametrize(
    "x", [torch.rand(3, 16, 16), torch.rand(0, 3, 16, 16), torch.rand(1, 3, 0, 16), torch.tensor(1.0)]
)
def test_shape_of_x(x: Tensor, explainer: Explainer) -> None:
    for call in (lambda: explainer(x, [Saliency("gradient")]), lambda: explainer.forward(x, [[]])):
        with pytest.raises(InvalidArgument, match="is not \\(batch, channels, height, width\\)") as caught:
            call()
        assert caught.value.field == "x"


def test_x_is_no_tensor(explainer: Explainer) -> None:
    with pytest.raises(InvalidArgument, match="a ndarray is no tensor"):
        explainer(images(1).numpy(), [Saliency("gradient")])  # type: ignore[arg-type]


def test_rows_do_not_fit(explainer: Explainer) -> None:
    with pytest.raises(InvalidArgument, match="requests for 1 rows, x has 2"):
        explainer.forward(images(2), [[]])


def answer(kind: str) -> type[nn.Module]:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Any:
            y = self.conv(x)
            return {
                "tuple": (y, y),
                "map": y[..., ::2],
                "no rows": y.mean(dim=(0, 2, 3)),
                "turned": y.mean(dim=(2, 3)).T,
            }[kind]

    return Wrong


@pytest.mark.parametrize("kind", ["tuple", "map", "no rows", "turned"])
def test_model_is_no_classifier(kind: str) -> None:
    with pytest.raises(FailedPrecondition, match=r"a classifier answers \(1, classes\)") as caught:
        Explainer(seeded(answer(kind)))(images(1), [Saliency("gradient")])
    assert caught.value.field == "model"


def test_a_failed_first_call_does_not_harm_the_next() -> None:
    explainer = Explainer(seeded(Residual, "post"))
    with pytest.raises(InvalidArgument, match=r"x: the network cannot take \(1, 16, 16\)") as caught:
        explainer(images(1, channels=1), [Saliency("gradient")])
    assert caught.value.field == "x"
    assert explainer(images(1), [Saliency("gradient")]).maps[0].values.shape == (1, 16, 16)
