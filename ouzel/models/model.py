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
from ouzel.models.architectures import build, freeze
from ouzel.models.preprocessing import Preprocessing
from ouzel.models.weights import match
from ouzel.precision_names import EXACT, Precision


@dataclass(frozen=True)
class Model:
    """A classifier, ready to predict.

    Attributes:
        name: 1 to 63 of a-z 0-9 . _ -
        version: 1 to 31 letters, digits and dots.
        network: (B, C, H, W) to logits (B, K); in eval mode and frozen.
        labels: Names of the K classes, in the order of the outputs.
        preprocessing: From an image to the network's input.
        arch: `torchvision:NAME` or `timm:NAME`.
        digest: "sha256:<hex>" of the weights.
        card: model.json as read.
        precision: What it is served in.
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
    )
