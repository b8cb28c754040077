"""Which layers learn how fast, and when."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from ouzel.finetune.recipes import Recipe

_DIVISOR = 5.0  # the rate begins at so much of its highest, as fastai's fine_tune has it


def make_optimizer(
    network: nn.Module, head: Collection[str], recipe: Recipe, all_layers: bool
) -> torch.optim.Optimizer:
    """AdamW with three groups of rates: the first half of the backbone, the second, and the head; or the head alone.

    The fused one takes a third of the time on a CPU, and one kernel in place of many on a GPU.
    """
    named = list(network.named_parameters())
    body = [parameter for name, parameter in named if name not in head]
    for parameter in body:
        parameter.requires_grad_(all_layers)
    groups = [[parameter for name, parameter in named if name in head]]
    if all_layers:
        groups = [body[: len(body) // 2], body[len(body) // 2 :], *groups]
    groups = [group for group in groups if group]
    return torch.optim.AdamW([{"params": group} for group in groups], weight_decay=recipe.weight_decay, fused=True)


def restore(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Loads what `optimizer.state_dict` gave, from a file perhaps.

    The fused AdamW goes through memory without looking at strides, and files know no channels last: what belongs to a
    parameter must lie in memory as that does. The state may be of an optimizer that was not fused.
    """
    ways = [{key: group[key] for key in ("fused", "foreach")} for group in optimizer.param_groups]
    groups = [group | way for group, way in zip(state["param_groups"], ways, strict=True)]
    optimizer.load_state_dict({**state, "param_groups": groups})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, requires_grad=False).copy_(value)


def rate(recipe: Recipe, done: float, all_layers: bool) -> float:
    """Of the head. One cycle (Smith 2018, arXiv 1803.09820): up and down again along cosines. done: in [0, 1)."""
    highest = recipe.learning_rate if all_layers else recipe.head_rate
    if done < recipe.warm_up:
        return highest * _between(1 / _DIVISOR, 1.0, done / recipe.warm_up)
    return highest * _between(1.0, 1e-5, (done - recipe.warm_up) / (1 - recipe.warm_up))


def set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, head: float) -> None:
    """head: rate of the last group; those before it learn more slowly."""
    last = len(optimizer.param_groups) - 1
    for number, group in enumerate(optimizer.param_groups):
        group["lr"] = head * recipe.spread ** ((number - last) / max(last, 1))


def _between(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
