"""Model parameter randomisation (Adebayo et al. 2018, arXiv 1810.03292).

A map that explains a network must change when the network forgets what it has learnt.

The layers lose what they know stage by stage, from the last that the network defines, which in usual architectures is
next to the output, to the first. Their values are shuffled rather than drawn anew: that keeps the scale of the
activations, so that what is compared is a network that knows nothing, not one that is silent.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from ouzel import models


def cascade(network: nn.Module, stages: int, seed: int = 0) -> Iterator[nn.Module]:
    """Copies of a network, more and more of whose layers are randomised, counted from the output.

    Args:
        network: Stays as it is.
        stages: How many copies: in them 1/stages, 2/stages, ... of the layers are randomised.
        seed: Of the shuffling.

    References:
        Adebayo et al. 2018, "Sanity checks for saliency maps", arXiv 1810.03292.
    """
    current = models.own_copy(network)
    owners = [
        name
        for name, module in current.named_modules()
        if any(True for _ in module.parameters(recurse=False)) or any(True for _ in module.buffers(recurse=False))
    ][::-1]
    generator = torch.Generator().manual_seed(seed)
    done = 0
    for stage in range(1, stages + 1):
        until = round(stage * len(owners) / stages)
        for name in owners[done:until]:
            _shuffle(current.get_submodule(name), generator)
        done = until
        yield copy.deepcopy(current)


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's, of |a| and |b|: maps of one shape. 0 if one of them is flat: it says nothing."""
    from scipy.stats import rankdata

    ranks = [rankdata(np.abs(values.double().cpu().numpy()).ravel()) for values in (a, b)]
    if any(rank.min() == rank.max() for rank in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def _shuffle(module: nn.Module, generator: torch.Generator) -> None:
    with torch.no_grad():
        for values in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if values.is_floating_point():
                order = torch.randperm(values.numel(), generator=generator).to(values.device)
                values.copy_(values.flatten()[order].reshape(values.shape))
