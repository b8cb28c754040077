"""Follows the places of an image through a network, call by call: which axes of each tensor hold them.

A shape alone does not tell (7, 7, 768) from (768, 7, 7) where the numbers are alike, and takes the heads of an
attention for channels. So each call of torch is looked at: convolutions and poolings keep places in the last two axes,
permutations and reshapes move them, products and means consume them. A call that no rule knows leaves its result
unknown, and what is unknown is refused, never guessed; only a convolution of something unknown is taken at its word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ouzel.models.networks.axes import Axes, Axis, Layout, layout_of, plain, regroup, side

_MARK = "_ouzel_axes"  # on a tensor: its axes, or None where they are unknown; absent where nothing of the image is in
_MISFIT = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
# Sizes that no tensor has, each another: where they end up tells what a call does with its axes.
_PROBE = (1009, 1013, 1019, 1021, 1031, 1033, 1039, 1049)


@dataclass(frozen=True)
class _Call:
    """A call of torch. axes: of its first tensor, as they were before."""

    name: str
    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    axes: Axes | None


class Tracker(TorchFunctionMode):
    """Context of one forward pass of `image`, (1, C, H, W); `layout` then tells of any tensor that came of it."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self._height, self._width = image.shape[2:]
        setattr(image, _MARK, (Axis(), plain(image.shape[1]), side("y", self._height), side("x", self._width)))

    @staticmethod
    def layout(tensor: Tensor) -> Layout | None:
        """None if the tensor has no places of the image, or if they are not known."""
        return layout_of(getattr(tensor, _MARK, None))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = [axes for tensor in _tensors((args, kwargs)) for axes in [getattr(tensor, _MARK, ())] if axes != ()]
        first = getattr(args[0] if args else kwargs.get("input"), _MARK, None)  # before the call: it may work in place
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "").strip("_")
        for one in _tensors(result):
            if name in _CONVOLUTIONS:
                setattr(one, _MARK, self._convolved(first, one))
            elif known and name not in _CONSTANTS:
                setattr(one, _MARK, _followed(_Call(name, func, args, kwargs, first), known, one))
        return result

    def _convolved(self, axes: Axes | None, output: Tensor) -> Axes | None:
        if output.ndim != 4:
            return None
        if axes is not None:
            return _resized(axes, output, channel=1)
        height, width = output.shape[2:]
        if len(output) != 1 or abs(height * self._width / self._height - width) > 2:
            return None
        return (Axis(), plain(output.shape[1]), side("y", height), side("x", width))


def _followed(call: _Call, known: list[Axes | None], result: Tensor) -> Axes | None:
    name, args = call.name, call.args
    if name in _SCRAMBLING or name.startswith(("fft", "ifft", "rfft", "irfft")):
        return None
    try:
        if name in _FIRST and not (name in ("max", "min") and len(args) > 1 and isinstance(args[1], Tensor)):
            axes = None if call.axes is None else _FIRST[name](call.axes, call, result)
        elif name in _SEVERAL:
            axes = _SEVERAL[name](call, result)
        else:
            axes = _joined(known, result)
    except _MISFIT:
        return None
    return axes if axes is not None and tuple(axis.size for axis in axes) == tuple(result.shape) else None


def _joined(known: Iterable[Axes | None], result: Tensor) -> Axes | None:
    """Of calls that work value by value, and on shapes that are broadcast."""
    joined: list[Axis] = [plain(size) for size in result.shape]
    reached = False
    for axes in known:
        if axes is None:  # the others may tell: what is added to x is where x is
            continue
        if len(axes) > len(joined) or any(
            axis.size not in (1, there.size) for axis, there in zip(axes[::-1], joined[::-1], strict=False)
        ):
            if any(axis.has_places for axis in axes):
                return None
            continue
        for place, axis in enumerate(axes, len(joined) - len(axes)):
            if axis.has_places:
                if joined[place].has_places and joined[place] != axis:
                    return None
                joined[place], reached = axis, True
            elif axis.size == joined[place].size:
                reached = True
    return tuple(joined) if reached and (any(a.has_places for a in joined) or None not in known) else None


