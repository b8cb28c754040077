"""In which memory format a network is faster on this machine: measured, and remembered if there is a place for that."""

from __future__ import annotations

import copy
import hashlib
import logging
import os
import platform
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.precision_names import EXACT, Precision

logger = logging.getLogger(__name__)

_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
_ROUNDS = 3
_BUDGET = 10.0  # s after which no further round begins: of a large network, one says enough
_winners: dict[str, str] = {}  # by `_key`: a process that explains with copies of one network measures once


def faster_format(
    network: nn.Module, batch: Tensor, known: Path | None = None, precision: Precision = EXACT
) -> tuple[nn.Module, torch.memory_format]:
    """The network in the faster format, and which that is.

    Depthwise networks can be slower in channels-last on a CPU, others much faster. Measuring takes seconds, and
    depends on the layers, the input, the device, the threads and the precision, not on the values of the weights:
    models that were tuned from one network share what was found.

    What was found holds for this process. known: a folder in which it is kept for others, made when needed; one that
    cannot be read or written does no harm.
    """
    if not any(parameter.ndim == 4 for parameter in network.parameters()):
        return network, torch.contiguous_format
    key = _key(network, batch, precision)
    file = known / key if known is not None else None
    kept = _remembered(file) if file is not None else None
    winner = kept or _winners.get(key) or _measured(network, batch, precision)
    _winners[key] = winner
    if file is not None and kept is None:
        _remember(file, winner)
    return network.to(memory_format=_FORMATS[winner]), _FORMATS[winner]


def _key(network: nn.Module, batch: Tensor, precision: Precision = EXACT) -> str:
    """What the speed depends on, as a file name."""
    device = batch.device
    facts = [
        torch.__version__,
        platform.processor() or platform.machine(),
        _cpu_model(),
        torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        str(torch.get_num_threads()),
        precision,
        str(batch.dtype),
        str(tuple(batch.shape)),
        repr(network),
        *(f"{name} {tuple(tensor.shape)}" for name, tensor in network.named_parameters()),
    ]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def _cpu_model() -> str:
    """A store may move from one machine to another."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("model name")), "")


def _remembered(file: Path) -> str | None:
    try:
        name = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return name if name in _FORMATS else None


def _remember(file: Path, winner: str) -> None:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".")
        with os.fdopen(handle, "w", encoding="ascii") as out:
            out.write(winner + "\n")
        Path(name).replace(file)
    except OSError as error:
        logger.warning("the memory format cannot be remembered: %s", error)


def _measured(network: nn.Module, batch: Tensor, precision: Precision = EXACT) -> str:
    candidates = {
        name: (copy.deepcopy(network).to(memory_format=form), batch.contiguous(memory_format=form))
        for name, form in _FORMATS.items()
    }
    best = dict.fromkeys(candidates, float("inf"))
    start = time.perf_counter()
    for number in range(_ROUNDS + 1):  # interleaved, so that a busy moment hits both; the first round warms up
        if number > 1 and time.perf_counter() - start > _BUDGET:
            break
        for name, (candidate, x) in candidates.items():
            best[name] = min(best[name], _seconds(candidate, x, precision))
    winner = min(best, key=best.__getitem__)
    logger.info("memory format %s; seconds for %d rows: %s", winner, len(batch), best)
    return winner


@torch.enable_grad()
def _seconds(network: nn.Module, x: Tensor, precision: Precision) -> float:
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    _synchronize(x)
    start = time.perf_counter()
    with models.forward_pass(precision, x.device):
        score = network(x * 1).sum()
    with models.computing(precision):
        if score.requires_grad:
            torch.autograd.grad(score, x, allow_unused=True)
        _synchronize(x)
    return time.perf_counter() - start


def _synchronize(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
