"""Nodes of a network: what is to be excited."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ouzel import models
from ouzel.checks import within
from ouzel.errors import InvalidArgument

LOGITS = ""  # stands for the layer of the logits


@dataclass(frozen=True)
class ClassLogit:
    """The logit of a class: an index, or a text as `models.label_index` takes it ("tabby", "index:281")."""

    target: int | str


@dataclass(frozen=True)
class Unit:
    """One unit of a layer with maps (C, h, w). x counts from the left, y from the top; None is the middle."""

    layer: str
    channel: int
    x: int | None = None
    y: int | None = None


@dataclass(frozen=True)
class Channel:
    """The mean of a channel of a layer, over all its units."""

    layer: str
    channel: int


@dataclass(frozen=True)
class Direction:
    """A direction in the space of a layer's channels: their means, weighted. The weights are scaled to length 1."""

    layer: str
    weights: tuple[float, ...]


Node = ClassLogit | Unit | Channel | Direction


@dataclass(frozen=True)
class Readout:
    """How a node is read off the output of its layer. weights: (C,), or (C, h, w) for a unit."""

    layer: str
    weights: Tensor
    title: str

    def __call__(self, output: Tensor) -> Tensor:
        """(n, C, h, w) or (n, C) to (n,)."""
        weights = self.weights.to(output)
        if output.ndim == 4 and weights.ndim == 1:
            output = output.mean(dim=(2, 3))
        return (output * weights).flatten(1).sum(dim=1)


def readout(node: Node, shape: tuple[int, ...], labels: Sequence[str], field: str) -> Readout:
    """`shape`: (C,) or (C, h, w) of the layer's output. Raises InvalidArgument that names what is allowed."""
    if isinstance(node, ClassLogit):
        if len(shape) != 1:
            raise InvalidArgument(
                f"{field}.logit: the network answers each pixel, and its classes are channels of its last layer; name "
                "that layer and a channel",
                field=f"{field}.logit",
            )
        index = _class(node.target, shape[0], labels, field)
        return Readout(LOGITS, _one_hot(shape[0], index), labels[index] if labels else f"class {index}")
    if len(shape) not in (1, 3):
        raise InvalidArgument(f"{field}.layer: {node.layer!r} puts out {shape}, no maps of channels", field=field)
    if isinstance(node, Direction):
        return Readout(node.layer, _unit_length(node.weights, shape[0], field), f"{node.layer} direction")
    _within(node.channel, shape[0], f"{field}.channel")
    if isinstance(node, Channel):
        return Readout(node.layer, _one_hot(shape[0], node.channel), f"{node.layer} channel {node.channel}")
    if len(shape) != 3:
        raise InvalidArgument(
            f"{field}.layer: {node.layer!r} puts out {shape[0]} numbers without places; ask for a channel", field=field
        )
    y = shape[1] // 2 if node.y is None else node.y
    x = shape[2] // 2 if node.x is None else node.x
    _within(y, shape[1], f"{field}.y")
    _within(x, shape[2], f"{field}.x")
    weights = torch.zeros(shape)
    weights[node.channel, y, x] = 1
    return Readout(node.layer, weights, f"{node.layer} unit {node.channel} at ({x}, {y})")


def _class(target: int | str, classes: int, labels: Sequence[str], field: str) -> int:
    if isinstance(target, str):
        try:
            return models.label_index(labels, target, classes)
        except InvalidArgument as error:
            where = f"{field}.logit"
            raise InvalidArgument(f"{where}: {str(error).removeprefix('label: ')}", field=where) from None
    _within(target, classes, f"{field}.logit")
    return target


def _one_hot(count: int, index: int) -> Tensor:
    weights = torch.zeros(count)
    weights[index] = 1
    return weights


def _unit_length(weights: Sequence[float], channels: int, field: str) -> Tensor:
    where = f"{field}.weights"
    if len(weights) != channels:
        raise InvalidArgument(f"{where}: {len(weights)} weights for {channels} channels", field=where)
    if not all(math.isfinite(weight) for weight in weights) or not any(weights):
        raise InvalidArgument(f"{where}: must be finite, and not all 0", field=where)
    values = torch.tensor(weights, dtype=torch.float64)
    return values / values.norm()


def _within(value: int, count: int, field: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgument(f"{field}: {value!r} is not an integer", field=field)
    within(field, value, 0, count - 1)
