"""From images in [0, 1] to what a network takes, and from nodes to what is read off it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.maximize.engine.truncated import Truncated
from ouzel.maximize.nodes import LOGITS, ClassLogit, Node, Readout, readout
from ouzel.models.networks.detectors import Detector

_LARGER = 32  # pixels; what halves an image five times takes that, too


class Inputs:
    """What a model takes. A plain module takes values in [0, 1] as they are.

    size: (height, width); None is a Model's own, a module needs one. channels: of a module; a Model has its own.
    shape: (C, H, W). Raises InvalidArgument.
    """

    def __init__(self, model: models.Model | nn.Module, size: tuple[int, int] | None, channels: int) -> None:
        self.labels: tuple[str, ...] = ()
        self._own: tuple[int, int] | None = None
        if isinstance(model, nn.Module):
            if size is None:
                raise InvalidArgument("size: a plain module needs (height, width)", field="size")
            mean, std = (0.0,) * channels, (1.0,) * channels
            network = model
        else:
            mean, std, channels = model.preprocessing.mean, model.preprocessing.std, model.preprocessing.channels
            self._own = model.preprocessing.input_size
            size = size or self._own
            network, self.labels = model.network, model.labels
        if isinstance(network, Detector):
            raise FailedPrecondition(
                "model: it is a detector, whose candidates are no nodes; activations are maximized and searched in "
                "classifiers and segmentation models",
                field="model",
            )
        if not all(isinstance(edge, int) and 1 <= edge <= 4096 for edge in size):
            raise InvalidArgument(f"size: {size} is not (height, width), each within 1..4096", field="size")
        self.network = models.own_copy(network, share=True)
        parameter = next(self.network.parameters(), None)
        self.device = parameter.device if parameter is not None else torch.device("cpu")
        self.shape = (channels, *size)
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32, device=self.device)[:, None, None] for values in (mean, std)
        )

    def normalised(self, images: Tensor) -> Tensor:
        """(n, C, H, W) in [0, 1] as the network takes them."""
        if images.shape[1] != self.shape[0]:
            raise InvalidArgument(
                f"images: have {images.shape[1]} channels, the model takes {self.shape[0]}", field="images"
            )
        return (images.to(self.device) - self._mean) / self._std

    @models.computing()
    def takes_other_sizes(self) -> bool:
        """Whether the network takes larger images, too: then it gathers from all places, and things may be anywhere."""
        channels, height, width = self.shape
        try:
            models.check_size(self.network, (channels, height + _LARGER, width + _LARGER), "size")
        except InvalidArgument:
            return False
        return True

    @property
    def example(self) -> Tensor:
        """(1, C, H, W), normalised, of grey."""
        return self.normalised(torch.full((1, *self.shape), 0.5))

    def open(
        self, targets: Sequence[Node], also: Collection[str] = (), *, fold: bool = True
    ) -> tuple[Truncated, tuple[Readout, ...]]:
        """The network up to the targets' layers, and how to read each target. Raises OuzelError that names it.

        Args:
            targets: The nodes.
            also: Layers whose outputs are wanted, too.
            fold: Whether BatchNorms are folded into convolutions.
        """
        network = Truncated(self.network, {layer_of(node) for node in targets}.union(also))
        shapes = network.shapes(self.example, self._own)
        if fold:
            network.fold(self.example)
        return network, tuple(
            readout(node, shapes[layer_of(node)], self.labels, f"targets[{number}]")
            for number, node in enumerate(targets)
        )


def layer_of(node: Node) -> str:
    """Name of the layer that a node is in."""
    return LOGITS if isinstance(node, ClassLogit) else node.layer
