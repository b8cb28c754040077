"""What a caller asks for: a method, its target, how channels are reduced, and the method's parameters."""

from __future__ import annotations

import copy
import dataclasses
import functools
import typing
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, Self

from torch import Tensor

from ouzel.checks import one_of
from ouzel.errors import InvalidArgument
from ouzel.saliency.baselines import GivenImage
from ouzel.saliency.method import Method
from ouzel.saliency.methods.grad_cam import GradCam
from ouzel.saliency.methods.grad_cam_plus_plus import GradCamPlusPlus
from ouzel.saliency.methods.gradient import Gradient
from ouzel.saliency.methods.guided import Guided
from ouzel.saliency.methods.guided_grad_cam import GuidedGradCam
from ouzel.saliency.methods.input_x_gradient import InputXGradient
from ouzel.saliency.methods.integrated_gradients import IntegratedGradients
from ouzel.saliency.methods.layer_cam import LayerCam
from ouzel.saliency.methods.occlusion import Occlusion
from ouzel.saliency.methods.rise import Rise
from ouzel.saliency.methods.smoothgrad import SmoothGrad
from ouzel.saliency.reductions import REDUCTIONS
from ouzel.saliency.targets import Target

METHODS: dict[str, type] = {
    method.name: method
    for method in (
        Gradient,
        Guided,
        InputXGradient,
        IntegratedGradients,
        SmoothGrad,
        GradCam,
        GradCamPlusPlus,
        GuidedGradCam,
        LayerCam,
        Occlusion,
        Rise,
    )
}


@dataclasses.dataclass(frozen=True, init=False)
class Saliency:
    """One saliency map, asked for: `Saliency("grad_cam", target=281, layer="layer3")`.

    Args:
        method: One of METHODS.
        target: See `ouzel.saliency.targets.Target`; or a sequence with one target per row.
        reduction: One of REDUCTIONS. Maps of a layer, such as Grad-CAM's, have one channel and ignore it.
        **parameters: Those of the method. One that is an image may be a tensor.

    Raises:
        InvalidArgument: There is no such method, reduction or parameter, or a value is not allowed.
    """

    method: Method
    target: Target | Sequence[Target]
    reduction: str

    def __init__(
        self, method: str, target: Target | Sequence[Target] = None, reduction: str = "max_abs", **parameters: Any
    ) -> None:
        object.__setattr__(self, "method", make_method(method, parameters))
        object.__setattr__(
            self, "target", target if isinstance(target, str) or not isinstance(target, Sequence) else tuple(target)
        )
        one_of("reduction", reduction, REDUCTIONS)
        object.__setattr__(self, "reduction", reduction)

    def with_target(self, target: Target) -> Self:
        """The same request for another target."""
        other = copy.copy(self)
        object.__setattr__(other, "target", target)
        return other


def make_method(name: str, parameters: Mapping[str, Any], known: Mapping[str, type] = METHODS) -> Method:
    """A method by name, with its parameters checked.

    Args:
        name: One of `known`.
        parameters: By name; those that are missing have their defaults.
        known: Methods by name.

    Raises:
        InvalidArgument: Names what is allowed.
    """
    one_of("method", name, known)
    kind = known[name]
    allowed = _parameter_types(kind)
    checked: dict[str, Any] = {}
    for key, given in parameters.items():
        if key not in allowed:
            choice = f"one of {', '.join(allowed)}" if allowed else "it takes none"
            raise InvalidArgument(f"parameters: {name} knows no parameter {key!r}; {choice}", field=f"parameters.{key}")
        value = float(given) if float in allowed[key] and type(given) is int else given
        if isinstance(given, Tensor) and GivenImage in allowed[key]:
            value = GivenImage.of(given, key)
        checked[key] = value
        if type(value) not in allowed[key]:
            expected = " or ".join(
                _TYPE_NAMES.get(each, each.__name__) for each in allowed[key] if each is not NoneType
            )
            raise InvalidArgument(
                f"parameters.{key}: {value!r:.80} is a {type(value).__name__}, {name} takes a {expected}",
                field=f"parameters.{key}",
            )
    method: Method = kind(**checked)
    return method


_TYPE_NAMES: dict[type, str] = {GivenImage: "tensor"}


@functools.cache
def _parameter_types(kind: type) -> dict[str, tuple[type, ...]]:
    hints = typing.get_type_hints(kind)
    return {
        field.name: typing.get_args(hints[field.name]) or (hints[field.name],) for field in dataclasses.fields(kind)
    }
