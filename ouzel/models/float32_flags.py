"""PyTorch's process-wide flags that decide how float32 is computed: read, set for a precision, put back.

There are two generations of them. `fp32_precision` exists for each backend and each kind of operation; one that is
"none" follows its backend, and that follows `torch.backends.fp32_precision`. The older ones, such as `allow_tf32`,
write through to the newer ones, and reading them raises where the two disagree. So both are set here, and they agree.

torch's own functions below the attributes are called: `torch.backends.mkldnn.fp32_precision` writes another flag than
it reads, and `torch.backends.disable_global_flags` forbids attributes, not contexts such as the one built on this.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

Key = tuple[str, str]  # backend, kind of operation
_PARENTS: tuple[Key, ...] = (("generic", "all"), ("cuda", "all"), ("mkldnn", "all"))
_KINDS = ("matmul", "conv", "rnn")
_KEYS: tuple[Key, ...] = (*_PARENTS, *((backend, kind) for backend in ("cuda", "mkldnn") for kind in _KINDS))
# Sums of half precision within a product in half precision. They matter to networks whose weights are not float32.
_REDUCTIONS = (
    "allow_fp16_reduced_precision_reduction",
    "allow_bf16_reduced_precision_reduction",
    "allow_fp16_accumulation",
)


@dataclass(frozen=True)
class Flags:
    """The flags as somebody has set them.

    Attributes:
        precisions: What each flag says itself, "none" where it follows another.
        matmul: Of `torch.set_float32_matmul_precision`.
        cudnn_tf32: Of `torch.backends.cudnn.allow_tf32`.
        reductions: Of `torch.backends.cuda.matmul`, in the form in which they are set.
        math_sdp: Of `torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp`.
    """

    precisions: Mapping[Key, str]
    matmul: str
    cudnn_tf32: bool
    reductions: Mapping[str, Any]
    math_sdp: bool


def take() -> Flags:
    """Read all flags. Afterwards they are those of exact arithmetic, except the sums: `apply` or `put_back` follows."""
    _hush()
    precisions = {}
    for key in _KEYS:  # parents first: once they are "none", a flag tells what it says itself
        precisions[key] = torch._C._get_fp32_precision_getter(*key)
        torch._C._set_fp32_precision_setter(*key, "none")
    for key in _KEYS:
        torch._C._set_fp32_precision_setter(*key, "ieee")
    matmul = torch.get_float32_matmul_precision()  # with "ieee" beside it, it answers whatever it is
    try:
        cudnn_tf32 = torch._C._get_cudnn_allow_tf32()
    except RuntimeError:  # it disagrees with "ieee"
        cudnn_tf32 = True
    return Flags(
        precisions,
        matmul,
        cudnn_tf32,
        {name: _reduction(name) for name in _REDUCTIONS},
        torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed(),
    )


def apply(*, tf32: bool) -> None:
    """Compute float32 as IEEE 754 has it, or with TF32 where the hardware has that."""
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch._C._set_cudnn_allow_tf32(tf32)
    for key in _KEYS:
        torch._C._set_fp32_precision_setter(*key, "tf32" if tf32 else "ieee")
    for name in _REDUCTIONS:
        setattr(torch.backends.cuda.matmul, name, False)
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(False)


def put_back(flags: Flags) -> None:
    """Make the flags what `take` has read."""
    torch.set_float32_matmul_precision(flags.matmul)
    torch._C._set_cudnn_allow_tf32(flags.cudnn_tf32)
    for key, value in flags.precisions.items():
        torch._C._set_fp32_precision_setter(*key, value)
    for name, value in flags.reductions.items():
        setattr(torch.backends.cuda.matmul, name, value)
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(flags.math_sdp)


def _reduction(name: str) -> Any:
    """The value, with what it says of splitting sums where this version of torch has that."""
    value = getattr(torch.backends.cuda.matmul, name)
    split = getattr(torch.backends.cuda.matmul, f"{name}_split_k", None)
    return value if split is None else (value, split)


@functools.cache
def _hush() -> None:
    """Some versions of torch warn of the older flags, once in a process: let them do so unheard."""
    with warnings.catch_warnings(), contextlib.suppress(RuntimeError):
        warnings.simplefilter("ignore")
        torch._C._get_cudnn_allow_tf32()
