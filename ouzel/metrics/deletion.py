"""Deletion and insertion (Petsiuk et al. 2018, arXiv 1806.07421): does the score follow the pixels the map points at?

Pixels are taken in order of saliency. Deletion covers them one share after the other with the mean colour: a good map
makes the probability fall early. Insertion reveals them from a blurred picture: a good map makes it rise early.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from typing import Literal

import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.errors import FailedPrecondition
from ouzel.saliency.baselines import blurred

Mode = Literal["deletion", "insertion"]
# (n, C, H, W) images to (n,) probabilities of the class in question.
Probability = Callable[[Tensor], Tensor]
_CHUNK = 16  # images per forward


def area(network: nn.Module, x: Tensor, values: Tensor, target: int, mode: Mode, *, steps: int, seed: int = 0) -> float:
    """Area under the curve of the target's probability, in [0, 1].

    Args:
        network: (B, C, H, W) to logits (B, K).
        x: (C, H, W), normalised.
        values: (H, W), signed or not: the largest go first. Equal values are taken in random order, so that a map with
            large flat parts gains nothing by where its zeros lie.
        target: Index of a class.
        mode: "deletion" removes the pixels, "insertion" brings them back.
        steps: Of the curve.
        seed: Of the random order.
    """
    return area_of(_of_network(network, target), x, values, mode, steps=steps, seed=seed)


def area_of(probability: Probability, x: Tensor, values: Tensor, mode: Mode, *, steps: int, seed: int = 0) -> float:
    """As `area`, of anything that gives images a probability."""
    scores = curve_of(probability, x, values, mode, steps=steps, seed=seed)
    return float((scores.sum() - scores[0] / 2 - scores[-1] / 2) / steps)


def curve(
    network: nn.Module, x: Tensor, values: Tensor, target: int, mode: Mode, *, steps: int, seed: int = 0
) -> Tensor:
    """(steps + 1,) probabilities of the target, from no pixel changed to all. Arguments as those of `area`."""
    return curve_of(_of_network(network, target), x, values, mode, steps=steps, seed=seed)


def curve_of(probability: Probability, x: Tensor, values: Tensor, mode: Mode, *, steps: int, seed: int = 0) -> Tensor:
    """As `curve`, of anything that gives images a probability."""
    place = _places(values, seed).to(x.device)
    start, end = (x, _mean(x)) if mode == "deletion" else (blurred(x[None])[0], x)
    return _asked(probability, (torch.where(place < count, end, start) for count in _counts(values, steps)))


def areas_of(
    probability: Probability, x: Tensor, maps: Sequence[Tensor], *, steps: int, seed: int = 0
) -> list[tuple[float, float]]:
    """Deletion and insertion of several maps of one image: for each what `area_of` gives, with fewer images.

    The curves begin and end with the same three images, which are asked about once.

    Args:
        probability: Of the class in question.
        x: (C, H, W).
        maps: (H, W) each; one or more.
        steps: Of each curve.
        seed: Of the random order of equal values.

    Returns:
        (deletion, insertion) of each map.
    """
    mean, blur = _mean(x), blurred(x[None])[0]
    places = [_places(values, seed).to(x.device) for values in maps]
    between = (
        torch.where(place < count, end, start)
        for place in places
        for start, end in ((x, mean), (blur, x))
        for count in _counts(maps[0], steps)[1:-1]
    )
    scores = _asked(probability, chain((x, mean, blur), between))
    whole, gone, vague = (float(each) for each in scores[:3])
    inner = scores[3:].reshape(len(maps), 2, steps - 1).sum(dim=2)
    return [
        (((whole + gone) / 2 + float(deleted)) / steps, ((vague + whole) / 2 + float(inserted)) / steps)
        for deleted, inserted in inner
    ]


def _asked(probability: Probability, images: Iterable[Tensor]) -> Tensor:
    """A chunk at a time, so that few images are in memory."""
    rest, scores = iter(images), []
    while chunk := list(islice(rest, _CHUNK)):
        scores.append(probability(torch.stack(chunk)))
    return torch.cat(scores)


def _counts(values: Tensor, steps: int) -> list[int]:
    return [round(step * values.numel() / steps) for step in range(steps + 1)]


def _mean(x: Tensor) -> Tensor:
    return x.mean(dim=(1, 2), keepdim=True).expand_as(x)


def _of_network(network: nn.Module, target: int) -> Probability:
    def probability(images: Tensor) -> Tensor:
        with models.computing(), torch.no_grad():
            logits = network(images).double()
            if logits.ndim != 2:
                raise FailedPrecondition(
                    f"network: it answers {tuple(logits.shape)}; these figures are of classifiers", field="network"
                )
            return models.probabilities(logits)[:, target]

    return probability


def _places(values: Tensor, seed: int) -> Tensor:
    """(H, W): the place of each pixel in the order, 0 for the most salient."""
    flat = values.flatten().cpu()
    shuffled = torch.randperm(flat.numel(), generator=torch.Generator().manual_seed(seed))
    order = shuffled[flat[shuffled].argsort(descending=True, stable=True)]
    places = torch.empty_like(order)
    places[order] = torch.arange(flat.numel())
    return places.reshape(values.shape)
