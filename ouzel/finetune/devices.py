"""What a device has room for, and that it is kept busy by batches of few shapes."""

from __future__ import annotations

import psutil
import torch
from torch import Tensor

# On a GPU, the first pass of every shape costs seconds: cuDNN plans each convolution anew. So all batches have one
# shape there, and what lacks in the last one is filled up. On a CPU that would be work for nothing.
_PLANNED = ("cuda",)


def room(device: torch.device) -> int:
    """Bytes of decoded images that a training may keep: 2 GiB, on a GPU a quarter of what is free if that is more."""
    if device.type != "cuda":
        return 2 * 2**30
    free = min(torch.cuda.mem_get_info(device)[0], psutil.virtual_memory().available)
    return max(2 * 2**30, free // 4)


def wants_one_shape(device: torch.device) -> bool:
    """Whether batches are better filled up to one size there."""
    return device.type in _PLANNED


def filled(x: Tensor, rows: int) -> Tensor:
    """x: (n, ...), n of at most `rows`. Its first row again and again behind it, up to `rows`."""
    lacking = rows - len(x)
    return x if lacking <= 0 else torch.cat([x, x[:1].expand(lacking, *x.shape[1:])])
