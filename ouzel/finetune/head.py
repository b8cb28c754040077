"""A logistic regression on features: the exact best head for a frozen backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ouzel.finetune.data import Example

# Inverse strength of the L2 penalty, as scikit-learn has it: strong to weak, so that each solution starts the next.
GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_STEPS = 200
# Products in one evaluation. L-BFGS looks at a number a hundred times an iteration: below this, asking a GPU for them
# takes longer than what it computes faster.
_LARGE = 10**9
_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class LinearHead:
    """weight: (K, F); bias: (K,); float32. c: inverse strength of the penalty that was chosen."""

    weight: Tensor
    bias: Tensor
    c: float

    def logits(self, features: Tensor) -> Tensor:
        """(N, F) to (N, K)."""
        return F.linear(features, self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class Featured:
    """Images as a head sees them.

    Attributes:
        features: (N, F).
        classes: (N,) of int64.
        examples: (N,) the images.
    """

    features: Tensor
    classes: Tensor
    examples: tuple[Example, ...]


class HeadFitter(Protocol):
    """How the last layer is fitted on the features of a frozen backbone."""

    @property
    def name(self) -> str:
        """Of the network with this head and nothing else trained, among the candidates."""

    def choose(self, train: Featured, validation: Featured, weights: Tensor) -> LinearHead:
        """Fits a head on `train`, with what is chosen on `validation`. weights: (K,) of the classes."""

    def refit(self, data: Featured, weights: Tensor, chosen: LinearHead) -> LinearHead:
        """Fits it once more, as `chosen` was, on more images."""


@dataclass(frozen=True)
class LogisticFitter:
    """One logistic regression. device: where large ones are computed."""

    device: torch.device = _CPU

    @property
    def name(self) -> str:
        """See `HeadFitter`."""
        return "feature_extractor"

    def choose(self, train: Featured, validation: Featured, weights: Tensor) -> LinearHead:
        """See `choose_head`."""
        return choose_head(self._placed(train, weights), (validation.features, validation.classes), weights)

    def refit(self, data: Featured, weights: Tensor, chosen: LinearHead) -> LinearHead:
        """See `fit_head`."""
        return fit_head(*self._placed(data, weights), weights, chosen.c, chosen)

    def _placed(self, data: Featured, weights: Tensor) -> tuple[Tensor, Tensor]:
        device = self.device if data.features.numel() * len(weights) > _LARGE else _CPU
        return data.features.to(device), data.classes.to(device)


def choose_head(
    train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], weights: Tensor, grid: Sequence[float] = GRID
) -> LinearHead:
    """The head with the best accuracy on the validation images; of equals the one with the least loss.

    Args:
        train: Features (N, F) and classes (N,).
        validation: The same.
        weights: (K,) of the classes.
        grid: Values of `c` that are tried, see `fit_head`.
    """
    best, best_key = None, (-1.0, 0.0)
    start, problem = None, _Problem(*train, weights)
    for c in grid:
        head = problem.solved(c, start)
        start = head
        logits = head.logits(validation[0])
        accuracy = float((logits.argmax(1) == validation[1]).double().mean())
        key = (accuracy, -float(F.cross_entropy(logits, validation[1])))
        if best is None or key > best_key:
            best, best_key = head, key
    assert best is not None
    return best


def standardised(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features with mean 0 and deviation 1, and both of before.

    Args:
        features: (N, F).

    Returns:
        (N, F), (F,), (F,): double where that costs little, as the solution of a weakly penalised problem is far out.
    """
    x = features.to(torch.float64 if features.numel() < 2 * 10**7 else torch.float32)
    mean, deviation = x.mean(0), x.std(0).nan_to_num(1.0)
    deviation = torch.where(deviation > 1e-6, deviation, 1.0)
    return (x - mean) / deviation, mean, deviation


def fit_head(
    features: Tensor, classes: Tensor, weights: Tensor, c: float, start: LinearHead | None = None
) -> LinearHead:
    """Fit a linear head by L-BFGS.

    What is minimised is c times the sum of the weighted cross entropies, plus half the squared norm of the weights, on
    standardised features. Scaling is then folded into the head.

    Args:
        features: (N, F).
        classes: (N,) of int64.
        weights: (K,) of the classes.
        c: Inverse strength of the penalty.
        start: A head to begin with.

    Returns:
        The head, on the CPU; it is computed where the features are.
    """
    return _Problem(features, classes, weights).solved(c, start)


class _Problem:
    """Fits of one set of features: what all strengths have in common is computed once.

    With fewer images than features, the solution is a combination of the images, and the penalty is the same in any
    orthonormal basis: so the weights are sought in one of the images' own space, which has fewer dimensions.
    """

    def __init__(self, features: Tensor, classes: Tensor, weights: Tensor) -> None:
        x, self._mean, self._deviation = standardised(features)
        self._basis: Tensor | None = None  # (F, N)
        if len(x) < x.shape[1]:
            self._basis, coordinates = torch.linalg.qr(x.T)
            x = coordinates.T.contiguous()
        self._x, self._classes, self._weights = x, classes, weights.to(x)

    def solved(self, c: float, start: LinearHead | None) -> LinearHead:
        x = self._x
        weight, bias = x.new_zeros(len(self._weights), x.shape[1]), x.new_zeros(len(self._weights))
        if start is not None:  # in the same units
            weight = start.weight.to(x) * self._deviation
            weight = weight if self._basis is None else weight @ self._basis
            bias = start.bias.to(x) + start.weight.to(x) @ self._mean
        weight.requires_grad_()
        bias.requires_grad_()
        scale = 1 / (c * len(x))
        optimizer = torch.optim.LBFGS(
            [weight, bias], max_iter=_STEPS, tolerance_grad=1e-6, tolerance_change=1e-10, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            losses = F.cross_entropy(F.linear(x, weight, bias), self._classes, self._weights, reduction="sum")
            loss = losses / len(x) + 0.5 * scale * weight.square().sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(closure)
        found = weight.detach() if self._basis is None else weight.detach() @ self._basis.T
        unscaled = found / self._deviation
        return LinearHead(unscaled.float().cpu(), (bias.detach() - unscaled @ self._mean).float().cpu(), c)
