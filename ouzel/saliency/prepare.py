"""What is done once per model so that every call is fast: freeze, fold, pick the memory format."""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.errors import FailedPrecondition
from ouzel.saliency.folding import fold
from ouzel.saliency.taps import Taps

logger = logging.getLogger(__name__)

_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
_ROUNDS = 3


@dataclass(frozen=True)
class Prepared:
    """A network ready to be explained: frozen, folded, tapped.

    cam_layer: the layer Grad-CAM looks at by default, if there is one. scripted: whether it has parts in TorchScript.
    """

    network: nn.Module
    memory_format: torch.memory_format
    taps: Taps
    classes: int
    cam_layer: str | None
    scripted: bool


@torch.inference_mode(False)
def prepare(network: nn.Module, example: Tensor, *, rows: int = 4) -> Prepared:
    """Prepare a private copy of the network; the network itself is left as it is.

    example: (C, H, W) of the dtype and device that the network takes. rows: batch size at which formats are compared.
    Raises FailedPrecondition for a network that is no classifier.
    """
    example = example[None].detach().clone()
    with torch.no_grad():  # for the copy too: that of TorchScript would be a function of the original
        ready = copy.deepcopy(network).eval()
        for parameter in ready.parameters():
            parameter.requires_grad = False
        logits = ready(example.clone())
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise FailedPrecondition(
            f"model: it answers {shape} for one image; a classifier answers (1, classes)", field="model"
        )
    ready, folded = fold(ready, example)
    scripted = any(isinstance(m, torch.jit.ScriptModule) for m in ready.modules())
    cam_layer = None if scripted else _cam_layer(ready, example)
    ready, memory_format = _faster_format(ready, example.expand(rows, -1, -1, -1))
    return Prepared(ready, memory_format, Taps(ready, folded), logits.shape[1], cam_layer, scripted)


def _cam_layer(network: nn.Module, example: Tensor) -> str | None:
    try:
        return models.cam_layer(network, example.clone())
    except FailedPrecondition:
        return None


def _faster_format(network: nn.Module, batch: Tensor) -> tuple[nn.Module, torch.memory_format]:
    """Depthwise networks can be slower in channels-last on a CPU, others much faster: measure."""
    if not any(parameter.ndim == 4 for parameter in network.parameters()):
        return network, torch.contiguous_format
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
    return candidates[winner][0], _FORMATS[winner]


@torch.enable_grad()
def _seconds(network: nn.Module, x: Tensor) -> float:
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    _synchronize(x)
    start = time.perf_counter()
    score = network(x * 1).sum()
    if score.requires_grad:
        torch.autograd.grad(score, x, allow_unused=True)
    _synchronize(x)
    return time.perf_counter() - start


def _synchronize(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
