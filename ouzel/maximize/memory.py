"""Whether a run fits into memory: estimated before the first step."""

from __future__ import annotations

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
    leaves = {name for name, module in network.named_modules() if not any(True for _ in module.children())}
    seen = models.layers(network, example)
    numbers = sum(torch.Size(each.shape).numel() for each in seen if each.name in leaves and each.shape)
    graph = 2 * 4 * numbers * together  # values and gradients
    image = (8 + 4 * views) * 4 * example[0].numel()  # leaves, optimiser; views and their gradients
    if memory_bytes is not None:
        budget = memory_bytes
    elif example.is_cuda:
        budget = torch.cuda.mem_get_info(example.device)[0] // 2
    else:
        budget = psutil.virtual_memory().available // 2
    if graph + image * count > budget:
        raise InvalidArgument(
            f"targets: {count} images need about {(graph + image * count) / 2**20:.0f} MiB, the budget is "
            f"{budget / 2**20:.0f} MiB; at most {max(0, budget - graph) // image} images fit",
            field="targets",
        )
