"""A batch between its prediction and its explanations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import torch.nn.functional as F

from ouzel import models
from ouzel.errors import FailedPrecondition, OuzelError
from ouzel.saliency.engine.forward import Forward, ForwardRows
from ouzel.saliency.method import Method
from ouzel.saliency.reductions import REDUCTIONS
from ouzel.saliency.results import SaliencyMap
from ouzel.saliency.targets import Rank, ResolvedTarget, resolve


@dataclass(frozen=True)
class MapRequest:
    """One map of one row, checked against the network.

    Attributes:
        method: With all its defaults.
        target: A class, a difference of two classes, or a place of the prediction that is still to come.
        reduction: One of REDUCTIONS.
        request: Place among the row's requests, for errors. Equal maps may differ in it.
        row: Place in the batch, once that is known.
    """

    method: Method
    target: Rank | ResolvedTarget
    reduction: str
    request: int = field(default=0, compare=False)
    row: int = 0

    def of_row(self, row: int, ranking: Sequence[int]) -> MapRequest:
        """The same map of this row, whose class is known now; ranking: class indices, best first."""
        return replace(self, target=resolve(self.target, ranking), row=row)


@dataclass(frozen=True)
class SaliencyPlan:
    """What one row asks for, checked, and what it costs. Rows of one input size may share it.

    Attributes:
        maps: In the order of the answer.
        height: Of the input, in pixels.
        width: Of the input, in pixels.
        passes: Forward and backward passes per image, at most.
    """

    maps: tuple[MapRequest, ...]
    height: int
    width: int
    passes: int


class Batch:
    """A batch that has been predicted and can be explained.

    Attributes:
        logits: (B, K), detached.
    """

    def __init__(self, forward: Forward, plans: Sequence[SaliencyPlan]) -> None:
        self._forward = forward
        self._plans = plans
        self.logits = forward.logits

    def explain(
        self, keep: Sequence[bool] | None = None, deadlines: Sequence[float | None] | None = None
    ) -> list[list[SaliencyMap] | OuzelError]:
        """Compute the maps of all rows. It can be called once.

        Args:
            keep: Rows whose maps are wanted after all, now that the prediction is known; the others get none.
            deadlines: When each row's caller stops waiting, on the clock of `time.monotonic`. Methods of many passes
                stop when nobody waits any more, and answer DeadlineExceeded.

        Returns:
            For each row its maps in the order asked for, or the error that stands in their way, such as logits or a map
            that are not finite.
        """
        ranking = self._forward.logits.argsort(dim=1, descending=True, stable=True).tolist()
        rows = [
            [one.of_row(row, ranking[row]) for one in plan.maps] if keep is None or keep[row] else []
            for row, plan in enumerate(self._plans)
        ]
        groups: dict[tuple[Method, str], list[MapRequest]] = {}
        for one in (one for row in rows for one in row):
            groups.setdefault((one.method, one.reduction), []).append(one)
        with models.computing(self._forward.prepared.precision):
            answers = self._answer(groups, deadlines or [None] * len(rows))
        self._forward.release()
        del self._forward
        finite = self.logits.isfinite().all(dim=1).tolist()
        return [
            _collect(row, answers) if row_finite else _no_answer() for row, row_finite in zip(rows, finite, strict=True)
        ]

    def _answer(
        self, groups: dict[tuple[Method, str], list[MapRequest]], deadlines: Sequence[float | None]
    ) -> dict[MapRequest, SaliencyMap | OuzelError]:
        answers: dict[MapRequest, SaliencyMap | OuzelError] = {}
        ready: list[tuple[ForwardRows, Method, str, list[MapRequest]]] = []
        for (method, reduction), asked in groups.items():
            unique = list(dict.fromkeys(asked))
            try:
                for spec in method.gradient_specs():
                    self._forward.check(spec)
            except OuzelError as error:
                answers.update(dict.fromkeys(unique, error))
                continue
            targets = tuple(one.target for one in unique)
            numbers = [one.row for one in unique]
            deadline = _last([deadlines[number] for number in numbers])
            rows = ForwardRows(self._forward, numbers, targets, method.gradient_specs(), deadline)  # type: ignore[arg-type]
            ready.append((rows, method, reduction, unique))
        self._forward.differentiate(each for rows, *_ in ready for each in rows.row_gradients())
        for rows, method, reduction, unique in ready:
            try:
                maps = maps_of(rows, method, reduction)
            except OuzelError as error:
                answers.update(dict.fromkeys(unique, error))
            else:
                answers.update((one, _finite(answer)) for one, answer in zip(unique, maps, strict=True))
        return answers


def _collect(
    row: Sequence[MapRequest], answers: Mapping[MapRequest, SaliencyMap | OuzelError]
) -> list[SaliencyMap] | OuzelError:
    """The maps of one row, or the first error among them."""
    maps = []
    for one in row:
        answer = answers[one]
        if isinstance(answer, OuzelError):
            return located(answer, one.request)
        maps.append(answer)
    return maps


def maps_of(rows: ForwardRows, method: Method, reduction: str) -> list[SaliencyMap]:
    """What the method says of its rows, at the size of the input, with what goes with it."""
    attribution = method.attribute(rows)
    values = attribution.values.detach()
    if values.ndim == 4:
        values = REDUCTIONS[reduction](values)
    else:  # a layer's map, at the layer's resolution
        size = rows.forward.x.shape[-2:]
        values = F.interpolate(values[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    values = values.contiguous()
    parameters = {f.name: getattr(method, f.name) for f in fields(method)}  # type: ignore[arg-type]
    return [
        SaliencyMap(
            method=method.name,
            target=target,
            values=values[number],
            reduction=reduction,
            rectified=attribution.rectified,
            caveats=method.caveats + attribution.caveats,
            parameters=parameters,
            measures={name: float(figures[number]) for name, figures in attribution.measures.items()},
        )
        for number, target in enumerate(rows.targets)
    ]


def _finite(one: SaliencyMap) -> SaliencyMap | OuzelError:
    """The map, or the error that stands for it."""
    if one.values.isfinite().all() and all(map(math.isfinite, one.measures.values())):
        return one
    return FailedPrecondition(
        f"method: {one.method} gives values that are not finite for this image; the network's precision may not reach",
        field="method",
    )


def _no_answer() -> OuzelError:
    return FailedPrecondition("model: its answer for this image has values that are not finite", field="model")


def _last(deadlines: Sequence[float | None]) -> float | None:
    given = [deadline for deadline in deadlines if deadline is not None]
    return max(given) if len(given) == len(deadlines) else None


def located(error: OuzelError, request: int) -> OuzelError:
    """The same error, which now names the request at fault."""
    return type(error)(f"saliency[{request}].{error}", field=f"saliency[{request}].{error.field}")
