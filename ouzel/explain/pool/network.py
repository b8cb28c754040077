"""A prepared network in memory: one that heads share, or that of a single model."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ouzel import models
from ouzel.explain import encode
from ouzel.explain.limits import Limits
from ouzel.explain.served import Served
from ouzel.explain.service import explainer_of
from ouzel.models import Model
from ouzel.models.split import Split
from ouzel.precision_names import EXACT, Precision
from ouzel.saliency import Explainer
from ouzel.saliency.boxes import DetectionExplainer
from ouzel.saliency.engine.deviation import measure
from ouzel.saliency.engine.heads import Head, Headed, SharedHead, install
from ouzel.task_names import DETECTION
from ouzel_protos.v1 import explain_pb2 as pb

logger = logging.getLogger(__name__)
_FOLDED = 1e-3  # of the largest logit: as far as folding may move a head's logits, as `fold` has it for a network's


@dataclass(eq=False)
class Network:
    """A network in memory.

    Attributes:
        model: That it was loaded with.
        explainer: Of its prepared copy.
        bytes: Of the memory that both copies take.
        after: Layers whose output depends on the head.
        features: (F,) of one input: of the network as it is, and prepared; None of a network of a single model.
        warm: Sizes of batches that it was warmed up with.
    """

    model: Model
    explainer: Explainer | DetectionExplainer
    bytes: int
    after: frozenset[str] = frozenset()
    features: tuple[Tensor, Tensor] | None = None
    warm: set[int] = field(default_factory=set)

    @classmethod
    def single(cls, model: Model, limits: Limits, precision: Precision) -> Network:
        """The network of one model alone."""
        if model.task == DETECTION:
            detector = DetectionExplainer(model, memory_bytes=limits.memory_bytes)
            assert detector.network.copy is not None  # it was prepared for a Model
            return cls(model, detector, _bytes([model.network, detector.network.copy]))
        explainer = explainer_of(model, limits, precision, graphs=False)
        return cls(model, explainer, _bytes([model.network, _prepared(explainer, model)]))

    @classmethod
    def shared(cls, model: Model, layer: str, limits: Limits, precision: Precision) -> Network | None:
        """A network that heads share in place of its last layer; None if that cannot be, and the model is as it was."""
        parameter = next(model.network.parameters())
        example = _example(model).to(parameter.device, parameter.dtype)[None]
        with models.computing():
            installed = install(model.network, layer, example)
        if installed is None:
            return None
        explainer = explainer_of(model, limits, precision, graphs=False)
        prepared = _prepared(explainer, model)
        with models.computing():
            features = _features(model.network, example), _features(prepared, example)
        return cls(model, explainer, _bytes([model.network, prepared]), installed.after, features)

    def alone(self) -> Served:
        """The model that the network was loaded with, which has it for itself."""
        return Served(self.model, self.explainer, encode.model_info(self.model, self.explainer))

    def served(self, split: Split) -> Served | None:
        """A model whose backbone this network has; None if its head needs a network of its own.

        That is so if folding BatchNorms into the network has moved the head's logits by more than it may.
        """
        assert self.features is not None
        device = self.features[0].device
        head = Head(split.weight.to(device), split.bias.to(device), split.card.labels)
        with models.computing():
            plain, folded = (F.linear(features, head.weight, head.bias) for features in self.features)
        if not (plain - folded).abs().amax() <= _FOLDED * plain.abs().amax().clamp_min(1e-6):
            logger.warning("%s %s gets a network of its own: folding moves it", split.card.name, split.card.version)
            return None
        card = split.card
        model = Model(
            name=card.name,
            version=card.version,
            network=Headed(self.model.network, head),
            labels=card.labels,
            preprocessing=card.preprocessing,
            arch=card.arch,
            digest=card.digest,
            card=split.values,
            precision=card.precision,
        )
        return Served(model, self.explainer, self._info(model, head), head, self.after)

    def _info(self, model: Model, head: Head) -> pb.ModelInfo:
        info = encode.model_info(model, self.explainer)
        if isinstance(self.explainer, Explainer) and self.explainer.precision != EXACT:  # how far depends on the head
            example = _example(model).to(self.explainer.device, self.explainer.dtype)
            measured = measure(self.explainer.prepare(example), example, head)
            info.deviation.CopyFrom(encode.deviation(measured))
        return info


def _example(model: Model) -> Tensor:
    return torch.rand(model.input_shape, generator=torch.Generator().manual_seed(0))


def _prepared(explainer: Explainer, model: Model) -> nn.Module:
    return explainer.prepare(_example(model)).network


@torch.no_grad()
def _features(network: nn.Module, example: Tensor) -> Tensor:
    """(F,) what the head of a network sees of (1, C, H, W)."""
    seen: list[Tensor] = []
    head = next(module for module in network.modules() if isinstance(module, SharedHead))
    handle = head.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    try:
        network(example.clone())
    finally:
        handle.remove()
    return seen[0][0].clone()


def _bytes(networks: Iterable[nn.Module]) -> int:
    """Of their tensors, each storage counted once."""
    tensors = [each for network in networks for each in (*network.parameters(), *network.buffers())]
    storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}
    return sum(storages.values())


def head_bytes(served: Served) -> int:
    """Of a model beside its network: its head, and its card as Python holds it."""
    if served.head is None:
        return 0
    tensors = sum(each.untyped_storage().nbytes() for each in (served.head.weight, served.head.bias))
    return tensors + _CARD + sum(_LABEL + 4 * len(label) for label in served.head.labels)


_CARD, _LABEL = 64 * 2**10, 160  # bytes: a lineage has up to 64 KiB; a label is there twice, as a text of its own
