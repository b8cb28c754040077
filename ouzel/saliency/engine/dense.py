"""Targets of networks that answer each pixel: their classes and regions, found on the device without a look at a value.

The regions are those of the image as it is, also for methods that go on to look at other images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ouzel.saliency.engine.chosen import Chosen
from ouzel.saliency.engine.functionals import Functionals
from ouzel.saliency.engine.work import Work
from ouzel.saliency.regions import planes
from ouzel.saliency.targets import Rank, best
from ouzel.saliency.transfer import sent


@dataclass(frozen=True)
class DenseTargets:
    """What the pairs of a batch are about.

    Attributes:
        functionals: Of the n pairs.
        classes: (n,) the class that each pair explains.
        areas: (n,) the share of the pixels that its region has; 0 where the class is predicted nowhere.
    """

    functionals: Functionals
    classes: Tensor
    areas: Tensor


def dense_targets(work: Work, logits: Tensor, classes: Tensor, chosen: Chosen, background: int | None) -> DenseTargets:
    """Find them.

    Args:
        work: What is asked for, at least one pair.
        logits: (B, K, H, W).
        classes: (pairs, 2), those that requests name, as `classes_of` gives them.
        chosen: To pick rows with.
        background: The class that comes after all others that are there; None if there is none.
    """
    pairs, (count, height, width) = work.pairs, logits.shape[1:]
    predicted = chosen.rows(logits.argmax(dim=1), [pair.row for pair in pairs])
    asked = [pair.target.region for pair in pairs]
    given = None
    if any(region is not None for region in asked):
        given = sent(torch.from_numpy(planes(asked, height, width)), logits.device)
    first = classes[:, 0]
    if work.places:
        pixels = predicted.new_ones(1, 1, 1).expand_as(predicted) if given is None else given.long()
        counts = predicted.new_zeros(len(pairs), count).scatter_add_(1, predicted.flatten(1), pixels.flatten(1))
        order = counts * 2
        if background is not None:  # one that is there comes before those that are not
            order[:, background] = order[:, background].clamp_max(1)
        places = [pair.target.place if isinstance(pair.target, Rank) else 0 for pair in pairs]
        ranked = best(order, work.places).gather(1, chosen.numbers(places)[:, None])[:, 0]
        known = [not isinstance(pair.target, Rank) for pair in pairs]
        first = torch.where(chosen.numbers(known) == 1, first, ranked) if any(known) else ranked
    weights = logits.new_zeros(len(pairs), count).scatter_(1, first[:, None], 1)
    signs = [0 if isinstance(pair.target, Rank) or pair.target.minus is None else -1 for pair in pairs]
    if any(signs):
        weights.scatter_add_(1, classes[:, 1:], chosen.numbers(signs)[:, None].to(weights.dtype))
    inside = predicted == first[:, None, None]
    if given is not None:
        named = chosen.numbers([region is not None for region in asked])[:, None, None] == 1
        inside = torch.where(named, given, inside)
    sizes = inside.sum(dim=(1, 2))
    regions = inside.to(logits.dtype) / sizes.clamp_min(1).to(logits.dtype)[:, None, None]
    return DenseTargets(Functionals(weights, regions), first, sizes.double() / (height * width))