def _moved(axes: Axes, call: _Call, result: Tensor) -> Axes | None:
    """Of calls that move axes or take some away: watched on a tensor without values."""
    probe = torch.empty(_PROBE[: len(axes)], device="meta")
    rest = call.args[1:] if call.args else ()
    seen = call.func(probe, *rest, **{key: value for key, value in call.kwargs.items() if key != "input"})
    shape = next(iter(_tensors(seen))).shape
    return tuple(Axis() if size == 1 else axes[_PROBE.index(size)] for size in shape)


def _reshaped(axes: Axes, call: _Call, result: Tensor) -> Axes | None:
    return regroup(axes, tuple(result.shape))


def _pooled(axes: Axes, call: _Call, result: Tensor) -> Axes | None:
    return _resized(axes, result)


def _resized(axes: Axes, result: Tensor, channel: int | None = None) -> Axes | None:
    if len(axes) != result.ndim:
        return None
    resized = [
        plain(size) if place == channel else axis.resized(size)
        for place, (axis, size) in enumerate(zip(axes, result.shape, strict=True))
    ]
    return None if None in resized else tuple(axis for axis in resized if axis is not None)


def _cut(axes: Axes, call: _Call, result: Tensor) -> Axes | None:
    """Of calls that take a part: not of the image."""
    changed = [axis for axis, size in zip(axes, result.shape, strict=True) if axis.size != size]
    return None if any(axis.has_places for axis in changed) else _resized(axes, result)


def _linear(axes: Axes, call: _Call, result: Tensor) -> Axes | None:
    return (*axes[:-1], plain(result.shape[-1]))


def _indexed(axes: Axes, call: _Call, result: Tensor) -> Axes | None:
    keys = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    if any(isinstance(key, Tensor | list | bool) for key in keys):
        return None
    taken = sum(key is not None and key is not Ellipsis for key in keys)
    missing: tuple[Any, ...] = (slice(None),) * (len(axes) - taken)
    place = next((i for i, key in enumerate(keys) if key is Ellipsis), len(keys))
    left = list(axes)
    indexed: list[Axis] = []
    for key in (*keys[:place], *missing, *keys[place + 1 :]):
        if key is None:
            indexed.append(Axis())
        elif isinstance(key, slice):
            part = _sliced(left.pop(0), key)
            if part is None:
                return None
            indexed.append(part)
        else:
            left.pop(0)
    return tuple(indexed)


def _sliced(axis: Axis, key: slice) -> Axis | None:
    chosen = range(*key.indices(axis.size))
    if len(chosen) == axis.size:
        return axis if chosen.step == 1 else None
    if (axis.before or axis.after) and chosen == range(axis.before, axis.size - axis.after):
        return Axis(axis.runs)
    if chosen and set(chosen) <= {*range(axis.before), *range(axis.size - axis.after, axis.size)}:
        return plain(len(chosen))
    # A step through all of a side makes it coarser; a part of it would shift what is seen.
    if axis.whole and chosen and chosen[0] < chosen.step and axis.size - chosen[-1] <= chosen.step:
        return side(axis.whole, len(chosen))
    return None if axis.has_places else plain(len(chosen))


def _product(call: _Call, result: Tensor) -> Axes | None:
    """Of matrix products: rows of the first, columns of the second."""
    left, right = (_known(tensor) for tensor in call.args[:2])
    if left is None or right is None or len(left) < 2 or len(right) < 2:
        return None
    head = left[:-2] if len(left) >= len(right) else right[:-2]
    return (*head, left[-2], right[-1])


def _attention(call: _Call, result: Tensor) -> Axes | None:
    query, value = _known(call.args[0]), _known(call.args[2])
    return None if query is None or value is None else (*query[:-1], value[-1])


def _sum_of_products(call: _Call, result: Tensor) -> Axes | None:
    """Of einsum with an equation."""
    args = call.args
    names, _, out = args[0].replace(" ", "").partition("->")
    tensors = args[1:] if isinstance(args[1], Tensor) else args[1]
    places: dict[str, Axis] = {}
    for letters, tensor in zip(names.split(","), tensors, strict=True):
        axes = _known(tensor)
        if axes is None:
            return None
        for letter, axis in zip(letters, axes, strict=True):
            if letter not in places or not places[letter].has_places:
                places[letter] = axis
    return tuple(places[letter] for letter in out)


