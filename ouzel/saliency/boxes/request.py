"""What a caller asks of a detector: a method, which box, and the method's parameters."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ouzel.checks import one_of
from ouzel.saliency import request
from ouzel.saliency.boxes.d_rise import DRise
from ouzel.saliency.boxes.targets import BoxRequest, BoxTarget
from ouzel.saliency.method import Method
from ouzel.saliency.reductions import REDUCTIONS
from ouzel.saliency.targets import Rank

# RISE weighs masks by the probability of a class in the image, which a detector does not tell: D-RISE is in its place.
METHODS: dict[str, type] = {name: kind for name, kind in request.METHODS.items() if name != "rise"}
METHODS[DRise.name] = DRise


@dataclass(frozen=True, init=False)
class BoxSaliency:
    """One map, asked for: `BoxSaliency("d_rise", Rank(2), masks=1000)`.

    Args:
        method: One of METHODS.
        target: Which box.
        reduction: One of `ouzel.saliency.REDUCTIONS`; maps of `d_rise` have one channel and ignore it.
        **parameters: Those of the method.

    Raises:
        InvalidArgument: There is no such method, reduction or parameter, or a value is not allowed.
    """

    method: Method
    target: BoxRequest
    reduction: str

    def __init__(self, method: str, target: BoxRequest = None, reduction: str = "max_abs", **parameters: Any) -> None:
        object.__setattr__(self, "method", request.make_method(method, parameters, METHODS))
        object.__setattr__(self, "target", target)
        one_of("reduction", reduction, REDUCTIONS)
        object.__setattr__(self, "reduction", reduction)


@dataclass(frozen=True)
class BoxMapRequest:
    """One map of one row, checked against the network.

    Attributes:
        method: With all its defaults.
        target: A box, or a place among the detections that are still to come.
        reduction: One of REDUCTIONS.
        request: Place among the row's requests, for errors.
    """

    method: Method
    target: Rank | BoxTarget
    reduction: str
    request: int = dataclasses.field(default=0, compare=False)


@dataclass(frozen=True)
class BoxPlan:
    """What one row asks for, checked, and what it costs.

    Attributes:
        maps: In the order of the answer.
        height: Of the input, in pixels.
        width: Of the input, in pixels.
        passes: Forward and backward passes, at most.
    """

    maps: tuple[BoxMapRequest, ...]
    height: int
    width: int
    passes: int
