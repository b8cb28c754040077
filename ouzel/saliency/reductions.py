"""From one value per input channel to one per pixel."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

# Each maps (n, C, H, W) to (n, H, W), but "none", which keeps the channels. "max_abs" is the definition of Simonyan et
# al. 2014 (arXiv 1312.6034).
REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "max_abs": lambda values: values.abs().amax(dim=1),
    "sum_abs": lambda values: values.abs().sum(dim=1),
    "signed_sum": lambda values: values.sum(dim=1),
    "none": lambda values: values,
}