def _joint(call: _Call, result: Tensor) -> Axes | None:
    """Of cat: along channels, or of a class token before the others."""
    args, kwargs = call.args, call.kwargs
    tensors = args[0] if args else kwargs["tensors"]
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))) % result.ndim
    known = [_known(tensor) for tensor in tensors]
    parts = [None if axes is None else axes[dim] for axes in known]
    holders = [place for place, part in enumerate(parts) if part is not None and part.has_places]
    along = plain(result.shape[dim])
    if holders:
        if len(holders) > 1 or None in parts:
            return None
        sizes = [tensor.shape[dim] for tensor in tensors]
        holder = parts[holders[0]]
        assert holder is not None
        before, after = sum(sizes[: holders[0]]), sum(sizes[holders[0] + 1 :])
        along = Axis(holder.runs, holder.before + before, holder.after + after)
    flat = [None if axes is None else (*axes[:dim], Axis(), *axes[dim + 1 :]) for axes in known]
    across = _joined(flat, result.narrow(dim, 0, 1))
    return None if across is None else (*across[:dim], along, *across[dim + 1 :])


def _stacked(call: _Call, result: Tensor) -> Axes | None:
    args, kwargs = call.args, call.kwargs
    tensors = args[0] if args else kwargs["tensors"]
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % result.ndim
    across = _joined([_known(tensor) for tensor in tensors], result.select(dim, 0))
    return None if across is None else (*across[:dim], plain(len(tensors)), *across[dim:])


def _known(tensor: Tensor) -> Axes | None:
    """A tensor that nothing of the image is in has no places; None is unknown."""
    axes: Axes | None = getattr(tensor, _MARK, ())
    return tuple(plain(size) for size in tensor.shape) if axes == () else axes


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


_CONVOLUTIONS = frozenset({"conv2d", "conv_transpose2d"})
# Their results hold nothing of the image, though they take a tensor that does.
_CONSTANTS = frozenset(
    {"new_zeros", "new_ones", "new_empty", "new_full", "new_tensor", "zeros_like", "ones_like", "empty_like"}
    | {"full_like", "rand_like", "randn_like"}
)
# They give each place the values of others.
_SCRAMBLING = frozenset(
    {"roll", "rot90", "flip", "fliplr", "flipud", "sort", "argsort", "topk", "gather", "index_select", "take"}
    | {"take_along_dim", "scatter", "index_add", "repeat", "tile", "repeat_interleave", "channel_shuffle"}
)
_MOVING = """permute transpose movedim moveaxis swapaxes swapdims t adjoint get mean sum amax amin max min std var norm
prod logsumexp median all any argmax argmin select unbind"""
_SHAPING = "view reshape flatten unflatten squeeze unsqueeze view_as reshape_as ravel"
_POOLING = """max_pool2d boolean_dispatch max_pool2d_with_indices avg_pool2d lp_pool2d adaptive_avg_pool2d
adaptive_max_pool2d fractional_max_pool2d interpolate upsample pad pixel_shuffle pixel_unshuffle conv1d"""
_FIRST: dict[str, Callable[[Axes, _Call, Tensor], Axes | None]] = {
    **dict.fromkeys(_MOVING.split(), _moved),
    **dict.fromkeys(_SHAPING.split(), _reshaped),
    **dict.fromkeys(_POOLING.split(), _pooled),
    **dict.fromkeys(("chunk", "split", "split_with_sizes", "tensor_split", "narrow"), _cut),
    "linear": _linear,
    "getitem": _indexed,
}
_SEVERAL: dict[str, Callable[[_Call, Tensor], Axes | None]] = {
    **dict.fromkeys(("matmul", "bmm", "mm"), _product),
    **dict.fromkeys(("cat", "concat", "concatenate"), _joint),
    "stack": _stacked,
    "einsum": _sum_of_products,
    "scaled_dot_product_attention": _attention,
}
