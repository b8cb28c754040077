"""In which arithmetic networks compute: exactly, whatever the process is set to, or faster where somebody says so.

"exact": float32 as IEEE 754 has it, with autocast off. "tf32": float32 whose products are rounded to TF32, on hardware
that has it. "bf16": the forward pass under autocast to bfloat16; weights, gradients of the image and maps stay float32.

PyTorch's flags for this belong to the process, so what is set here is seen by all its threads while somebody computes:
another thread of the caller that uses TF32 for something else computes that exactly meanwhile. Where threads ask for
different arithmetic at a time, exact wins: it is never given up for others, and "tf32" is then exact for a while. When
nobody computes any more, the flags are what they were before. A thread that changes the flags in between changes them
for everybody, and the change is lost at the end.

Autocast belongs to a thread, and only the thread that computes has it switched off.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from ouzel.models import float32_flags
from ouzel.precision_names import EXACT, Precision

_AUTOCAST = ("cpu", "cuda", "xpu", "mps")  # kinds of devices that networks run on


@contextmanager
def computing(precision: Precision = EXACT) -> Iterator[None]:
    """Within, float32 is computed as `precision` says, and autocast is off; afterwards all is as it was.

    It may be nested, also with another precision, and serves as a decorator of a function. `forward_pass` is for what
    "bf16" changes.

    Args:
        precision: One of PRECISIONS.
    """
    before = getattr(_here, "tf32", None)
    after = precision == "tf32"
    _process.change(before, after)
    _here.tf32 = after
    try:
        with ExitStack() as stack:
            for device in _AUTOCAST:
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            yield
    finally:
        _here.tf32 = before
        _process.change(after, before)


@contextmanager
def forward_pass(precision: Precision, device: torch.device) -> Iterator[None]:
    """As `computing`, for the forward pass of a network: "bf16" runs it under autocast.

    Args:
        precision: One of PRECISIONS.
        device: Where the network is.
    """
    with computing(precision):
        if precision != "bf16":
            yield
            return
        # No cache: within autocast of the caller's it would outlive this pass, and a step of training.
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            yield


class _Process:
    """The flags of the process, and how many threads compute exactly (False) and with TF32 (True)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: Counter[bool] = Counter()
        self._set: bool | None = None  # as what is set; None: as the process has it
        self._own: float32_flags.Flags | None = None

    def change(self, before: bool | None, after: bool | None) -> None:
        """A thread goes over to other arithmetic; None is none of ours."""
        if before is after:  # nested alike: its thread is counted
            return
        with self._lock:
            for tf32, count in ((before, -1), (after, 1)):
                if tf32 is not None:
                    self._threads[tf32] += count
            wanted = False if self._threads[False] else True if self._threads[True] else None
            if wanted is self._set:
                return
            if self._own is None:
                self._own = float32_flags.take()
            if wanted is None:
                float32_flags.put_back(self._own)
                self._own = None
            else:
                float32_flags.apply(tf32=wanted)
            self._set = wanted


_here = threading.local()
_process = _Process()
