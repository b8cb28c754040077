"""How it is told that memory was too little."""

from __future__ import annotations

import torch

_WORDS = ("allocate memory", "not enough memory")  # of the host's, for which PyTorch has no class


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device or the host had too little memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)
