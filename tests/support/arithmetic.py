"""What a network sees of the arithmetic that it runs in, read through torch's public attributes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_BACKENDS = ("cuda", "mkldnn")
_KINDS = ("matmul", "conv", "rnn")


def seen() -> dict[str, Any]:
    """All flags as they are in force now, and whether autocast is on."""
    products = torch.backends.cuda.matmul
    return {
        "matmul.allow_tf32": products.allow_tf32,
        "cudnn.allow_tf32": torch.backends.cudnn.allow_tf32,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        **fp32_precisions(),
        "fp16 sums": products.allow_fp16_reduced_precision_reduction,
        "bf16 sums": products.allow_bf16_reduced_precision_reduction,
        "fp16 accumulation": products.allow_fp16_accumulation,
        "math sdp": torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed(),
        "autocast": torch.is_autocast_enabled("cpu"),
    }


def fp32_precisions() -> dict[str, str]:
    """The newer flags as they are in force now. They can be read whatever they are."""
    return {
        "all": torch.backends.fp32_precision,
        "cuda": torch.backends.cudnn.fp32_precision,
        "mkldnn": torch.backends.mkldnn.fp32_precision,
        "cuda.matmul": torch.backends.cuda.matmul.fp32_precision,
        "cuda.conv": torch.backends.cudnn.conv.fp32_precision,
        "cuda.rnn": torch.backends.cudnn.rnn.fp32_precision,
        "mkldnn.matmul": torch.backends.mkldnn.matmul.fp32_precision,
        "mkldnn.conv": torch.backends.mkldnn.conv.fp32_precision,
        "mkldnn.rnn": torch.backends.mkldnn.rnn.fp32_precision,
    }


def expected(value: str, *, autocast: bool = False) -> dict[str, Any]:
    """What `seen` gives where every float32 operation is "ieee", or "tf32"."""
    tf32 = value == "tf32"
    return {
        "matmul.allow_tf32": tf32,
        "cudnn.allow_tf32": tf32,
        "float32_matmul_precision": "high" if tf32 else "highest",
        **dict.fromkeys(fp32_precisions(), value),
        "fp16 sums": False,
        "bf16 sums": False,
        "fp16 accumulation": False,
        "math sdp": False,
        "autocast": autocast,
    }


@contextmanager
def set_by_user(generation: str) -> Iterator[None]:
    """Flags as somebody sets them who wants speed: by "older" or "newer" names, or not at all ("nothing")."""
    try:
        if generation == "older":
            torch.set_float32_matmul_precision("medium")
            torch.backends.cudnn.allow_tf32 = True
            torch.backends.cuda.matmul.allow_fp16_accumulation = True
        elif generation == "newer":
            torch.backends.fp32_precision = "tf32"
            torch.backends.cuda.matmul.fp32_precision = "tf32"
            torch.backends.cudnn.rnn.fp32_precision = "ieee"
            torch.backends.mkldnn.matmul.fp32_precision = "bf16"
        yield
    finally:  # as torch starts, apart from its own reading of the same thing
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cuda.matmul.allow_fp16_accumulation = False
        torch.backends.fp32_precision = "none"
        for flags in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul):
            flags.fp32_precision = "none"


class Watching(nn.Module):
    """A small classifier of (B, 3, H, W) that notes what it sees in its forward and its backward passes."""

    def __init__(self, classes: int = 4, *, fails: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, classes)
        self.fails = fails
        self.log: list[tuple[str, dict[str, Any]]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Watching:
        """Copies write into the same log: the library works on copies of its own."""
        twin = Watching(self.head.out_features, fails=self.fails)
        twin.load_state_dict(self.state_dict())
        twin.train(self.training)
        twin.log = self.log
        memo[id(self)] = twin
        return twin

    def forward(self, x: Tensor) -> Tensor:
        self.log.append(("forward", seen()))
        if self.fails:
            raise ArithmeticError("the network fails")
        features = self.conv(x).relu()
        if features.requires_grad:
            features.register_hook(lambda _: self.log.append(("backward", seen())))
        return self.head(features.mean(dim=(2, 3)))


class Spy(nn.Module):
    """A layer that changes nothing, and notes what it sees; copies of it note in the same place."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[dict[str, Any]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Spy:
        twin = Spy()
        twin.train(self.training)
        twin.log = self.log
        return twin

    def forward(self, x: Tensor) -> Tensor:
        self.log.append(seen())
        return x


def watching(seed: int = 0, **options: Any) -> Watching:
    """One with seeded weights, in eval mode."""
    torch.manual_seed(seed)
    return Watching(**options).eval()
