"""Gradients past dead rectifiers, so that a unit which nothing excites yet can be sought at all (Lucid's trick).

A `TorchFunctionMode` sees rectifiers as modules and as functions. Where a row's gradient would be stopped entirely at
one, it passes instead, but for what would push inputs that are negative further down. That is slower than the plain
pass, so it is for rows that need it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ouzel.saliency.engine.rectifiers import is_rectifier


class Redirected(TorchFunctionMode):
    """Context of a forward pass whose backward pass, of a loss to be lowered, is redirected. Values do not change."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        x = args[0] if args else kwargs.get("input")
        if not isinstance(x, Tensor) or not x.requires_grad or not is_rectifier(func, args, kwargs):
            return func(*args, **kwargs)
        with torch.no_grad():
            output = func(x.clone(), *args[1:], **{key: value for key, value in kwargs.items() if key != "input"})
        return _Redirect.apply(x, output)


class _Redirect(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, output: Tensor) -> Tensor:
        ctx.save_for_backward(x, output)
        return output.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        x, output = ctx.saved_tensors
        plain = grads[0] * ((x == output) & (x > 0))  # between the rectifier's bounds its derivative is 1
        useful = torch.where((x < 0) & (grads[0] > 0), 0, grads[0])
        dead = plain.flatten(1).abs().amax(dim=1) == 0
        return torch.where(dead.reshape(-1, *[1] * (x.ndim - 1)), useful, plain), None
