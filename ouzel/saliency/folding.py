"""Folds each BatchNorm into the convolution before it: the same function with fewer passes over memory.

Which BatchNorm follows which convolution is observed in one forward pass, not traced symbolically, so that any model
that runs can be folded, whatever its Python does.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode

logger = logging.getLogger(__name__)


class _Observer(TorchFunctionMode):
    """Notes who made each tensor and how often each tensor is used."""

    def __init__(self) -> None:
        super().__init__()
        self.made_by: dict[int, int] = {}  # id of a convolution's output -> id of its weight
        self.calls: Counter[int] = Counter()  # id of a weight or running mean -> calls
        self.uses: Counter[int] = Counter()  # id of a tensor -> calls that take it
        self.pairs: list[tuple[int, int, int]] = []  # ids of: weight, running mean, the tensor between
        self._alive: list[Any] = []  # an id is unique only while its tensor lives

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor):
            return result  # shapes and the like: no use of the values
        self._alive.append(result)
        for value in (*args, *kwargs.values()):
            for tensor in value if isinstance(value, tuple | list) else (value,):
                if isinstance(tensor, Tensor):
                    self.uses[id(tensor)] += 1
        if func in (F.conv2d, torch.conv2d) and len(args) > 1:
            self.made_by[id(result)] = id(args[1])
            self.calls[id(args[1])] += 1
        elif func is F.batch_norm and len(args) > 1 and args[1] is not None:
            self.calls[id(args[1])] += 1
            if id(args[0]) in self.made_by:
                self.pairs.append((self.made_by[id(args[0])], id(args[1]), id(args[0])))
        return result


def fold(network: nn.Module, example: Tensor) -> nn.Module:
    """A copy of the network (eval mode, frozen) with BatchNorms folded, or the network itself if that is not safe.

    example: (1, C, H, W). The copy keeps the names of its layers; a folded BatchNorm becomes an identity.
    """
    folded = copy.deepcopy(network)
    with torch.no_grad():
        observer = _Observer()
        with observer:
            expected = folded(example.clone())
        pairs = _replace(folded, observer)
        if not pairs:
            return network
        try:
            actual = folded(example.clone())
        except Exception:  # noqa: BLE001 - a model may look into its BatchNorms; then it stays as it was
            logger.info("BatchNorm folding given up: the model does not run without its BatchNorm modules")
            return network
    scale = expected.abs().amax().clamp_min(1e-6)
    tolerance = 1e-3 if expected.dtype == torch.float32 else 1e-2 if expected.dtype != torch.float64 else 1e-9
    if not (actual - expected).abs().amax() <= tolerance * scale:
        logger.warning("BatchNorm folding given up: it changed the model's output")
        return network
    folded.requires_grad_(False)
    logger.info("folded %d BatchNorm layers", pairs)
    return folded


def _replace(network: nn.Module, observer: _Observer) -> int:
    convolutions = {id(m.weight): m for m in network.modules() if isinstance(m, nn.Conv2d)}
    norms = {
        id(m.running_mean): (name, m)
        for name, m in network.named_modules()
        if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None and not m.training
    }
    done = 0
    for weight, mean, between in observer.pairs:
        once = observer.calls[weight] == observer.calls[mean] == observer.uses[between] == 1
        if not once or weight not in convolutions or mean not in norms:
            continue
        name, norm = norms[mean]
        rest = _without_norm(norm)
        if rest is None:
            continue
        convolution = convolutions[weight]
        fused = fuse_conv_bn_eval(convolution, norm)
        convolution.weight, convolution.bias = fused.weight, fused.bias
        parent, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(parent), leaf, rest)
        done += 1
    return done


def _without_norm(norm: nn.BatchNorm2d) -> nn.Module | None:
    """What remains of a BatchNorm layer once the normalisation is gone; None for a subclass that is not known."""
    if type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    if type(norm).__name__ == "BatchNormAct2d" and type(norm).__module__.startswith("timm."):
        return nn.Sequential(norm.get_submodule("drop"), norm.get_submodule("act"))
    return None
