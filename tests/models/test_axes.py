"""Where the places of the image are: told by following them through, against values that say where they come from."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ouzel.models import Tracker

SIDE = 8
PREFIX = torch.full((1, 3, 4), -1.0)


def places() -> Tensor:
    """(1, 4, 8, 8): channels of y, of x, and two of nothing."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return torch.stack([y, x, 0 * x, 0 * x])[None].float()


def windows(x: Tensor) -> Tensor:
    """(1, 8, 8, C) to (4, 4, 4, C)."""
    return x.view(1, 2, 4, 2, 4, 4).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 4, 4)


def unrolled(x: Tensor) -> Tensor:
    """(1, C, 8, 8) to tokens (1, 64, C), those of a 2 x 2 neighbourhood far from each other, as Hiera has them."""
    return x.permute(0, 2, 3, 1).view(1, 4, 2, 4, 2, 4).permute(0, 2, 4, 1, 3, 5).reshape(1, 64, 4)


MOVES: dict[str, Callable[[Tensor], Tensor]] = {
    "first": lambda x: x + 0,
    "last": lambda x: x.permute(0, 2, 3, 1),
    "columns first": lambda x: x.transpose(2, 3),
    "moved": lambda x: x.movedim(1, -1).contiguous(),
    "tokens": lambda x: x.flatten(2).transpose(1, 2),
    "tokens last": lambda x: x.reshape(1, 4, 64),
    "class token": lambda x: torch.cat([PREFIX, x.flatten(2).mT, PREFIX[:, :1]], dim=1),
    "class token gone": lambda x: torch.cat([PREFIX, x.flatten(2).mT], dim=1)[:, 3:],
    "windows and back": lambda x: (
        windows(x.permute(0, 2, 3, 1)).view(1, 2, 2, 4, 4, 4).transpose(2, 3).reshape(1, 8, 8, 4)
    ),
    "unrolled": unrolled,
    "heads": lambda x: x.reshape(1, 2, 2, 64).transpose(2, 3),
    "through a residual": lambda x: x.permute(0, 2, 3, 1) + torch.zeros(1, 8, 8, 4).roll(2, 1),
    "parts": lambda x: torch.cat(x.chunk(2, dim=1), dim=1),
    "stacked": lambda x: torch.stack(x.unbind(1), dim=3),
    "attention": lambda x: torch.eye(64)[None] * (x.flatten(2).mT @ x.flatten(2)).isfinite() @ x.flatten(2).mT,
    "einsum": lambda x: torch.einsum("bchw,cd->bhwd", x, torch.eye(4)),
    "linear": lambda x: F.linear(x.permute(0, 2, 3, 1), torch.eye(4)),
    "convolution": lambda x: F.conv2d(x, torch.eye(4)[:, :, None, None]),
}


@pytest.mark.parametrize("name", MOVES)
def test_every_value_is_found_at_its_place(name: str) -> None:
    image = places()
    with Tracker(image):
        moved = MOVES[name](image)
    layout = Tracker.layout(moved)
    assert layout is not None
    assert layout.shape == (4, SIDE, SIDE)
    assert torch.equal(layout.maps(moved), places())


COARSER: dict[str, Callable[[Tensor], Tensor]] = {
    "pooled": lambda x: F.max_pool2d(x, 2),
    "every second": lambda x: x[:, :, 1::2, 1::2],
    "unrolled, pooled": lambda x: unrolled(x).view(1, 4, 16, 4).max(dim=1).values,
    "merged": lambda x: F.linear(
        x.permute(0, 2, 3, 1).reshape(1, 4, 2, 4, 2, 4).permute(0, 1, 3, 2, 4, 5).flatten(3),
        torch.eye(4).repeat(1, 4) * torch.tensor([0.0, 0.0, 0.0, 1.0]).repeat_interleave(4),
    ),
}


@pytest.mark.parametrize("name", COARSER)
def test_what_sums_up_neighbours_is_coarser(name: str) -> None:
    image = places()
    with Tracker(image):
        moved = COARSER[name](image)
    layout = Tracker.layout(moved)
    assert layout is not None
    assert torch.equal(layout.maps(moved), places()[:, :, 1::2, 1::2])


REFUSED: dict[str, Callable[[Tensor], Tensor]] = {
    "windows": lambda x: windows(x.permute(0, 2, 3, 1)),
    "attention weights": lambda x: (x.flatten(2).mT @ x.flatten(2))[:, None].softmax(dim=-1),
    "shifted": lambda x: x.roll(1, 2),
    "flipped": lambda x: x.flip(3),
    "turned": lambda x: x.rot90(1, (2, 3)),
    "spectrum": lambda x: torch.fft.fft2(x).abs(),
    "half": lambda x: x[:, :, :4],
    "chosen": lambda x: x[:, :, torch.arange(8)],
    "sorted": lambda x: x.sort(dim=3).values,
    "numbers": lambda x: x.mean(dim=(2, 3)),
    "mixed tokens": lambda x: F.linear(x.flatten(2), torch.eye(64)),
    "two images": lambda x: torch.cat([x, x], dim=2),
    "one column": lambda x: x[..., 3],
    "of nothing": lambda x: torch.zeros(1, 4, 8, 8) + 1,
    "two lost halves": lambda x: x.view(1, 4, 2, 4, 8).amax(dim=2),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_is_refused(name: str) -> None:
    image = places()
    with Tracker(image):
        moved = REFUSED[name](image)
    assert Tracker.layout(moved) is None
