"""Which operators of torch run."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

# What `item`, `float`, `int` and `bool` of a tensor come to, and what has as many results as there are values: on a GPU
# the host waits for them.
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique")


class Operators(TorchDispatchMode):
    """Counts them by name within the context. Backward passes count, too."""

    def __init__(self) -> None:
        super().__init__()
        self.made: Counter[str] = Counter()

    @property
    def waiting(self) -> Counter[str]:
        """Those that a host would wait for."""
        return Counter({name: count for name, count in self.made.items() if any(each in name for each in WAITING)})

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.made[str(func)] += 1
        return func(*args, **(kwargs or {}))
