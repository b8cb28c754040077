"""State dicts as training programs save them: inside of other things, and under longer names than the network's."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ouzel.errors import InvalidArgument
from ouzel_protos.text import shown

# Where training programs keep the tensors of the network among other things; "module" is DeepSpeed's.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "network")
# Put between any two parts of a name by torch.compile, FSDP and activation checkpoints.
_ANYWHERE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
# Before all names, in any order: DataParallel and DistributedDataParallel, Lightning modules that hold the network.
_BEFORE = frozenset(("module", "model", "net", "network"))
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")  # of torch's error: what the pickle would call
_AVERAGED = "n_averaged"  # a counter of torch.optim.swa_utils.AveragedModel


def state_dict(content: Any, filename: str) -> dict[str, Tensor]:
    """The tensors of the network in what a checkpoint holds, under the names that they have there.

    Raises InvalidArgument if there are none, or several sets of which any may be meant.
    """
    while isinstance(content, Mapping) and not _is_state(content):
        sets = [key for key, value in content.items() if isinstance(key, str) and _holds_state(value)]
        known = [key for key in sets if key in _WRAPPERS]
        if not known:
            break
        taken = content[known[0]]
        rivals = [key for key in sets if key in known or _shapes(content[key]) == _shapes(taken)]
        if len(rivals) > 1:
            raise InvalidArgument(
                f"weights: {filename} holds tensors of a network under {_listed(rivals)}; save those that you mean: "
                f'torch.save(torch.load("{filename}")["{rivals[0]}"], "weights.pth")',
                field="weights",
            )
        content = taken
    return _checked(content, filename)


def unprefixed(state: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """`state` under the names that the network has, which are `wanted`, where wrappers made them longer.

    What torch.compile and the like put in is taken off anywhere; `module.`, `model.`, `net.` and `network.`, in any
    order and number, where all of the network's names are there behind them. Raises InvalidArgument if the names are
    there behind several prefixes, or behind one that is not known.
    """
    bare = _without_segments(state)
    first = min(wanted, key=len, default="")
    ends = {name.removesuffix(first) for name in bare if name.endswith(first)}
    fits = sorted(
        end for end in ends if (not end or end.endswith(".")) and all(f"{end}{name}" in bare for name in wanted)
    )
    if len(fits) > 1:
        several = _listed([f"{end}{first}" for end in fits])
        raise InvalidArgument(
            f"weights: hold the network {len(fits)} times, as {several}; save the one that you mean alone",
            field="weights",
        )
    prefix = fits[0] if fits else _common(bare, wanted)
    if not set(prefix.split(".")[:-1]) <= _BEFORE:
        raise InvalidArgument(
            f"weights: the names fit the architecture behind {shown(prefix, 80)}; if nothing that is needed stands "
            "before that part of the network, save its own state_dict()",
            field="weights",
        )
    if prefix:
        bare.pop(_AVERAGED, None)
    return {name.removeprefix(prefix): tensor for name, tensor in bare.items()}


def reason(path: Path, error: Exception) -> str:
    """Why a file could not be read as tensors, and what to do about it where that is known."""
    name, text = path.name, str(error)
    if "TorchScript" in text:
        return f'it is a TorchScript archive; save its tensors: torch.save(torch.jit.load("{name}").state_dict(), ...)'
    objects = _objects(path)
    if named := _GLOBAL.search(text):
        whole = any(each.startswith("torch.nn.modules.") for each in (named[1], *objects))
        what = f"a whole module ({named[1]:.80})" if whole else f"a Python object ({named[1]:.80})"
        return (
            f"it holds {what}, and reading that would run code; where you trust it, save the tensors alone: "
            'torch.save(model.state_dict(), "weights.pth")'
        )
    return (text.splitlines() or [type(error).__name__])[0][:200]


def _objects(path: Path) -> list[str]:
    """Names of what a pickle would call; it is looked at, not run."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # noqa: BLE001 - whatever is wrong with the file is told otherwise
        return []


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(each, Tensor) for each in value.values())


def _holds_state(value: Any) -> bool:
    """Whether it is one, or has one inside by a known name."""
    if not isinstance(value, Mapping):
        return False
    return _is_state(value) or any(_is_state(value.get(key)) for key in _WRAPPERS)


def _shapes(value: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """Of all tensors but counters: equal for two states of one network, whatever their names are."""
    inner = value if _is_state(value) else next(value[key] for key in _WRAPPERS if _is_state(value.get(key)))
    return sorted(tuple(tensor.shape) for tensor in inner.values() if tensor.ndim)


def _checked(content: Any, filename: str) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not content:
        raise InvalidArgument(f"weights: {filename} holds no tensors by name", field="weights")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InvalidArgument(
                f"weights: {filename} holds {type(value).__name__} at {name!r:.80}, not a tensor; a state dict among "
                f"other things is found under {', '.join(_WRAPPERS)}",
                field="weights",
            )
    return dict(content)


def _without_segments(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names without what may stand anywhere in them; as they are if two would become one."""
    bare = {_cut(name): tensor for name, tensor in state.items()}
    return bare if len(bare) == len(state) else dict(state)


def _cut(name: str) -> str:
    *parts, last = name.split(".")
    return ".".join([part for part in parts if f"{part}." not in _ANYWHERE] + [last])


def _common(bare: Mapping[str, Tensor], wanted: Collection[str]) -> str:
    """What to take off so that most names fit, where not all do: an error then tells of the others alone."""
    names = [name for name in bare if name != _AVERAGED]
    prefix, candidates = "", [""]
    while names and len({name.removeprefix(prefix).split(".")[0] for name in names}) == 1:
        part = names[0].removeprefix(prefix).split(".")[0]
        if part not in _BEFORE or not all(name.startswith(f"{prefix}{part}.") for name in names):
            break
        prefix += f"{part}."
        candidates.append(prefix)
    return max(candidates, key=lambda each: sum(name.removeprefix(each) in wanted for name in names))


def _listed(names: list[str]) -> str:
    return " and ".join(shown(name, 80) for name in names[:4]) + (", ..." if len(names) > 4 else "")
