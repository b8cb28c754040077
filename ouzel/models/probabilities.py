"""From logits to probabilities, and how uncertain these are: one rule for all that reads a classifier's answer.

Of several logits the softmax. A network with one logit tells one class, its label, from everything else: the sigmoid is
the probability of that class, and what is left that of "not so", which has no name and no index. The class is then
always the predicted one, however improbable.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def probabilities(logits: Tensor) -> Tensor:
    """(..., K) logits to (..., K) probabilities, which add up to 1 if K > 1."""
    return logits.sigmoid() if logits.shape[-1] == 1 else logits.softmax(dim=-1)


def entropy(logits: Tensor) -> Tensor:
    """(..., K) logits to (...,) nats, in 0..`most_entropy(K)`; of one logit that of "this class" and "not so"."""
    both = torch.cat([logits, torch.zeros_like(logits)], dim=-1) if logits.shape[-1] == 1 else logits
    return torch.special.entr(both.softmax(dim=-1)).sum(dim=-1)


def most_entropy(classes: int) -> float:
    """In nats, where all is equally probable."""
    return math.log(max(classes, 2))
