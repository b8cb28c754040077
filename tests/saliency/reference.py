"""Every method once more: slow, plain, one row and one target at a time, on the caller's own network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ouzel.saliency import ResolvedTarget

Score = Callable[[Tensor], Tensor]


def score_of(target: ResolvedTarget) -> Score:
    """From logits (1, K) to the number that is explained."""
    if target.minus is None:
        return lambda logits: logits[0, target.index]
    return lambda logits: logits[0, target.index] - logits[0, target.minus]


def gradient(network: nn.Module, row: Tensor, target: ResolvedTarget) -> Tensor:
    """(C, H, W) by autograd."""
    x = row[None].detach().clone().requires_grad_()
    score_of(target)(network(x * 1)).backward()
    assert x.grad is not None
    return x.grad[0]


def differences(network: nn.Module, row: Tensor, target: ResolvedTarget, step: float = 1e-5) -> Tensor:
    """(C, H, W) by central finite differences, a pixel at a time."""
    result = torch.zeros_like(row)
    with torch.no_grad():
        for place in range(row.numel()):
            scores = []
            for sign in (1, -1):
                x = row.clone()
                x.view(-1)[place] += sign * step
                scores.append(score_of(target)(network(x[None])))
            result.view(-1)[place] = (scores[0] - scores[1]) / (2 * step)
    return result


class _GuidedRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, lower: float, upper: float) -> Tensor:
        ctx.save_for_backward((x > lower) & (x < upper))
        return x.clamp(lower, upper)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return torch.where(ctx.saved_tensors[0] & (grads[0] > 0), grads[0], 0), None, None


def rectified(x: Tensor, upper: float = float("inf")) -> Tensor:
    """A rectifier that is guided when differentiated."""
    return _GuidedRelu.apply(x, 0.0, upper)  # type: ignore[no-any-return]


class _GuidedSmooth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.activation = activation
        ctx.save_for_backward(x)
        return activation(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            (slope,) = torch.autograd.grad(ctx.activation(x).sum(), x)
        return torch.where((x > 0) & (grads[0] > 0), grads[0] * slope, 0), None


def smooth(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A smooth activation, not in place, that is guided when differentiated."""
    return lambda x: _GuidedSmooth.apply(x, activation)  # type: ignore[no-any-return]


_SMOOTH = {nn.SiLU: F.silu, nn.Hardswish: F.hardswish, nn.GELU: F.gelu}


class GuidedModule(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def guided_copy(network: nn.Module, *, smoothly: bool = False) -> nn.Module:
    """The network with each ReLU module replaced by one that is guided; for functional ones see `guided_functions`.

    smoothly: SiLU, Hardswish and GELU too.
    """
    network = copy.deepcopy(network)
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if isinstance(module, nn.ReLU | nn.ReLU6):
            upper = 6.0 if isinstance(module, nn.ReLU6) else float("inf")
            network.set_submodule(name, GuidedModule(lambda x, upper=upper: rectified(x, upper)))
        elif smoothly and type(module) in _SMOOTH:
            network.set_submodule(name, GuidedModule(smooth(_SMOOTH[type(module)])))
    return network


def guided_functions() -> Any:
    """Context in which F.relu is guided."""
    return mock.patch.object(F, "relu", lambda x, inplace=False: rectified(x))


def guided_gradient(network: nn.Module, row: Tensor, target: ResolvedTarget, *, smoothly: bool = False) -> Tensor:
    """(C, H, W). The network's rectifiers are nn.ReLU, nn.ReLU6 and F.relu, none of them relied on to work in place."""
    with guided_functions():
        return gradient(guided_copy(network, smoothly=smoothly), row, target)


def grad_cam(
    front: Callable[[Tensor], Tensor],
    back: Callable[[Tensor], Tensor],
    row: Tensor,
    target: ResolvedTarget,
) -> Tensor:
    """(H, W) from a network that is cut in two at the layer."""
    activation = front(row[None]).detach().requires_grad_()
    score_of(target)(back(activation)).backward()
    assert activation.grad is not None
    cam = torch.zeros(activation.shape[2:], dtype=row.dtype)
    for channel in range(activation.shape[1]):
        cam += activation.grad[0, channel].mean() * activation[0, channel].detach()
    cam = torch.where(cam > 0, cam, 0)
    return F.interpolate(cam[None, None], size=row.shape[1:], mode="bilinear", align_corners=False)[0, 0]


def max_abs(values: Tensor) -> Tensor:
    """(H, W): the largest absolute value over the channels of (C, H, W), a pixel at a time."""
    height, width = values.shape[1:]
    return torch.stack([torch.stack([values[:, r, s].abs().max() for s in range(width)]) for r in range(height)])


def error(actual: Tensor, expected: Tensor) -> float:
    """Largest deviation, as a share of the largest expected value."""
    assert actual.shape == expected.shape
    actual, expected = actual.detach(), expected.detach()
    return float((actual - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


def deviation(actual: Tensor, expected: Tensor) -> float:
    """Deviation in the L2 norm, as a share of the expected norm."""
    return float((actual.double() - expected).norm() / expected.norm())


def same_bytes(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return len(first) == len(second) and all(
        a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(first, second, strict=True)
    )
