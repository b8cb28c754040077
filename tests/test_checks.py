"""Each check lets through what it should, and its message names the field, the value and the limit."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from ouzel.checks import at_least, did_you_mean, one_of, within
from ouzel.errors import InvalidArgument
from ouzel.names import unknown_layer


@pytest.mark.parametrize("value", [1, 3, 7, 2.5])
def test_values_within(value: float) -> None:
    within("steps", value, 1, 7)
    at_least("steps", value, 1)
    one_of("mode", "deletion", ("deletion", "insertion"))


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: within("steps", 8, 1, 7), "steps: 8 is not within 1..7"),
        (lambda: within("steps", 0, 1, 7), "steps: 0 is not within 1..7"),
        (lambda: within("timeout", math.nan, 0.5, 2.0, unit="s"), "timeout: nan s is not within 0.5..2 s"),
        (lambda: within("share", 1.0000001, 0, 1), "share: 1.0000001 is not within 0..1"),
        (lambda: within("seed", 2**63, 0, 2**63 - 1), f"seed: {2**63} is not within 0..{2**63 - 1}"),
        (lambda: at_least("slots", 0, 1), "slots: 0 is less than 1"),
        (lambda: at_least("slots", math.nan, 1), "slots: nan is less than 1"),
        (lambda: one_of("mode", "x", ("deletion", "insertion")), "mode: 'x' is not one of deletion, insertion"),
        (
            lambda: one_of("mode", "Deletoin", ("deletion", "insertion")),
            "mode: 'Deletoin' is not one of deletion, insertion; did you mean 'deletion'?",
        ),
        (lambda: one_of("mode", None, ("deletion",)), "mode: None is not one of deletion"),
        (lambda: one_of("mode", ["deletion"], {"deletion": 1}), "mode: ['deletion'] is not one of deletion"),
    ],
)
def test_messages(check: Callable[[], None], message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check()
    assert (str(caught.value), caught.value.field) == (message, message.partition(":")[0])


def test_near_names() -> None:
    assert did_you_mean("resnet5o", ["ResNet50", "vgg16"]) == "; did you mean 'ResNet50'?"
    assert did_you_mean("resnet5o", ["resnet50"], prefix="timm:") == "; did you mean 'timm:resnet50'?"
    assert did_you_mean("zzz", ["ResNet50"]) == ""
    assert did_you_mean("", ["", "conv"]) == ""


@pytest.mark.parametrize(
    ("layers", "hint"),
    [
        (["", "conv1", "layer1", "layer2"], "; did you mean 'layer2', 'layer1'?"),
        (["", "stem", "body"], "; it has stem, body"),
        ([f"b{number}" for number in range(7)], "; it has b0, b1, b2, b3, b4, ... (7 in all)"),
        ([""], ""),
    ],
)
def test_an_unknown_layer(layers: list[str], hint: str) -> None:
    error = unknown_layer("layer9", layers)
    assert (str(error), error.field) == (f"layer: the model has no layer 'layer9'{hint}", "layer")
