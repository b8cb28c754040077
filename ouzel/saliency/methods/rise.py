"""RISE (Petsiuk et al. 2018, arXiv 1806.07421): random masks, weighted by the probability that the target keeps.

What a mask hides is black. Needs no gradient, and many forward passes; the map is a sample and changes with the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ouzel.saliency.baselines import constant
from ouzel.saliency.method import Attribution, Rows
from ouzel.saliency.random_masks import MaskMethod, random_masks


@dataclass(frozen=True)
class Rise(MaskMethod):
    """RISE: the mean of random masks, weighted by the probability that the target keeps under them.

    References:
        Petsiuk et al. 2018, "RISE: Randomized input sampling for explanation", arXiv 1806.07421.
    """

    name: ClassVar[str] = "rise"

    def attribute(self, rows: Rows) -> Attribution:
        x = rows.x
        black = constant(rows.facts.black, x)
        total = x.new_zeros(len(x), *x.shape[-2:])
        for masks in random_masks(self, x, rows.blocks(())):
            masked = torch.addcmul(black[None], masks[:, None, None], (x - black)[None]).flatten(0, 1)
            kept = rows.evaluate_at(masked, ()).probability().unflatten(0, (len(masks), -1))
            total += (kept[..., None, None] * masks[:, None]).sum(dim=0)
        return Attribution((total / (self.masks * self.keep))[:, None])
