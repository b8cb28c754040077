"""Does another network believe an image? The score of a second model, which had no part in the search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ouzel import models
from ouzel.errors import InvalidArgument
from ouzel.maximize.nodes import ClassLogit, Node
from ouzel_protos.text import nfc, shown


@dataclass(frozen=True)
class Score:
    """What a second model says of an image that was sought for a class.

    It sees the file as it is served with it: resized and cropped by its own preprocessing.

    Attributes:
        model: "NAME@VERSION" of the second model.
        digest: "sha256:<hex>" of its weights.
        label: The class that was sought.
        probability: Of that class, in [0, 1].
        rank: Of that class; 1 is the first choice.
        first: The label of its first choice.
        first_probability: Of its first choice, in [0, 1].
    """

    model: str
    digest: str
    label: str
    probability: float
    rank: int
    first: str
    first_probability: float


class Judge:
    """A second model, and which of its classes each target is.

    Args:
        model: The model that images are sought for.
        judge: The second one.
        targets: The nodes.

    Raises:
        InvalidArgument: The judge is the same network, takes no images, or lacks a class; or no target is a class.
    """

    def __init__(self, model: models.Model | nn.Module, judge: models.Model, targets: Sequence[Node]) -> None:
        if isinstance(model, nn.Module) or not model.labels or not judge.labels:
            raise _refused("classes are found by their labels; both models need some")
        if judge.digest == model.digest or judge.network is model.network:
            raise _refused(f"{judge.name} has the weights of the model itself; name another")
        if judge.preprocessing.channels not in (1, 3) or model.preprocessing.channels not in (1, 3):
            raise _refused("both models must take grey or colour images")
        self._model = judge
        self._classes = tuple(
            _same_class(model.labels, judge, one) if isinstance(one, ClassLogit) else None for one in targets
        )
        if not any(index is not None for index in self._classes):
            raise _refused("no target is a class, and other networks have other layers")

    @models.computing()
    def score(self, target: int, image: Tensor) -> Score | None:
        """The score of an image, (C, H, W) in [0, 1], for one of the targets; None if that is no class."""
        index = self._classes[target]
        if index is None:
            return None
        judge = self._model
        x = judge.preprocessing(_picture(image))
        device = next((p.device for p in judge.network.parameters()), torch.device("cpu"))
        with torch.no_grad():
            logits = judge.network(x[None].to(device))[0].float()
        probabilities = models.probabilities(logits)
        first = int(logits.argmax())
        return Score(
            model=f"{judge.name}@{judge.version}",
            digest=judge.digest,
            label=judge.labels[index],
            probability=float(probabilities[index]),
            rank=1 + int((logits > logits[index]).sum()),
            first=judge.labels[first],
            first_probability=float(probabilities[first]),
        )


def _same_class(labels: Sequence[str], judge: models.Model, node: ClassLogit) -> int:
    target = node.target
    index = models.label_index(labels, target) if isinstance(target, str) else target
    if tuple(labels) == tuple(judge.labels):
        return index
    if not 0 <= index < len(labels):
        raise InvalidArgument(f"targets: {index} is not within 0..{len(labels) - 1}", field="targets")
    matches = [other for other, label in enumerate(judge.labels) if nfc(label) == nfc(labels[index])]
    if len(matches) != 1:
        many = "several classes" if matches else "no class"
        raise _refused(f"{judge.name} has {many} {shown(labels[index], 80)}")
    return matches[0]


def _picture(image: Tensor) -> Image.Image:
    values = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(np.ascontiguousarray(values[:, :, 0] if values.shape[2] == 1 else values))


def _refused(why: str) -> InvalidArgument:
    return InvalidArgument(f"judge: {why}", field="judge")
