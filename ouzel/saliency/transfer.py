"""What goes from the host to a device and back, without waiting for the device more often than needed.

A plain `.cpu()`, `.tolist()` or `torch.tensor(..., device=...)` waits for all work that the device still has. Here
small tensors are sent from pinned memory, and answers are collected in pinned memory and waited for once. On the CPU
nothing is copied.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


def pinned(shape: torch.Size | tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor on the host without values yet, in memory that a device can copy to and from without the host."""
    return torch.empty(shape, dtype=dtype, pin_memory=True)


class Transfer:
    """Copies between the host and a device, and what else the device does for them, all waited for at once.

    Of one thread. A clock of the host would have to wait for the device after each step; the device's own marks do not.

    Attributes:
        seconds: That the device has spent on what was waited for, by name: "copy", and those of `timed`. Empty on the
            CPU.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._spans: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []  # name, begin and end of each

    def send(self, rows: Sequence[Tensor], device: torch.device) -> Tensor:
        """Tensors of one shape, stacked, on the device; their values are there before later work of it.

        rows: On the host, or some of them on the device already.
        """
        there = [row for row in rows if row.device.type != "cpu"]
        if there:
            here = [row for row in rows if row.device.type == "cpu"]
            came = iter(self.send(here, device)) if here else iter(())
            return torch.stack([next(came) if row.device.type == "cpu" else row for row in rows])
        if device.type != "cuda":
            return torch.stack(tuple(rows)).to(device)
        host = pinned((len(rows), *rows[0].shape), rows[0].dtype)
        torch.stack(tuple(rows), out=host)
        with self.timed("copy", device):
            return host.to(device, non_blocking=True)

    def take(self, tensor: Tensor) -> Tensor:
        """The tensor on the host: itself if it is there, else a copy whose values are there after `wait`."""
        if not tensor.is_cuda:
            return tensor.cpu()
        copy = pinned(tensor.shape, tensor.dtype)
        with self.timed("copy", tensor.device):
            copy.copy_(tensor, non_blocking=True)
        return copy

    @contextmanager
    def timed(self, name: str, device: torch.device) -> Iterator[None]:
        """Has the device measure what it is told to do within; nothing on the CPU, which has done it at the end."""
        if device.type != "cuda":
            yield
            return
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        stream = torch.cuda.current_stream(device)
        begin.record(stream)
        yield
        end.record(stream)
        self._spans.append((name, begin, end))

    def wait(self) -> None:
        """Wait until all copies have their values."""
        for name, begin, end in reversed(self._spans):  # the last one's end is waited for, the others have come before
            end.synchronize()
            self.seconds[name] += begin.elapsed_time(end) / 1e3
        self._spans.clear()
