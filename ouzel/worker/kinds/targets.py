"""Nodes of the wire: checked without torch, and turned into those of `ouzel.maximize`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ouzel.checks import within
from ouzel.errors import InvalidArgument
from ouzel.names import label_index, unknown_layer
from ouzel.task_names import CLASSIFICATION, DETECTION, SEGMENTATION, need_task
from ouzel.worker.catalog.catalog import Model
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.maximize import Node


def check(targets: Sequence[pb.Node], model: Model, most: int) -> None:
    """Checks nodes without torch.

    Args:
        targets: The nodes.
        model: That they are of.
        most: How many there may be.

    Raises:
        InvalidArgument, NotFound: Names the field at fault.
    """
    if not 1 <= len(targets) <= most:
        raise InvalidArgument(f"targets: {len(targets)} nodes are not within 1..{most}", field="targets")
    for number, node in enumerate(targets):
        _check(node, model, f"targets[{number}]")


def plain(targets: Sequence[pb.Node]) -> list[Node]:
    """The nodes as `ouzel.maximize` has them."""
    return [_plain(node) for node in targets]


def _check(node: pb.Node, model: Model, field: str) -> None:
    kind = node.WhichOneof("kind")
    if kind is None:
        raise InvalidArgument(f"{field}: must be a logit, unit, channel or direction", field=field)
    if model.task == DETECTION:
        need_task(model.task, CLASSIFICATION, "nodes to maximize or search for", model.name, field)
    if kind == "logit":
        if model.task == SEGMENTATION:
            raise InvalidArgument(
                f"{field}.logit: {model.name!r} is a segmentation model, whose classes are channels of its last layer; "
                "name that layer and a channel",
                field=f"{field}.logit",
            )
        _check_class(node, model, f"{field}.logit")
        return
    asked = getattr(node, kind)
    where = f"{field}.{kind}"
    shape = model.layers.get(asked.layer)
    if shape is None:
        raise unknown_layer(asked.layer, model.layers, where=f"{where}.layer", model=model.name)
    if len(shape) not in ((3,) if kind == "unit" else (1, 3)):
        message = f"{where}.layer: {asked.layer!r} puts out {shape}, no {kind} to be excited"
        raise InvalidArgument(message, field=f"{where}.layer")
    if kind == "direction":
        _check_weights(asked.weights, shape[0], f"{where}.weights")
        return
    within(f"{where}.channel", asked.channel, 0, shape[0] - 1)
    if kind == "unit":
        for name, count in (("y", shape[1]), ("x", shape[2])):
            if asked.HasField(name):
                within(f"{where}.{name}", getattr(asked, name), 0, count - 1)


def _check_class(node: pb.Node, model: Model, field: str) -> None:
    if node.logit.WhichOneof("kind") is None:
        raise InvalidArgument(f"{field}: give the index of a class, or its label", field=field)
    if node.logit.HasField("index"):
        within(f"{field}.index", node.logit.index, 0, len(model.labels) - 1)
        return
    try:
        label_index(model.labels, node.logit.label)
    except InvalidArgument as error:
        raise InvalidArgument(f"{field}.{error}", field=f"{field}.label") from None


def _check_weights(weights: Sequence[float], channels: int, field: str) -> None:
    if len(weights) != channels:
        raise InvalidArgument(f"{field}: {len(weights)} weights for {channels} channels", field=field)
    if not all(math.isfinite(weight) for weight in weights) or not any(weights):
        raise InvalidArgument(f"{field}: must be finite, and not all 0", field=field)


def _plain(node: pb.Node) -> Node:
    from ouzel.maximize import Channel, ClassLogit, Direction, Unit

    kind = node.WhichOneof("kind")
    if kind == "logit":
        return ClassLogit(node.logit.label if node.logit.HasField("label") else node.logit.index)
    if kind == "unit":
        x, y = (getattr(node.unit, name) if node.unit.HasField(name) else None for name in ("x", "y"))
        return Unit(node.unit.layer, node.unit.channel, x, y)
    if kind == "channel":
        return Channel(node.channel.layer, node.channel.channel)
    return Direction(node.direction.layer, tuple(node.direction.weights))
