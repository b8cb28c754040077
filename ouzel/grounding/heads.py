"""Last layers that are fitted on balanced groups and averaged.

References:
    Kirichenko, Izmailov, Wilson 2023, "Last layer re-training is sufficient for robustness to spurious correlations",
    arXiv 2204.02937.
    Beck, Teboulle 2009, "A fast iterative shrinkage-thresholding algorithm for linear inverse problems", SIAM Journal
    on Imaging Sciences 2, 183-202.
    O'Donoghue, Candes 2015, "Adaptive restart for accelerated gradient schemes", Foundations of Computational
    Mathematics 15, 715-732.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ouzel.finetune.data import Example
from ouzel.finetune.head import GRID, Featured, LinearHead, fit_head, standardised

_STEPS = 400


@dataclass(frozen=True)
class AveragedHeads:
    """The mean of several heads, each fitted on another half of the images, in which all groups are equally many.

    A group is a class before backgrounds of one sort. The penalty is chosen by the worst group of the validation
    images, with the first of the halves.

    Attributes:
        heads: How many are averaged.
        sparse: Whether the penalty is of the absolute weights (L1) or of their squares (L2).
        seed: Of the halves.
    """

    heads: int = 10
    sparse: bool = True
    seed: int = 0
    name = "last_layer"

    def choose(self, train: Featured, validation: Featured, weights: Tensor) -> LinearHead:
        """See `HeadFitter`."""
        rows = balanced_half(train.examples, (self.seed, 0))
        groups = _groups(validation.examples)
        best, best_key, start = GRID[0], (-1.0, -1.0, 0.0), None
        for c in GRID:
            start = self._fit(train, rows, weights, c, start)
            logits = start.logits(validation.features)
            right = logits.argmax(1) == validation.classes
            worst = min(float(right[members].double().mean()) for members in groups.values())
            loss = float(F.cross_entropy(logits, validation.classes))
            if (key := (worst, float(right.double().mean()), -loss)) > best_key:
                best, best_key = c, key
        return self._mean(train, weights, best)

    def refit(self, data: Featured, weights: Tensor, chosen: LinearHead) -> LinearHead:
        """See `HeadFitter`."""
        return self._mean(data, weights, chosen.c)

    def _mean(self, data: Featured, weights: Tensor, c: float) -> LinearHead:
        made = [
            self._fit(data, balanced_half(data.examples, (self.seed, number)), weights, c, None)
            for number in range(self.heads)
        ]
        return LinearHead(
            torch.stack([each.weight for each in made]).mean(0), torch.stack([each.bias for each in made]).mean(0), c
        )

    def _fit(self, data: Featured, rows: Tensor, weights: Tensor, c: float, start: LinearHead | None) -> LinearHead:
        fit = fit_sparse if self.sparse else fit_head
        return fit(data.features[rows], data.classes[rows], torch.ones_like(weights), c, start)


def balanced_half(examples: Sequence[Example], seed: tuple[int, int]) -> Tensor:
    """Rows of a half of the images: of each group as many, half of the smallest group.

    Args:
        examples: In groups by label and background.
        seed: Of the draw.

    Returns:
        (N,) of int64, in order.
    """
    groups = _groups(examples)
    count = -(-min(map(len, groups.values())) // 2)
    generator = torch.Generator().manual_seed((seed[0] * 1_000_003 + seed[1]) % 2**63)
    rows = [members[torch.randperm(len(members), generator=generator)[:count]] for members in groups.values()]
    return torch.cat(rows).sort().values


def _groups(examples: Sequence[Example]) -> dict[tuple[str, str], Tensor]:
    """Rows of each group, in order of the groups' names."""
    members: dict[tuple[str, str], list[int]] = {}
    for row, each in enumerate(examples):
        members.setdefault((each.label, each.background), []).append(row)
    return {name: torch.tensor(members[name]) for name in sorted(members)}


def fit_sparse(
    features: Tensor, classes: Tensor, weights: Tensor, c: float, start: LinearHead | None = None
) -> LinearHead:
    """Fit a linear head of few weights, by FISTA.

    What is minimised is c times the sum of the weighted cross entropies, plus the sum of the weights' absolute values,
    on standardised features. Scaling is then folded into the head.

    Args:
        features: (N, F).
        classes: (N,) of int64.
        weights: (K,) of the classes.
        c: Inverse strength of the penalty.
        start: A head to begin with.
    """
    x, mean, deviation = standardised(features)
    dtype = x.dtype
    x = torch.cat([x, torch.ones(len(x), 1, dtype=dtype)], 1)  # the last column is the bias
    importance = weights.to(dtype)[classes][:, None]
    target = F.one_hot(classes, len(weights)).to(dtype)
    w = torch.zeros(len(weights), x.shape[1], dtype=dtype)
    if start is not None:
        w[:, :-1] = start.weight.to(dtype) * deviation
        w[:, -1] = start.bias.to(dtype) + start.weight.to(dtype) @ mean
    gram = x.T @ x if x.shape[1] < len(x) else x @ x.T
    # Of the cross entropy's second derivative, half of it bounds that of the softmax.
    step = 1 / max(0.5 * float(torch.linalg.eigvalsh(gram)[-1] * importance.max()) / len(x), 1e-12)
    shrink = step / (c * len(x))
    ahead, momentum = w, 1.0
    for _ in range(_STEPS):
        residual = importance * ((x @ ahead.T).softmax(1) - target)
        moved = ahead - step * (residual.T @ x) / len(x)
        moved[:, :-1] = moved[:, :-1].sign() * (moved[:, :-1].abs() - shrink).clamp(min=0)
        if float(((ahead - moved) * (moved - w)).sum()) > 0:  # it overshoots: without momentum once
            momentum = 1.0
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = moved + (momentum - 1) / following * (moved - w)
        done = float((moved - w).abs().max()) < 1e-7
        w, momentum = moved, following
        if done:
            break
    unscaled = w[:, :-1] / deviation
    return LinearHead(unscaled.float(), (w[:, -1] - unscaled @ mean).float(), c)
