"""Folds each BatchNorm into the convolution before it: the same function with fewer passes over memory.

Which BatchNorm follows which convolution is observed in one forward pass, not traced symbolically, so that any model
that runs can be folded, whatever its Python does. The folded network is then compared with the original.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ouzel import models

logger = logging.getLogger(__name__)

# A function of a tensor with such a result looked at the tensor's form, not at its values.
_NO_VALUES = (int, torch.Size, torch.dtype, torch.device, torch.layout, type(None))


@dataclass(frozen=True)
class Affine:
    """What a folded BatchNorm did to the convolution's output: scale * output + shift, (channels, 1, 1) float64."""

    scale: Tensor
    shift: Tensor


@dataclass(frozen=True)
class Folded:
    """What came of folding.

    Attributes:
        network: With its BatchNorms folded, or the network itself.
        affines: How the output of each convolution that took a BatchNorm in differs from what it was, by its name.
        given_up: Why BatchNorms that could be folded were not; "" if they were, or there are none.
    """

    network: nn.Module
    affines: Mapping[str, Affine] = field(default_factory=dict)
    given_up: str = ""


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
        if isinstance(result, _NO_VALUES):
            return result
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


@models.computing()  # the comparison is of the functions, not of the rounding of the hardware
def fold(network: nn.Module, example: Tensor) -> Folded:
    """A copy of the network (eval mode, frozen) with BatchNorms folded, or the network itself if that is not safe.

    example: (1, C, H, W). The copy keeps the names of its layers; a folded BatchNorm becomes an identity.
    """
    if any(isinstance(m, torch.jit.ScriptModule) for m in network.modules()):
        return Folded(network)  # what TorchScript does with a tensor cannot be observed
    folded = copy.deepcopy(network)
    with torch.no_grad():
        with _Observer() as observer:
            expected = folded(example.clone())
        affines = _replace(folded, observer)
        if not affines:
            return Folded(network)
        try:
            actual = folded(example.clone())
        except Exception as error:  # noqa: BLE001 - a model may look into its BatchNorms; then it stays as it was
            return _given_up(network, f"the model does not run without its BatchNorm modules ({type(error).__name__})")
    scale = expected.abs().amax().clamp_min(1e-6)
    tolerance = 1e-3 if expected.dtype == torch.float32 else 1e-2 if expected.dtype != torch.float64 else 1e-9
    change = (actual - expected).abs().amax() / scale
    if not change <= tolerance:
        return _given_up(
            network,
            f"it changed the model's output by {float(change):.2g} of its largest value, more than {tolerance:g}",
        )
    logger.info("folded %d BatchNorm layers", len(affines))
    return Folded(folded.requires_grad_(False), affines)


def _given_up(network: nn.Module, why: str) -> Folded:
    logger.warning("BatchNorm folding given up: %s", why)
    return Folded(network, given_up=why)


def _replace(network: nn.Module, observer: _Observer) -> dict[str, Affine]:
    convolutions: dict[int, list[tuple[str, nn.Conv2d]]] = defaultdict(list)
    norms: dict[int, list[tuple[str, nn.BatchNorm2d]]] = defaultdict(list)
    for name, module in network.named_modules(remove_duplicate=False):
        if isinstance(module, nn.Conv2d):
            convolutions[id(module.weight)].append((name, module))
        elif isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and not module.training:
            norms[id(module.running_mean)].append((name, module))
    affines: dict[str, Affine] = {}
    for weight, mean, between in observer.pairs:
        once = observer.calls[weight] == observer.calls[mean] == observer.uses[between] == 1
        # Each of the two in one place of the network alone: elsewhere it could be used for other inputs.
        if not once or len(convolutions[weight]) != 1 or len(norms[mean]) != 1:
            continue
        (conv_name, convolution), (norm_name, norm) = convolutions[weight][0], norms[mean][0]
        rest = _without_norm(norm)
        if rest is None:
            continue
        affine = _affine(norm)
        _scale(convolution, affine)
        network.set_submodule(norm_name, rest)
        affines[conv_name] = affine
    return affines


def _affine(norm: nn.BatchNorm2d) -> Affine:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var.double() + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -norm.running_mean * scale
    shift = shift if norm.bias is None else shift + norm.bias
    return Affine(scale.detach()[:, None, None], shift.detach()[:, None, None])


def _scale(convolution: nn.Conv2d, affine: Affine) -> None:
    """Let the convolution put out what came of it after the BatchNorm: rounded once, in the end."""
    weight, bias = convolution.weight, convolution.bias
    scale, shift = affine.scale.flatten(), affine.shift.flatten()
    if bias is not None:
        shift = bias * scale + shift
    convolution.weight = nn.Parameter((weight * scale[:, None, None, None]).to(weight.dtype))
    convolution.bias = nn.Parameter(shift.to(weight.dtype))


def _without_norm(norm: nn.BatchNorm2d) -> nn.Module | None:
    """What remains of a BatchNorm layer once the normalisation is gone; None for a subclass that is not known."""
    if type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    if type(norm).__name__ == "BatchNormAct2d" and type(norm).__module__.startswith("timm."):
        return nn.Sequential(OrderedDict(norm.named_children()))  # drop, then act, under their names
    return None
