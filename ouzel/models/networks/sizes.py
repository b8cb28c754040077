"""Which sizes of input a network takes: some know one, some need many pixels. Found out by trying."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import nn

from ouzel.errors import InvalidArgument, OuzelError

# What networks raise for an input that they cannot take.
REFUSALS = (RuntimeError, AssertionError, ValueError, IndexError)
_DEVICE_FAULTS = (torch.OutOfMemoryError, getattr(torch, "AcceleratorError", torch.OutOfMemoryError))

Shape = tuple[int, int, int]  # (C, H, W)


def check_size(
    network: nn.Module, shape: Shape, field: str, *, own: tuple[int, int] | None = None, rows: int = 1
) -> None:
    """Check that a network takes an input of a size, by trying. Nobody else may run the network meanwhile.

    Args:
        network: To be tried.
        shape: (C, H, W) of the input.
        field: The argument at fault, for the error.
        own: (height, width) that the network was made for, where known.
        rows: Of the input that is tried; networks in training mode need two.

    Raises:
        InvalidArgument: The network does not take it; the message names a size that would do.
    """
    error = _tried(network, shape, rows)
    if error is not None:
        raise wrong_size(error, network, shape, field, own=own, rows=rows) from error


def wrong_size(
    error: Exception,
    network: nn.Module,
    shape: Shape,
    field: str,
    *,
    own: tuple[int, int] | None = None,
    rows: int = 1,
) -> InvalidArgument:
    """What to tell of an error that came of an input of a size.

    Args:
        error: What the network raised. An error of ours, or a fault of the device, is raised as it is.
        network: That raised it.
        shape: (C, H, W) of the input.
        field: The argument at fault.
        own: (height, width) that the network was made for, where known.
        rows: Of the inputs that are tried.

    Returns:
        An error that names a size that would do, if one is found.
    """
    if isinstance(error, (OuzelError, *_DEVICE_FAULTS)):
        raise error
    lines = str(error).splitlines() or [type(error).__name__]
    channels, height, width = shape
    advice = _advice(network, shape, own or _declared(network), rows)
    return InvalidArgument(
        f"{field}: the network cannot take {tuple(shape)}, {channels} channels of {width} x {height} pixels{advice} "
        f"({lines[0]:.200})",
        field=field,
    )


def _advice(network: nn.Module, shape: Shape, own: tuple[int, int] | None, rows: int) -> str:
    channels, height, width = shape
    if own is None or own == (height, width) or _tried(network, (channels, *own), rows) is not None:
        return ""
    if height == width < own[0] == own[1]:
        network = copy.deepcopy(network).to("meta")  # shapes alone, in no time
        if _tried(network, (channels, *own), rows) is not None:
            return f"; it takes {own[1]} x {own[0]}"
        fails, works = height, own[0]
        while works - fails > 1:
            middle = (fails + works) // 2
            if _tried(network, (channels, middle, middle), rows) is None:
                works = middle
            else:
                fails = middle
        if works < own[0]:
            return f"; the least that it takes is {works} x {works}"
    return f"; it takes {own[1]} x {own[0]}"


def _tried(network: nn.Module, shape: Shape, rows: int) -> Exception | None:
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(()))
    try:
        with torch.no_grad():
            network(torch.zeros(rows, *shape, device=like.device, dtype=like.dtype))
    except _DEVICE_FAULTS:
        raise
    except REFUSALS as error:
        return error
    return None


def _declared(network: nn.Module) -> tuple[int, int] | None:
    """What torchvision's transformers and timm's networks say of themselves."""
    edge = getattr(network, "image_size", None)
    if isinstance(edge, int):
        return edge, edge
    published = getattr(network, "default_cfg", None)
    size = published.get("input_size") if isinstance(published, Mapping) else None
    patches = getattr(getattr(network, "patch_embed", None), "img_size", None)  # as it was made, if not as published
    if isinstance(patches, tuple) and len(patches) == 2:
        return int(patches[0]), int(patches[1])
    return (int(size[1]), int(size[2])) if isinstance(size, tuple) and len(size) == 3 else None
