"""One forward graph whose rectifiers can be differentiated in two ways: truly, or guided.

Guided backpropagation (Springenberg et al. 2015, arXiv 1412.6806) lets only positive gradients pass a rectifier. Module
hooks would miss functional calls, break on tensors that feed a rectifier and a skip connection, and be shared by all
threads. Here a `TorchFunctionMode`, which is local to the thread and sees modules and functions alike, replaces each
rectifier of one forward pass by an autograd function that reads the rule of that very pass when it runs backward.

Seen: ReLU, ReLU6, hardtanh from 0, clamp and clamp_min at 0, threshold at 0; in-place forms too. Not seen: rectifiers
inside TorchScript, and spellings such as `torch.maximum(x, zeros)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Rectifiers(TorchFunctionMode):
    """Context of one forward pass. `guided` chooses the rule of the backward passes that follow; `count` counts."""

    def __init__(self) -> None:
        super().__init__()
        self.guided = False
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        reader = _READERS.get(func)
        if reader is not None:
            call = reader(*args, **kwargs)
            # Rectifiers of constants (masks, indices) take no part in the gradient.
            if call is not None and call[0].requires_grad:
                self.count += 1
                return _Rectify.apply(*call, self)
        return func(*args, **kwargs)


class _Rectify(torch.autograd.Function):
    """min(max(x, 0), upper), differentiated as the pass's rule says."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, upper: float | None, inplace: bool, rule: Rectifiers) -> Tensor:
        if inplace:
            ctx.mark_dirty(x)
            out = x.relu_() if upper is None else x.clamp_(0, upper)
        else:
            out = x.relu() if upper is None else x.clamp(0, upper)
        ctx.save_for_backward(out)
        ctx.upper, ctx.rule = upper, rule
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (out,) = ctx.saved_tensors
        if ctx.upper is None:
            grad = torch.ops.aten.threshold_backward(grads[0], out, 0)
        else:  # saturates exactly at the bounds, so the output tells as much as the input
            grad = torch.ops.aten.hardtanh_backward(grads[0], out, 0, ctx.upper)
        if ctx.rule.guided:
            grad = grad.clamp_min_(0)
        return grad, None, None, None


# A reader has the signature of the function it stands for and returns (input, upper bound, in place), or None where
# the call is no rectifier.
_Call = tuple[Tensor, float | None, bool] | None


def _relu(input: Tensor, inplace: bool = False) -> _Call:
    return input, None, inplace


def _relu_(input: Tensor) -> _Call:
    return input, None, True


def _hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> _Call:
    return _clamped(input, min_val, max_val, inplace)


def _relu6(input: Tensor, inplace: bool = False) -> _Call:
    return input, 6.0, inplace


def _threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> _Call:
    return (input, None, inplace) if threshold == 0 and value == 0 else None


def _hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> _Call:
    return _clamped(input, min_val, max_val, True)


def _threshold_(input: Tensor, threshold: float, value: float) -> _Call:
    return _threshold(input, threshold, value, True)


def _clamp(inplace: bool) -> Callable[..., _Call]:
    def read(input: Tensor, min: Any = None, max: Any = None, *, out: Any = None) -> _Call:
        return None if out is not None else _clamped(input, min, max, inplace)

    return read


def _clamped(x: Tensor, lower: Any, upper: Any, inplace: bool) -> _Call:
    """A clamp is a rectifier if it cuts at the number 0; bounds given as tensors are left alone."""
    if not isinstance(lower, int | float) or lower != 0:
        return None
    if upper is None:
        return x, None, inplace
    return (x, float(upper), inplace) if isinstance(upper, int | float) and upper > 0 else None


_READERS: dict[Any, Callable[..., _Call]] = {
    **dict.fromkeys((F.relu, torch.relu, Tensor.relu), _relu),
    **dict.fromkeys((torch.relu_, Tensor.relu_), _relu_),
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
    F.hardtanh_: _hardtanh_,
    F.threshold: _threshold,
    torch.threshold: _threshold,
    torch.threshold_: _threshold_,
    **dict.fromkeys((torch.clamp, Tensor.clamp, torch.clip, Tensor.clip), _clamp(inplace=False)),
    **dict.fromkeys((torch.clamp_, Tensor.clamp_, torch.clip_, Tensor.clip_), _clamp(inplace=True)),
    **dict.fromkeys((torch.clamp_min, Tensor.clamp_min), _clamp(inplace=False)),
    **dict.fromkeys((torch.clamp_min_, Tensor.clamp_min_), _clamp(inplace=True)),
}
