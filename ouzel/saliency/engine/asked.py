"""What a batch is asked: its tensor, checked, and the requests as each of its rows sees them."""

from __future__ import annotations

from torch import Tensor

from ouzel.errors import InvalidArgument
from ouzel.saliency.request import Saliency
from ouzel.saliency.targets import maps_of


def check_input(x: Tensor) -> None:
    """Raises InvalidArgument for what is no batch of images."""
    if not isinstance(x, Tensor):
        raise InvalidArgument(f"x: a {type(x).__name__} is no tensor", field="x")
    if x.ndim != 4 or x.numel() == 0:
        raise InvalidArgument(f"x: shape {tuple(x.shape)} is not (batch, channels, height, width)", field="x")


def check_finite(finite: Tensor) -> None:
    """Raises InvalidArgument unless all of the batch was seen to be finite."""
    if not finite:
        raise InvalidArgument("x: has values that are not finite", field="x")


def for_row(request: Saliency, row: int, rows: int) -> Saliency:
    """The request as this row sees it, where targets are given per row."""
    targets = request.target
    if not isinstance(targets, tuple):
        return request
    if len(targets) != rows:
        raise InvalidArgument(f"target: {len(targets)} targets for {rows} rows", field="target")
    if len({maps_of(target) for target in targets}) > 1:
        raise InvalidArgument("target: Top gives each row as many maps, so all rows need the same", field="target")
    return request.with_target(targets[row])
