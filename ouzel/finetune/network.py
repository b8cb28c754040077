"""A network with a new head: the one layer, or the few, whose shape depends on the number of classes."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.errors import FailedPrecondition
from ouzel.models import Model, Preprocessing, build, default_preprocessing
from ouzel.models.heads import head_tensors, linear_layer


def linear_head(network: nn.Module, arch: str, channels: int) -> str:
    """Name of the linear layer that the network ends in. Raises FailedPrecondition if it ends in something else."""
    if name := linear_layer(network, arch, channels):
        return name
    raise FailedPrecondition(
        f"recipe: {arch} does not end in one linear layer, as this recipe needs; fine_tune takes any network",
        field="recipe",
    )


def renewed(base: Model, classes: int, *, pretrained: bool, seed: int) -> nn.Module:
    """The base's architecture for so many classes: its weights, and a random head; or random weights throughout.

    In eval mode, every parameter asks for its gradient.
    """
    channels = base.preprocessing.channels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(base.arch, num_classes=classes, in_channels=channels)
    if pretrained:
        head = head_tensors(base.arch, channels)
        kept = {name: tensor for name, tensor in base.network.state_dict().items() if name not in head}
        network.load_state_dict(kept, strict=False)
    device = next(base.network.parameters()).device
    return network.to(device).requires_grad_(True)


def backbone(base: Model, head: str) -> nn.Module:
    """The base without its head: (B, C, H, W) to features (B, F). In eval mode, frozen, with BatchNorms folded."""
    from ouzel.saliency.engine.folding import fold

    device = next(base.network.parameters()).device
    network = _on_cpu(base.network)
    network.set_submodule(head, nn.Identity())
    network.eval().requires_grad_(False)
    example = torch.rand((1, *base.input_shape), generator=torch.Generator().manual_seed(0))
    return fold(network, example).network.to(device).to(memory_format=torch.channels_last)


def install_head(network: nn.Module, head: str, weight: Tensor, bias: Tensor) -> None:
    """weight: (K, F); bias: (K,)."""
    layer = network.get_submodule(head)
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)


def logits_of(output: object) -> Tensor:
    """A training network's answer: some give auxiliary outputs beside it."""
    logits = getattr(output, "logits", output)
    assert isinstance(logits, Tensor)
    return logits


def check_size(base: Model, *, training: bool) -> None:
    """Raises InvalidArgument, which names a size that would do, if the network takes no input of the base's size.

    training: it is to be trained, too; auxiliary heads run then alone, and need more pixels.
    """
    own = default_preprocessing(base.arch).input_size
    network = _on_cpu(base.network)
    models.check_size(network, base.input_shape, "image_size", own=own)
    if training:  # it is a copy: training moves the averages of BatchNorms
        models.check_size(network.train(), base.input_shape, "image_size", own=own, rows=2)


def _on_cpu(network: nn.Module) -> nn.Module:
    """A copy, for single passes: on a GPU, the first pass of a new shape of batches costs seconds."""
    return copy.deepcopy(network).cpu()


def resized(preprocessing: Preprocessing, edge: int) -> Preprocessing:
    """For inputs of edge x edge pixels; 0 leaves it as it is."""
    return preprocessing.adapted(input_size=(edge, edge)) if edge else preprocessing
