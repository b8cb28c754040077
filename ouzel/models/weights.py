"""Tensors from a file, and whether they fit a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor, nn

from ouzel.checks import one_of
from ouzel.errors import InvalidArgument, NotFound
from ouzel.models import checkpoints

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
MATCHES = ("name", "order")
_COUNTER = "num_batches_tracked"  # of BatchNorm, used in training alone; older files lack it


def read(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file that ends in one of SUFFIXES, on the CPU, by the names that they have there.

    The only place where a pickle is opened, and then for tensors alone (`weights_only`). Of a checkpoint it is what
    `checkpoints.state_dict` finds. Raises NotFound or InvalidArgument.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFound(f"weights: {path} is no file", field="weights")
    if path.suffix not in SUFFIXES:
        raise InvalidArgument(f"weights: {path.name} does not end in one of {', '.join(SUFFIXES)}", field="weights")
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on broken files torch's unpickler raises whatever comes, struct.error and so on
        reason = checkpoints.reason(path, error)
        raise InvalidArgument(f"weights: {path.name} is not a file of tensors: {reason}", field="weights") from error
    return checkpoints.state_dict(content, path.name)


def match(state: Mapping[str, Tensor], network: nn.Module, by: str = "name") -> dict[str, Tensor]:
    """`state` under the names of the network's state dict.

    Args:
        state: Tensors by name.
        network: Whose state dict is to be filled.
        by: "name": what wrappers put before the names is taken off, see `checkpoints.unprefixed`. "order": the n-th
            tensor is the network's n-th, names unseen, counters aside; only if all shapes agree.

    Returns:
        Copies: complete, float32 (counters int64), every value finite.

    Raises:
        InvalidArgument: Names the first tensors that do not fit.
    """
    one_of("match", by, MATCHES)
    wanted = network.state_dict()
    paired = _by_name(named_for(state, network), wanted) if by == "name" else _by_order(state, wanted)
    return {name: checked(name, paired.get(name, tensor), tensor) for name, tensor in wanted.items()}


def named_for(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """`state` without what wrappers put before the network's names. Raises InvalidArgument if that is not clear."""
    return checkpoints.unprefixed(state, [name for name in network.state_dict() if not name.endswith(_COUNTER)])


def _by_name(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    missing = [name for name in wanted if name not in state and not name.endswith(_COUNTER)]
    unknown = [name for name in state if name not in wanted and not name.endswith(_COUNTER)]
    if missing or unknown:
        parts = [
            f"{len(names)} {what} ({_some(names)})"
            for names, what in ((missing, "missing"), (unknown, "unknown"))
            if names
        ]
        raise InvalidArgument(
            f"weights: names do not fit the architecture: {', '.join(parts)}; "
            "if they come from another library, ask for match by order",
            field="weights",
        )
    return {name: tensor for name, tensor in state.items() if name in wanted}


def _by_order(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    ours = [name for name in wanted if not name.endswith(_COUNTER)]
    theirs = [name for name in state if not name.endswith(_COUNTER)]
    if len(ours) != len(theirs):
        raise InvalidArgument(f"weights: {len(theirs)} tensors where the architecture has {len(ours)}", field="weights")
    for position, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        if wanted[our].shape != state[their].shape:
            raise InvalidArgument(
                f"weights: tensor {position}, {their} {tuple(state[their].shape)}, "
                f"cannot be {our} {tuple(wanted[our].shape)}",
                field="weights",
            )
    return {our: state[their] for our, their in zip(ours, theirs, strict=True)}


def checked(name: str, tensor: Tensor, wanted: Tensor) -> Tensor:
    """A copy in the type of `wanted`. Raises InvalidArgument if shape or kind differ, or values are not finite."""
    if tensor.shape != wanted.shape:
        raise InvalidArgument(
            f"weights: {name} is {tuple(tensor.shape)} where the architecture has {tuple(wanted.shape)}",
            field="weights",
        )
    if (
        tensor.is_floating_point() != wanted.is_floating_point()
        or tensor.is_complex()
        or tensor.layout != torch.strided
    ):
        raise InvalidArgument(f"weights: {name} is {tensor.dtype} where {wanted.dtype} is needed", field="weights")
    tensor = tensor.detach().to(wanted.dtype, copy=True, memory_format=torch.contiguous_format)
    if not bool(torch.isfinite(tensor).all()):
        raise InvalidArgument(f"weights: {name} holds values that are not finite", field="weights")
    return tensor


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
