"""What a batch came to, once the host knows its figures: which maps are finite, which classes they are of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice

import torch
from torch import Tensor

from ouzel.errors import FailedPrecondition, OuzelError
from ouzel.saliency.engine.compute import Computed, GroupMaps
from ouzel.saliency.engine.work import Group, MapRequest, Work
from ouzel.saliency.results import SaliencyMap
from ouzel.saliency.targets import Rank, ResolvedTarget
from ouzel.saliency.transfer import Transfer


@dataclass(frozen=True)
class _Known:
    """What the host knows of a group's maps."""

    values: Tensor
    largest: Sequence[float]
    measures: Mapping[str, Sequence[float]]
    refusals: Sequence[tuple[Sequence[float], OuzelError]]


class Answer:
    """The maps of a batch by row, or each over all rows.

    All figures come to the host in one copy, and are waited for once.

    Args:
        rows: The maps that each row asks for, or none if they are not wanted after all.
        work: That was made of them.
        computed: What came of it.
        transfer: Is waited for, with whatever it has taken.
        maps_too: Whether the maps come to the host as well.
        labels: Of the classes, for words; empty if they have none.
    """

    def __init__(
        self,
        rows: Sequence[Sequence[MapRequest]],
        work: Work,
        computed: Computed,
        transfer: Transfer,
        *,
        maps_too: bool,
        labels: Sequence[str] = (),
    ) -> None:
        self._labels = labels
        self._rows, self._work, self._groups = rows, work, computed.groups
        brought = transfer.take(computed.figures)
        made = [one.values for one in computed.groups if isinstance(one, GroupMaps)]
        values = iter([transfer.take(each) for each in made] if maps_too else made)
        transfer.wait()
        figures = iter(brought.tolist())
        self._finite = [math.isfinite(one) for one in islice(figures, work.rows)]
        self._areas: list[float] = []
        if computed.dense:
            self._classes = [int(one) for one in islice(figures, len(work.pairs))]
            self._areas = list(islice(figures, len(work.pairs)))
        else:
            best = list(islice(figures, work.rows * work.places))
            self._classes = [
                int(best[pair.row * work.places + pair.target.place])
                if isinstance(pair.target, Rank)
                else pair.target.index
                for pair in work.pairs
            ]
        self._known: list[_Known | OuzelError] = []
        for one, group in zip(computed.groups, work.groups, strict=True):
            if isinstance(one, OuzelError):
                self._known.append(one)
                continue
            count = len(group.pairs)
            largest = list(islice(figures, count))
            measures = {name: list(islice(figures, count)) for name in one.measures}
            refusals = [(list(islice(figures, count)), why) for why in one.refusals]
            self._known.append(_Known(next(values), largest, measures, refusals))

    def of_row(self, row: int) -> list[SaliencyMap] | OuzelError:
        """The maps of one row, or the first error among them."""
        error = self._error(row)
        if error is not None:
            return error
        maps = []
        for _, (group, place) in zip(self._rows[row], self._work.answers[row], strict=False):
            known = self._known_of(group)
            measures = {name: figures[place] for name, figures in known.measures.items()}
            maps.append(self._map(group, self._target(group, place), known.values[place], measures))
        return maps

    def together(self) -> tuple[SaliencyMap, ...]:
        """Each map over all rows, which ask for as many. Raises the first row's error."""
        for row in range(self._work.rows):
            error = self._error(row)
            if error is not None:
                raise error
        maps = []
        for where in zip(*self._work.answers, strict=True):
            group, places = where[0][0], [place for _, place in where]
            known = self._known_of(group)
            targets = tuple(self._target(*one) for one in where)
            measures = {
                name: torch.tensor([figures[place] for place in places]) for name, figures in known.measures.items()
            }
            maps.append(self._map(group, targets, _rows_of(known, places), measures))
        return tuple(maps)

    def _error(self, row: int) -> OuzelError | None:
        """The first in the way of a row."""
        if not self._finite[row]:
            return FailedPrecondition("model: its answer for this image has values that are not finite", field="model")
        for one, (group, place) in zip(self._rows[row], self._work.answers[row], strict=False):
            error = self._empty(group, place) or _error(self._known[group], place, self._work.groups[group])
            if error is not None:
                return located(error, one.request)
        return None

    def _known_of(self, group: int) -> _Known:
        known = self._known[group]
        assert isinstance(known, _Known)
        return known

    def _empty(self, group: int, place: int) -> OuzelError | None:
        """Why a map has no region, if that is so."""
        pair = self._work.groups[group].pairs[place]
        if not self._areas or self._areas[pair]:
            return None
        target, found = self._work.pairs[pair].target, self._target(group, place)
        if isinstance(target, Rank):
            what = f"rank {target.place}: fewer classes are predicted in this image"
        else:
            name = f" {self._labels[found.index]!r:.80}" if self._labels else ""
            what = f"class {found.index}{name} is predicted nowhere in this image"
        return FailedPrecondition(
            f"target: {what}, so there is no region to explain; name a box, a pixel or a mask", field="target"
        )

    def _target(self, group: int, place: int) -> ResolvedTarget:
        pair = self._work.groups[group].pairs[place]
        target, index = self._work.pairs[pair].target, self._classes[pair]
        minus = None if isinstance(target, Rank) else target.minus
        if not self._areas:
            return ResolvedTarget(index, minus)
        return ResolvedTarget(index, minus, target.region, self._areas[pair])

    def _map(
        self,
        group: int,
        target: ResolvedTarget | tuple[ResolvedTarget, ...],
        values: Tensor,
        measures: Mapping[str, object],
    ) -> SaliencyMap:
        asked, made = self._work.groups[group], self._groups[group]
        assert isinstance(made, GroupMaps)
        return SaliencyMap(
            method=asked.method.name,
            target=target,
            values=values,
            reduction=asked.reduction,
            rectified=made.rectified,
            caveats=made.caveats,
            parameters={f.name: getattr(asked.method, f.name) for f in fields(asked.method)},  # type: ignore[arg-type]
            measures=measures,
        )


def _error(known: _Known | OuzelError, place: int, group: Group) -> OuzelError | None:
    if isinstance(known, OuzelError):
        return known
    for which, why in known.refusals:
        if which[place]:
            return why
    if all(math.isfinite(figures[place]) for figures in (known.largest, *known.measures.values())):
        return None
    name = group.method.name
    return FailedPrecondition(
        f"method: {name} gives values that are not finite for this image; the network's precision may not reach",
        field="method",
    )


def _rows_of(known: _Known, places: Sequence[int]) -> Tensor:
    """The values at these places: the tensor itself, or a part of it, where they follow each other."""
    first = places[0]
    if places == list(range(first, first + len(places))):
        return known.values[first : first + len(places)] if len(places) < len(known.values) else known.values
    return torch.stack([known.values[place] for place in places])


def located(error: OuzelError, request: int) -> OuzelError:
    """The same error, which now names the request at fault."""
    return type(error)(f"saliency[{request}].{error}", field=f"saliency[{request}].{error.field}")
