"""A network with all that is needed to use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ouzel.errors import FailedPrecondition, InvalidArgument, OuzelError
from ouzel.models import archive
from ouzel.models.architectures import build, check_task_of, freeze
from ouzel.models.preprocessing import Preprocessing
from ouzel.models.weights import match
from ouzel.precision_names import EXACT, Precision
from ouzel.task_names import CLASSIFICATION, Task, need_task


@dataclass(frozen=True)
class Model:
    """A classifier or a segmentation model, ready to predict.

    Attributes:
        name: 1 to 63 of a-z 0-9 . _ -
        version: 1 to 31 letters, digits and dots.
        network: (B, C, H, W) to logits (B, K), those of a segmentation model (B, K, H, W); in eval mode and frozen.
        labels: Names of the K classes, in the order of the outputs.
        preprocessing: From an image to the network's input.
        arch: As of `build`.
        digest: "sha256:<hex>" of the weights.
        card: model.json as read.
        precision: What it is served in.
        task: What it is for.
    """

    name: str
    version: str
    network: nn.Module
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    arch: str
    digest: str
    card: Mapping[str, Any] = field(repr=False)
    precision: Precision = EXACT
    task: Task = CLASSIFICATION

    def need(self, task: Task, what: str, field: str = "model") -> None:
        """Refuse a model of another task. Arguments and errors as those of `need_task`."""
        need_task(self.task, task, what, self.name, field)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one input."""
        return (self.preprocessing.channels, *self.preprocessing.input_size)


def load(path: str | Path, device: str | torch.device = "cpu") -> Model:
    """Load the model in a .mar file, or in a folder that holds its extracted files (TorchServe's model_dir).

    Nothing in the archive is executed.

    Args:
        path: Of the file or the folder.
        device: Where the network goes.

    Raises:
        NotFound: There is no such file.
        FailedPrecondition: The archive is damaged, was made for a later version of this library, or does not fit its
            architecture.
    """
    card, values, state = archive.read(path)
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise InvalidArgument(f"device: {device!r} is not a device of torch", field="device") from error
    try:
        check_task_of(card.arch, card.task)
        network = build(card.arch, num_classes=len(card.labels), in_channels=card.preprocessing.channels)
        network.load_state_dict(match(state, network))
    except OuzelError as error:
        raise FailedPrecondition(f"{path}: {error}") from error
    return Model(
        name=card.name,
        version=card.version,
        network=freeze(network).to(target),
        labels=card.labels,
        preprocessing=card.preprocessing,
        arch=card.arch,
        digest=card.digest,
        card=values,
        precision=card.precision,
        task=card.task,
    )
