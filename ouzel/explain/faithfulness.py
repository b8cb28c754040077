"""How faithful a map is: the areas under its deletion and insertion curves, as measures that go with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from ouzel import models
from ouzel.checks import within
from ouzel.errors import DeadlineExceeded, InvalidArgument
from ouzel.metrics.deletion import areas_of
from ouzel.models import Model
from ouzel.saliency import ResolvedTarget, SaliencyMap
from ouzel.saliency.regions import planes
from ouzel.task_names import SEGMENTATION
from ouzel_protos.v1 import explain_pb2 as pb

_LEAST, _MOST = 2, 64  # steps


def check(request: pb.SaliencyRequest) -> None:
    """Raises InvalidArgument where the faithfulness that is asked for is none, or has another meaning."""
    if not request.faithfulness:
        return
    within("faithfulness", request.faithfulness, _LEAST, _MOST)
    if request.reduction == pb.NONE:
        raise InvalidArgument("faithfulness: is of maps of one channel, not with reduction none", field="faithfulness")
    if request.target.HasField("contrast"):
        raise InvalidArgument("faithfulness: is of the probability of a class, not of a contrast", field="faithfulness")


def passes(steps: int) -> int:
    """Forward passes that measuring one map takes."""
    return 2 * (steps - 1) + 3 if steps else 0


def measured(
    maps: Sequence[SaliencyMap], steps: Sequence[int], model: Model, x: torch.Tensor, over: Callable[[], bool] | None
) -> list[SaliencyMap]:
    """The maps, those with steps with two more measures: "deletion" and "insertion".

    Args:
        maps: Of one row.
        steps: Of the curves of each; 0 leaves a map as it is.
        model: That the maps explain.
        x: (C, H, W), the row's input, on the model's device.
        over: Whether the caller has stopped waiting; None waits for ever.

    Raises:
        DeadlineExceeded: The caller has.
    """
    return [_measured(one, count, model, x, over) if count else one for one, count in zip(maps, steps, strict=True)]


def _measured(
    one: SaliencyMap, steps: int, model: Model, x: torch.Tensor, over: Callable[[], bool] | None
) -> SaliencyMap:
    target = one.target
    assert isinstance(target, ResolvedTarget)  # a map of one row has one target

    inside = _region(target, model, x) if model.task == SEGMENTATION else None

    def probability(images: torch.Tensor) -> torch.Tensor:
        if over is not None and over():
            raise DeadlineExceeded("faithfulness: the time was over before it was measured", field="faithfulness")
        with models.computing(), torch.no_grad():
            if inside is not None:
                return model.network(images).double().softmax(dim=1)[:, target.index, inside].mean(dim=1)
            return models.probabilities(model.network(images).double())[:, target.index]

    ((deletion, insertion),) = areas_of(probability, x, [one.values.to(x.device).float()], steps=steps)
    return replace(one, measures={**one.measures, "deletion": deletion, "insertion": insertion})


def _region(target: ResolvedTarget, model: Model, x: torch.Tensor) -> torch.Tensor:
    """(H, W) of bool: the pixels over whose probabilities a map's faithfulness is measured."""
    if target.region is not None:
        return torch.from_numpy(planes([target.region], *x.shape[1:])[0]).to(x.device)
    with models.computing(), torch.no_grad():
        return model.network(x[None])[0].argmax(dim=0) == target.index
