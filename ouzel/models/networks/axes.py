"""Which axes of a tensor hold the places of the image, and how to bring any such tensor to maps (B, C, h, w).

An index along one side of the image can be spread over several axes, digit by digit (windows), or share an axis with
the other side (tokens), or with entries that belong to no place (a class token). `Run` is a range of such digits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

from torch import Tensor


@dataclass(frozen=True)
class Run:
    """A range of digits of an index along one side of the image.

    Attributes:
        side: "y", "x", or "" for what is no side of the image, such as channels.
        size: Entries, which are `stride` places apart.
        stride: Places from one entry to the next.
        extent: Places that the side had.
    """

    side: str
    size: int
    stride: int = 1
    extent: int = 1


@dataclass(frozen=True)
class Axis:
    """runs: slowest first, none of size 1. before, after: entries around them that belong to no place of the image."""

    runs: tuple[Run, ...] = ()
    before: int = 0
    after: int = 0

    @property
    def size(self) -> int:
        """How many entries it has."""
        return prod(run.size for run in self.runs) + self.before + self.after

    @property
    def has_places(self) -> bool:
        """Whether any of its entries belong to places of the image."""
        return any(run.side for run in self.runs)

    @property
    def whole(self) -> str:
        """The side that the axis is, all of it and nothing else; "" if it is not."""
        if len(self.runs) != 1 or self.before or self.after:
            return ""
        (run,) = self.runs
        return run.side if run.stride * run.size == run.extent else ""

    def resized(self, size: int) -> Axis | None:
        """After a step that may have changed the number of entries but not what they stand for; None if unclear."""
        if size == self.size:
            return self
        if self.whole:
            return side(self.whole, size)
        return None if self.has_places else plain(size)


Axes = tuple[Axis, ...]


def plain(size: int) -> Axis:
    """An axis without places of the image."""
    return Axis((Run("", size),)) if size > 1 else Axis()


def side(name: str, size: int) -> Axis:
    """An axis that is a whole side of the image."""
    return Axis((Run(name, size, 1, size),)) if size > 1 else Axis()


def regroup(axes: Axes, shape: tuple[int, ...]) -> Axes | None:
    """After a reshape to `shape`; None if that cannot be told."""
    left: list[Run | Axis] = []
    for axis in axes:
        left += [axis] if axis.before or axis.after else list(axis.runs)
    left.reverse()
    result = []
    for size in shape:
        taken = _take(left, size)
        if taken is None:
            return None
        result.append(taken)
    return None if left else tuple(result)


def _take(left: list[Run | Axis], size: int) -> Axis | None:
    """The next `size` entries off the end of `left`."""
    runs: list[Run] = []
    need = size
    while need > 1:
        if not left:
            return None
        one = left.pop()
        if isinstance(one, Axis):  # its entries around the places have no digits of their own
            return one if not runs and one.size == size else None
        if one.size > need:
            if one.size % need:
                return None
            minor = one.size // need
            left.append(replace(one, size=minor))
            one = replace(one, size=need, stride=one.stride * minor if one.side else 1)
        if need % one.size:
            return None
        need //= one.size
        runs.append(one)
    return Axis(_tidy(runs))


def _tidy(runs: list[Run]) -> tuple[Run, ...]:
    """Neighbours that go on where the other ends, as one."""
    result: list[Run] = []
    for run in runs:
        last = result[-1] if result else None
        if last and last.side == run.side and (not run.side or _follows(last, run)):
            result[-1] = replace(run, size=last.size * run.size)
        else:
            result.append(run)
    return tuple(result)


def _follows(major: Run, minor: Run) -> bool:
    return major.stride == minor.stride * minor.size and major.extent == minor.extent


@dataclass(frozen=True)
class Layout:
    """How a layer's output (B, ...) becomes maps.

    Attributes:
        shape: (C, h, w) of the maps of one row.
        sizes: Of the axes behind the batch, once they are split into digits.
        order: In which these are to be put.
        cut: (axis, first, count) of the entries that have places, where others share their axis.
    """

    shape: tuple[int, int, int]
    sizes: tuple[int, ...]
    order: tuple[int, ...]
    cut: tuple[int, int, int] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the output is (B, C, h, w) as it stands."""
        return self.sizes == self.shape and self.order == (0, 1, 2) and self.cut is None

    def maps(self, output: Tensor) -> Tensor:
        """(B, C, h, w), differentiable; the very tensor if it has that form."""
        if self.is_plain and tuple(output.shape[1:]) == self.shape:
            return output
        if self.cut is not None:
            output = output.narrow(*self.cut)
        digits = output.reshape(len(output), *self.sizes)
        return digits.permute(0, *(place + 1 for place in self.order)).reshape(len(output), *self.shape)


def layout_of(axes: Axes | None) -> Layout | None:
    """Of an output for one image; None if it has no places of the image, has them twice, or in the batch axis."""
    if axes is None or len(axes) < 3 or axes[0] != Axis():
        return None
    extra = [(place, axis) for place, axis in enumerate(axes) if axis.before or axis.after]
    if len(extra) > 1:
        return None
    cut = next(((place, axis.before, axis.size - axis.before - axis.after) for place, axis in extra), None)
    runs = [run for axis in axes[1:] for run in axis.runs]
    rows, columns, rest = (
        sorted((place for place, run in enumerate(runs) if run.side == name), key=lambda place: -runs[place].stride)
        for name in ("y", "x", "")
    )
    rest.sort()
    if not all(_complete([runs[place] for place in places]) for places in (rows, columns)):
        return None
    if not rows and not columns and (len(axes) != 4 or len(rest) > 1):
        return None
    if len(axes) == 3 and not (rows and columns):  # a row or a column was picked, or summed up
        return None
    channels, height, width = (prod(runs[place].size for place in places) for places in (rest, rows, columns))
    return Layout(
        (channels, height, width), *_split(axes, runs, (*rest, *rows, *columns), (channels, height, width)), cut
    )


def _split(
    axes: Axes, runs: list[Run], order: tuple[int, ...], shape: tuple[int, int, int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of a Layout the sizes and the order; those of an output that is (C, h, w) already say just that."""
    if tuple(axis.size for axis in axes[1:]) == shape and order == tuple(range(len(order))):
        return shape, (0, 1, 2)
    return tuple(run.size for run in runs), order


def _complete(runs: list[Run]) -> bool:
    """Whether the runs, by falling stride, are all digits of a side, but for the last, which may have been summed."""
    if not runs:
        return True
    return runs[0].stride * runs[0].size == runs[0].extent and all(
        _follows(major, minor) for major, minor in pairwise(runs)
    )
