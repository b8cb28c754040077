"""Whether a run fits into memory: estimated before the first step."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.errors import InvalidArgument


def check_memory(
    network: nn.Module, example: Tensor, together: int, count: int, memory_bytes: int | None, *, views: int = 1
) -> None:
    """Raises InvalidArgument if what is held at a time is over the budget.

    That is the graph of `together` rows, estimated by what the leaf modules put out, and a few times all images.
    """
    graph, image = _needed(network, example, together, views)
    budget = _budget(example, memory_bytes)
    if graph + image * count > budget:
        raise InvalidArgument(
            f"targets: {count} images need about {(graph + image * count) / 2**20:.0f} MiB, the budget is "
            f"{budget / 2**20:.0f} MiB; at most {max(0, budget - graph) // image} images fit",
            field="targets",
        )


def fitting(network: nn.Module, example: Tensor, count: int, memory_bytes: int | None) -> Callable[[int], bool]:
    """Whether so many views of each image fit, if all go through the network together."""
    budget = _budget(example, memory_bytes)

    def fits(views: int) -> bool:
        graph, image = _needed(network, example, count * views, views)
        return graph + image * count <= budget

    return fits


def _needed(network: nn.Module, example: Tensor, together: int, views: int) -> tuple[int, int]:
    """Bytes of the graph, and of each image."""
    leaves = {name for name, module in network.named_modules() if not any(True for _ in module.children())}
    seen = models.layers(network, example)
    numbers = sum(torch.Size(each.shape).numel() for each in seen if each.name in leaves and each.shape)
    # Values and gradients. Leaves, optimiser; views and their gradients.
    return 2 * 4 * numbers * together, (8 + 4 * views) * 4 * example[0].numel()


def _budget(example: Tensor, memory_bytes: int | None) -> int:
    if memory_bytes is not None:
        return memory_bytes
    if example.is_cuda:
        return torch.cuda.mem_get_info(example.device)[0] // 2
    return psutil.virtual_memory().available // 2
