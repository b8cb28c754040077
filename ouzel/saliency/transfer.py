"""What goes from the host to a device and back, without waiting for the device more often than needed.

A plain `.cpu()`, `.tolist()` or `torch.tensor(..., device=...)` waits for all work that the device still has. Here
small tensors are sent from pinned memory, and answers are collected in pinned memory and waited for once. On the CPU
nothing is copied.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.inference_mode(False)  # what is kept for later calls may be used in any mode
def sent(values: Any, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of numbers, or one on the host, on the device.

    Args:
        values: As `torch.as_tensor` takes them; a tensor may be on the device already.
        device: Where the tensor is wanted.
        dtype: Of the result; None is that of the values.
    """
    tensor = torch.as_tensor(values, dtype=dtype)
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Transfer:
    """Copies of tensors on the host, all waited for at once. Of one thread.

    Attributes:
        seconds: That the device has spent on copies which were waited for; 0 on the CPU.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._copies: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []  # begin and end of each

    def take(self, tensor: Tensor) -> Tensor:
        """The tensor on the host: itself if it is there, else a copy whose values are there after `wait`."""
        if not tensor.is_cuda:
            return tensor.cpu()
        copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        stream = torch.cuda.current_stream(tensor.device)
        begin.record(stream)
        copy.copy_(tensor, non_blocking=True)
        end.record(stream)
        self._copies.append((begin, end))
        return copy

    def wait(self) -> None:
        """Wait until all copies have their values."""
        for begin, end in reversed(self._copies):  # the last one's end is waited for, and the others have come before
            end.synchronize()
            self.seconds += begin.elapsed_time(end) / 1e3
        self._copies.clear()
