"""What is done once per model so that every call is fast: freeze, fold, pick the memory format."""

from __future__ import annotations

import copy
import logging
import time

import torch
from torch import Tensor, nn

from ouzel.errors import FailedPrecondition
from ouzel.saliency.folding import fold

logger = logging.getLogger(__name__)

_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
_ROUNDS = 3


def prepare(network: nn.Module, example: Tensor, *, rows: int = 4) -> tuple[nn.Module, torch.memory_format]:
    """A private, frozen copy of the network in eval mode, BatchNorms folded, in its faster memory format.

    example: (C, H, W) of the dtype and device that the network takes. rows: batch size at which formats are compared.
    """
    ready = copy.deepcopy(network).eval().requires_grad_(False)
    example = example[None].detach()
    with torch.no_grad():
        logits = ready(example.clone())
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise FailedPrecondition(f"the model answers {shape} for one image; a classifier answers (1, classes)")
    ready = fold(ready, example)
    memory_format = _faster_format(ready, example.expand(rows, -1, -1, -1))
    return ready.to(memory_format=memory_format), memory_format


def _faster_format(network: nn.Module, batch: Tensor) -> torch.memory_format:
    """Depthwise networks can be slower in channels-last on a CPU, others much faster: measure."""
    if next(network.parameters(), None) is None:
        return torch.contiguous_format
    candidates = {
        name: (copy.deepcopy(network).to(memory_format=form), batch.contiguous(memory_format=form))
        for name, form in _FORMATS.items()
    }
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(_ROUNDS + 1):  # interleaved, so that a busy moment hits both; the first round warms up
        for name, (candidate, x) in candidates.items():
            best[name] = min(best[name], _seconds(candidate, x))
    winner = min(best, key=best.__getitem__)
    logger.info("memory format %s; seconds for %d rows: %s", winner, len(batch), best)
    return _FORMATS[winner]


def _seconds(network: nn.Module, x: Tensor) -> float:
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    _synchronize(x)
    start = time.perf_counter()
    torch.autograd.grad(network(x * 1).sum(), x, allow_unused=True)
    _synchronize(x)
    return time.perf_counter() - start


def _synchronize(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
