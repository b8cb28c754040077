"""One forward graph whose rectifiers can be differentiated in three ways: truly, guided, or guided the smooth way.

Guided backpropagation (Springenberg et al. 2015, arXiv 1412.6806) lets a gradient pass a rectifier where it is positive
and the rectifier's input is positive too. Module hooks would miss functional calls, break on tensors that feed a
rectifier and a skip connection, and be shared by all threads. Here a `TorchFunctionMode`, which is local to the thread
and sees modules and functions alike, puts a node before each rectifier of one forward pass that reads the rule of that
very pass when it runs backward. The rectifier itself stays as it is, so that under the plain rule every number is what
it would be without this.

Rectifiers: ReLU, ReLU6, hardtanh from 0, clamp and clamp_min at 0, threshold at 0; in-place forms too. Not seen:
rectifiers inside TorchScript, and spellings such as `torch.maximum(x, zeros)`.

Smooth activations, which resemble a rectifier and are not one: SiLU, GELU, Mish, Hardswish, ELU, CELU, SELU, LeakyReLU,
PReLU, RReLU, Softplus; in-place forms too. Not seen: spellings such as `x * x.sigmoid()`. The paper has no rule for
them. The rule "smooth" is this project's: for an activation f with input x and incoming gradient g, the gradient that
passes is f'(x) * max(g, 0) where x > 0, and 0 elsewhere. With ReLU for f it is the rule of the paper.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ouzel.saliency.method import Rule


class Rectifiers(TorchFunctionMode):
    """Context of one forward pass. `rule` is that of the backward passes that follow; `count` counts rectifiers.

    smooth: whether the rule "smooth" will be used; `smooth_count` counts smooth activations by name in any case.
    """

    def __init__(self, *, smooth: bool = False) -> None:
        super().__init__()
        self.rule: Rule = "plain"
        self.count = 0
        self.smooth_count: Counter[str] = Counter()
        self._smooth = smooth

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        reader = _READERS.get(func)
        inplace = reader(*args, **kwargs) if reader is not None else None
        if inplace is None:
            return func(*args, **kwargs)
        x = args[0] if args else kwargs["input"]
        if not x.requires_grad:  # of a constant (a mask, an index): no part of the gradient
            return func(*args, **kwargs)
        if func not in _SMOOTH:
            self.count += 1
            x = _Gate.apply(x, inplace, self)
        else:
            self.smooth_count[func.__name__.rstrip("_")] += 1
            if self._smooth:
                x = _SmoothGate.apply(x, inplace, self)
        return func(x, *args[1:], **{key: value for key, value in kwargs.items() if key != "input"})


class _Gate(torch.autograd.Function):
    """The identity; under a guided rule only positive gradients pass it.

    It stands before the rectifier, not after: the rectifier's derivative is 0 or 1, so the order does not matter, and a
    rectifier may need its output untouched to go backward, but never its input where it overwrites that itself.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, inplace: bool, mode: Rectifiers) -> Tensor:
        ctx.mode = mode
        return _passed(ctx, x, inplace)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return (grads[0] if ctx.mode.rule == "plain" else grads[0].clamp_min(0)), None, None


class _SmoothGate(torch.autograd.Function):
    """The identity; under the rule "smooth" only positive gradients pass it, and only where x is positive.

    It may stand before the activation as well, whose derivative is positive wherever x is.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, inplace: bool, mode: Rectifiers) -> Tensor:
        ctx.mode = mode
        ctx.save_for_backward(x > 0)
        return _passed(ctx, x, inplace)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (active,) = ctx.saved_tensors
        return (grads[0].clamp_min(0) * active if ctx.mode.rule == "smooth" else grads[0]), None, None


def _passed(ctx: Any, x: Tensor, inplace: bool) -> Tensor:
    if inplace:  # what follows overwrites x for all who hold it, so x itself has to come after the gate
        ctx.mark_dirty(x)
        return x
    return x.view_as(x)


# A reader has the signature of the function it stands for and says whether that works in place, or None where the call
# is no rectifier.
_Reader = Callable[..., bool | None]


def _relu(input: Tensor, inplace: bool = False) -> bool | None:
    return inplace


def _relu_(input: Tensor) -> bool | None:
    return True


def _hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> bool | None:
    return inplace if _cuts_at_zero(min_val, max_val) else None


def _hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> bool | None:
    return _hardtanh(input, min_val, max_val, True)


def _threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> bool | None:
    return inplace if threshold == 0 and value == 0 else None


def _threshold_(input: Tensor, threshold: float, value: float) -> bool | None:
    return _threshold(input, threshold, value, True)


def _clamp(input: Tensor, min: Any = None, max: Any = None, *, out: Any = None) -> bool | None:
    return False if out is None and _cuts_at_zero(min, max) else None


def _clamp_(input: Tensor, min: Any = None, max: Any = None) -> bool | None:
    return True if _cuts_at_zero(min, max) else None


def _cuts_at_zero(lower: Any, upper: Any) -> bool:
    """Bounds given as tensors are left alone."""
    if not isinstance(lower, int | float) or lower != 0:
        return False
    return upper is None or (isinstance(upper, int | float) and upper > 0)


def _inplace_at(place: int) -> _Reader:
    """The reader of a function whose argument at this place is `inplace`."""
    return lambda *args, inplace=False, **_: args[place] if len(args) > place else inplace


_SMOOTH: dict[Any, _Reader] = {
    **dict.fromkeys((F.silu, F.mish, F.hardswish, F.selu), _inplace_at(1)),
    **dict.fromkeys((F.elu, F.celu, F.leaky_relu), _inplace_at(2)),
    F.rrelu: _inplace_at(4),
    **dict.fromkeys((F.gelu, F.softplus, torch.prelu, Tensor.prelu, torch.selu, torch.celu), lambda *_, **__: False),
    **dict.fromkeys((F.elu_, F.leaky_relu_, torch.selu_, torch.celu_, torch.rrelu_), lambda *_, **__: True),
}

_READERS: dict[Any, _Reader] = {
    **_SMOOTH,
    **dict.fromkeys((F.relu, torch.relu, Tensor.relu, F.relu6), _relu),
    **dict.fromkeys((torch.relu_, Tensor.relu_), _relu_),
    F.hardtanh: _hardtanh,
    F.hardtanh_: _hardtanh_,
    **dict.fromkeys((F.threshold, torch.threshold), _threshold),
    torch.threshold_: _threshold_,
    **dict.fromkeys((torch.clamp, Tensor.clamp, torch.clip, Tensor.clip), _clamp),
    **dict.fromkeys((torch.clamp_, Tensor.clamp_, torch.clip_, Tensor.clip_), _clamp_),
    **dict.fromkeys((torch.clamp_min, Tensor.clamp_min), _clamp),
    **dict.fromkeys((torch.clamp_min_, Tensor.clamp_min_), _clamp_),
}


def is_rectifier(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether this call of a torch function is one of the rectifiers above; smooth activations are none."""
    reader = _READERS.get(func)
    return func not in _SMOOTH and reader is not None and reader(*args, **kwargs) is not None
