"""Memory that a process has finished with."""

from __future__ import annotations

import ctypes
import gc

import torch


def give_back() -> None:
    """Give the memory of tensors that are gone back to the system, where its allocator can.

    The C library (glibc) keeps it otherwise, hundreds of MiB after a large batch. The next large batch asks for it
    again, which takes it a moment. The same goes for a GPU's memory, which other processes use as well.
    """
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library, another system
        return
    trim(0)
