"""A private copy of a network, free of what others have wrapped around it or hung into it.

Compilers and wrappers for several devices hide a network's layers and run code that no hook sees: they are taken off.
Weights that are computed anew in every pass (weight_norm, spectral_norm, pruning, parametrizations) become plain
parameters of the values that they have. Quantized networks are refused: rounding has no derivative, so that maps of
them would be zero, or of something else than the network.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ouzel.errors import FailedPrecondition

_QUANTIZED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.ao.nn.sparse.quantized", "torchao.")
_COMPILED = "_torchdynamo_orig_callable"  # on a function that torch.compile has made


@torch.no_grad()  # copies of a script's parameters would be results of a computation otherwise
def own_copy(network: nn.Module, *, share: bool = False) -> nn.Module:
    """A copy in eval mode and frozen; its layers have the names that they have in the network without wrappers.

    Args:
        network: It stays as it is.
        share: Parameters share their memory with the network's.

    Raises:
        FailedPrecondition: The network cannot be explained: quantized, spread over devices, not to be copied.
    """
    network = _inside(network)
    for name, module in network.named_modules():
        _check(name, _inside(module))
    memo: dict[int, Any] = {id(value): value.detach().clone() for value in _computed(network)}
    if share:
        memo |= {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in network.parameters()}
    try:
        own = copy.deepcopy(network, memo).eval()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FailedPrecondition(
            f"model: it cannot be copied and put in eval mode ({reason:.200})", field="model"
        ) from error
    while wrapped := next(((n, m) for n, m in own.named_modules() if _inside(m) is not m), None):
        own.set_submodule(wrapped[0], _inside(wrapped[1]))
    for module in list(own.modules()):
        if not isinstance(module, torch.jit.ScriptModule):  # has none of these
            _uncompile(module)
            _bake(module)
    for parameter in own.parameters():  # a script has no requires_grad_ of its own
        parameter.requires_grad = False
    return own


def _inside(module: nn.Module) -> nn.Module:
    """What torch.compile or a wrapper for several devices holds."""
    while not isinstance(module, torch.jit.ScriptModule):
        if "_orig_mod" in module._modules:
            inside = module._modules["_orig_mod"]
        elif isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inside = module.module
        else:
            break
        assert inside is not None
        module = inside
    return module


def _check(name: str, module: nn.Module) -> None:
    """Raises FailedPrecondition for a module whose derivative says nothing of what it does."""
    where = f"layer {name!r}" if name else "it"
    kind = type(module)
    if kind.__module__.startswith(_QUANTIZED) or _quantizes(module):
        raise FailedPrecondition(
            f"model: {where} ({kind.__name__}) is quantized, and rounding has no derivative; give the network as it "
            "was before",
            field="model",
        )
    if kind.__name__ == "FullyShardedDataParallel":
        raise FailedPrecondition(f"model: {where} is spread over devices; gather it first", field="model")
    taken_off = ("forward", "_compiled_call_impl")
    compiled = [key for key, value in vars(module).items() if key not in taken_off and hasattr(value, _COMPILED)]
    scripted = isinstance(module, torch.jit.ScriptModule)  # whose class has no forward of its own
    if compiled or (not scripted and hasattr(kind.forward, _COMPILED)):
        raise FailedPrecondition(
            f"model: {where} ({kind.__name__}) has a {compiled[0] if compiled else 'forward'} of torch.compile; give "
            "the network without it",
            field="model",
        )
    for key, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        if isinstance(tensor, UninitializedParameter):
            raise FailedPrecondition(
                f"model: {key} of {where} has no values yet; put an image through it first", field="model"
            )
        if is_traceable_wrapper_subclass(tensor) or tensor.is_quantized:
            raise FailedPrecondition(
                f"model: {key} of {where} is a {type(tensor).__name__}, quantized or spread over devices; give plain "
                "tensors",
                field="model",
            )


def _quantizes(module: nn.Module) -> bool:
    return isinstance(module, fx.GraphModule) and any(
        node.op == "call_function" and "quantize" in f"{getattr(node.target, '__name__', '')} {node.target}"
        for node in module.graph.nodes
    )


def _computed(network: nn.Module) -> Iterator[Tensor]:
    """Tensors that are attributes and results of a computation: no copy is made of such."""
    for module in network.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                yield value


def _uncompile(module: nn.Module) -> None:
    module._compiled_call_impl = None  # of Module.compile
    forward = vars(module).get("forward")
    if hasattr(forward, _COMPILED):  # the class has the one that it was made of
        del module.forward


def _bake(module: nn.Module) -> None:
    """Let weights that are computed in every pass be parameters of the values that they have now."""
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
        elif isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, hook._tensor_name)
    if parametrize.is_parametrized(module):
        for name in list(module.parametrizations):  # type: ignore[arg-type]
            parametrize.remove_parametrizations(module, name)
