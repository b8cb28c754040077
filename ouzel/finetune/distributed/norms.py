"""BatchNorms that learn take the statistics of the whole batch, wherever its images are computed.

So several ranks give what one gives. torch's SyncBatchNorm does the same on GPUs alone, and must replace the modules,
which changes the network that is trained. Here the function is replaced that all BatchNorms call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class WholeBatch(TorchFunctionMode):
    """Within, BatchNorms in training mode see the images of all ranks.

    Args:
        counted: How many of this rank's images count; the others are computed and count nowhere.
        total: How many count over all ranks.
        group: Of processes that computes BatchNorms together.
    """

    def __init__(self, counted: int, total: int, group: Any) -> None:
        super().__init__()
        self._counted, self._total, self._group = counted, total, group

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Replaces `batch_norm`."""
        if func is F.batch_norm:
            return self._normalised(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _normalised(  # noqa: PLR0917 - as torch calls the function
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        x = input.float()
        rest = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1, *(1 for _ in rest[1:])]
        values = self._total * (x[0].numel() // x.shape[1])
        seen = x[: self._counted]
        # Twice around: the mean of squares less the square of the mean would cancel out.
        mean = _Summed.apply(seen.sum(rest), self._group) / values
        variance = _Summed.apply((seen - mean.view(shape)).square().sum(rest), self._group) / values
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                unbiased = variance * (values / max(values - 1, 1))
                running_var.lerp_(unbiased.to(running_var.dtype), momentum)
        y = (x - mean.view(shape)) * torch.rsqrt(variance.view(shape) + eps)
        if weight is not None:
            y = y * weight.view(shape)
        if bias is not None:
            y = y + bias.view(shape)
        return y.to(input.dtype)


class _Summed(torch.autograd.Function):
    """The sum over the ranks. Each rank's loss depends on it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, group: Any) -> Tensor:
        ctx.group = group
        value = value.clone()
        dist.all_reduce(value, group=group)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient, group=ctx.group)
        return gradient, None
