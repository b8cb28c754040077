"""Occlusion (Zeiler and Fergus 2014, arXiv 1311.2901): what the score loses when a window of the image is covered.

A pixel's value is the mean loss over the windows that cover it; a positive value speaks for the target.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ouzel.checks import at_least
from ouzel.errors import InvalidArgument
from ouzel.saliency.baselines import Baseline, baseline_of, check_baseline
from ouzel.saliency.method import Attribution, Method, Rows
from ouzel.saliency.transfer import sent

# Of the shorter side.
WINDOW_SHARE, STRIDE_SHARE = 1 / 7, 1 / 14


@dataclass(frozen=True)
class Occlusion(Method):
    """Occlusion: what the score loses when a window of the image is covered.

    Attributes:
        window: Side of the square window in pixels of the input, 1 or more; by default a seventh of its shorter side,
            32 at 224 pixels.
        stride: Its step in pixels, 1 or more, and no longer than the window; by default a fourteenth, 16 at 224 pixels.
        fill: What is seen through the window: one of BASELINES, or an image, floats (C, H, W) as the model takes it.

    Raises:
        InvalidArgument: A value is out of range, or there is no such baseline.

    References:
        Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", arXiv 1311.2901.
    """

    window: int | None = None
    stride: int | None = None
    fill: Baseline = "blur"
    name: ClassVar[str] = "occlusion"
    cost_parameter: ClassVar[str] = "stride"

    def __post_init__(self) -> None:
        for field, value in (("window", self.window), ("stride", self.stride)):
            if value is not None:
                at_least(f"parameters.{field}", value, 1)
        if self.window is not None and self.stride is not None and self.stride > self.window:
            raise InvalidArgument(
                f"parameters.stride: {self.stride} is more than the window, {self.window}: pixels would stay unseen",
                field="parameters.stride",
            )
        check_baseline(self.fill, "fill")

    def sized(self, height: int, width: int) -> Self:
        shorter = min(height, width)
        window = max(1, round(shorter * WINDOW_SHARE)) if self.window is None else self.window
        stride = min(window, max(1, round(shorter * STRIDE_SHARE))) if self.stride is None else self.stride
        return replace(self, window=window, stride=stride)

    def cost(self, height: int, width: int) -> int:
        tops, lefts = self._starts(height, width)
        return len(tops) * len(lefts)

    def attribute(self, rows: Rows) -> Attribution:
        x, fill = rows.x, baseline_of(self.fill, rows, "fill")
        height, width = x.shape[-2:]
        assert self.window is not None, "the method is sized before it explains"
        if self.window > min(height, width):
            raise InvalidArgument(
                f"parameters.window: {self.window} is more than the input's shorter side, {min(height, width)}",
                field="parameters.window",
            )
        tops, lefts = self._starts(height, width)
        down, across = (_covers(starts, self.window, extent, x) for starts, extent in ((tops, height), (lefts, width)))
        windows = sent([(top, left) for top in range(len(tops)) for left in range(len(lefts))], x.device)
        score = rows.score()
        loss = x.new_zeros(len(x), height, width)
        for chunk in windows.split(rows.blocks(())):
            covered = down[chunk[:, 0], :, None] & across[chunk[:, 1], None, :]
            occluded = torch.where(covered[:, None, None], fill[None], x[None]).flatten(0, 1)
            lost = score - rows.evaluate_at(occluded, ()).score().unflatten(0, (len(chunk), -1))
            loss += (lost[..., None, None] * covered[:, None]).sum(dim=0)
        times = down.sum(dim=0)[:, None] * across.sum(dim=0)
        return Attribution((loss / times)[:, None])

    def _starts(self, height: int, width: int) -> tuple[list[int], list[int]]:
        """Of the windows, downwards and across. The last one ends at the edge, so that every pixel is covered."""
        sized = self.sized(height, width)
        assert sized.window is not None
        assert sized.stride is not None
        return _starts(height, sized.window, sized.stride), _starts(width, sized.window, sized.stride)


def _covers(starts: list[int], window: int, extent: int, x: Tensor) -> Tensor:
    """(starts, extent) whether a window that starts there covers a place."""
    first = sent(starts, x.device)[:, None]
    place = torch.arange(extent, device=x.device)
    return (place >= first) & (place < first + window)


def _starts(extent: int, window: int, stride: int) -> list[int]:
    last = max(extent - window, 0)
    return [*range(0, last, stride), last]
