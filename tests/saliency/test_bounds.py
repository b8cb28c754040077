"""Memory, deadlines and parameters of the methods of several passes."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from ouzel.errors import DeadlineExceeded, InvalidArgument
from ouzel.saliency import Explainer, Saliency

from .nets import Cnn, images, seeded
from .reference import error

TARGET = 3
EXACT = 1e-9


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return seeded(Cnn, nn.ReLU())


@pytest.fixture(scope="module")
def explainer(network: nn.Module) -> Explainer:
    return Explainer(network)


SEVERAL_PASSES = [
    Saliency("integrated_gradients", TARGET, steps=9),
    Saliency("smoothgrad", TARGET, samples=7),
    Saliency("smoothgrad", TARGET, samples=5, of="guided"),
    Saliency("occlusion", TARGET, window=4, stride=3),
    Saliency("rise", TARGET, masks=21),
]


def test_chunked_equals_unchunked(network: nn.Module) -> None:
    x = images(3)
    whole, pieces = Explainer(network), Explainer(network, memory_bytes=1)
    assert pieces.prepare(x[0]).rows_per_pass({"plain"}) == 1
    assert whole.prepare(x[0]).rows_per_pass({"plain"}) > 1
    for one, other in zip(whole(x, SEVERAL_PASSES).maps, pieces(x, SEVERAL_PASSES).maps, strict=True):
        assert error(other.values, one.values) <= EXACT


def test_no_pass_is_larger_than_the_memory_allows(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(2)
    explainer = Explainer(network)
    prepared = explainer.prepare(x[0])
    object.__setattr__(prepared, "memory_bytes", 5 * prepared.row_bytes)
    sizes: list[int] = []
    forward = prepared.network.forward
    monkeypatch.setattr(prepared.network, "forward", lambda batch: sizes.append(len(batch)) or forward(batch))
    explainer(x, [Saliency("integrated_gradients", steps=9)])
    assert max(sizes) == 4  # two blocks of two rows; three would need six times the memory of a row


def test_a_row_is_explained_alike_in_any_company(explainer: Explainer) -> None:
    x = images(4)
    for request in SEVERAL_PASSES:
        together = explainer(x, [request]).maps[0].values
        assert error(together[2:3], explainer(x[2:3], [request]).maps[0].values) <= EXACT


def test_work_stops_at_the_deadline(explainer: Explainer) -> None:
    x = images(1)
    requests = [Saliency("rise", masks=16384), Saliency("gradient")]
    explainer.prepare(x[0])
    (answer,) = explainer.forward(x, [requests]).explain(over=[lambda: True])
    assert isinstance(answer, DeadlineExceeded)
    (answer,) = explainer.forward(x, [[Saliency("gradient")]]).explain(over=[lambda: True])
    assert isinstance(answer, list)  # what is done already is given
    few = [Saliency("rise", masks=2)]
    late, patient = explainer.forward(x.repeat(2, 1, 1, 1), [few, few]).explain(over=[lambda: True, None])
    assert isinstance(late, list)  # the other row's caller still waits
    assert isinstance(patient, list)


@pytest.mark.parametrize("request_", SEVERAL_PASSES, ids=lambda r: r.method.name)
def test_no_pass_begins_after_the_deadline(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch, request_: Saliency
) -> None:
    x, passes = images(1), 0
    explainer = Explainer(network, memory_bytes=1)
    prepared = explainer.prepare(x[0])
    forward = prepared.network.forward

    def counted(batch: Tensor) -> Tensor:
        nonlocal passes
        passes += 1
        return forward(batch)

    monkeypatch.setattr(prepared.network, "forward", counted)
    (answer,) = explainer.forward(x, [[request_]]).explain(over=[lambda: passes > 3])
    assert isinstance(answer, DeadlineExceeded)
    assert passes == 4


def bad() -> list[tuple[str, dict[str, object], str]]:
    return [
        ("integrated_gradients", {"steps": 0}, "steps"),
        ("integrated_gradients", {"steps": -1}, "steps"),
        ("integrated_gradients", {"steps": 10**9}, "steps"),
        ("integrated_gradients", {"steps": 2.5}, "steps"),
        ("integrated_gradients", {"baseline": "grey"}, "baseline"),
        ("smoothgrad", {"samples": 0}, "samples"),
        ("smoothgrad", {"noise": 0.0}, "noise"),
        ("smoothgrad", {"noise": float("nan")}, "noise"),
        ("smoothgrad", {"of": "rise"}, "of"),
        ("smoothgrad", {"seed": -1}, "seed"),
        ("occlusion", {"stride": 0}, "stride"),
        ("occlusion", {"window": 4, "stride": 5}, "stride"),
        ("occlusion", {"window": 0, "stride": 1}, "window"),
        ("occlusion", {"fill": ""}, "fill"),
        ("rise", {"masks": 10**9}, "masks"),
        ("rise", {"cells": 1}, "cells"),
        ("rise", {"keep": 1.0}, "keep"),
        ("rise", {"masks": True}, "masks"),
    ]


@pytest.mark.parametrize(("method", "parameters", "field"), bad())
def test_bad_parameters(method: str, parameters: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgument, match=field) as caught:
        Saliency(method, **parameters)  # type: ignore[arg-type]
    assert caught.value.field == f"parameters.{field}"


def test_a_window_larger_than_the_image(explainer: Explainer) -> None:
    with pytest.raises(InvalidArgument, match="16") as caught:
        explainer(images(1), [Saliency("occlusion", window=17)])
    assert caught.value.field == "saliency[0].parameters.window"


def test_an_integer_will_do_for_a_number(explainer: Explainer) -> None:
    (smoothgrad,) = explainer(images(1), [Saliency("smoothgrad", noise=1, samples=1)]).maps
    assert smoothgrad.parameters["noise"] == 1.0


def test_memory_is_a_number_of_bytes() -> None:
    with pytest.raises(InvalidArgument, match="memory_bytes: 0 is less than 1"):
        Explainer(seeded(Cnn), memory_bytes=0)
