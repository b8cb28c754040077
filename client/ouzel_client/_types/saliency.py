"""What a caller may ask to be explained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from ouzel_client.errors import InvalidArgument

Class: TypeAlias = int | str
Reduction = Literal["max_abs", "sum_abs", "signed_sum", "none"]
Size = Literal["model", "original"]
DType = Literal["float32", "float16"]

REDUCTIONS, SIZES, DTYPES = get_args(Reduction), get_args(Size), get_args(DType)


@dataclass(frozen=True)
class Contrast:
    """A target: why `a` and not `b`, the logit of a minus that of b. Each is an index or a text, as a target."""

    a: Class
    b: Class


@dataclass(frozen=True)
class Top:
    """A target: the `count` best classes of the prediction, one map each."""

    count: int


Target: TypeAlias = int | str | Contrast | Top | None


@dataclass(frozen=True)
class When:
    """Saliency is computed only if every stated condition on the prediction holds.

    score_below: the probability of the predicted class is less, in [0, 1]; of a model with one logit that of its one
    class. entropy_above: the entropy of the probabilities, in nats, is more. labels: the predicted class is one of
    these, texts as in a target.
    """

    score_below: float | None = None
    entropy_above: float | None = None
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.labels, str):
            raise InvalidArgument("when.labels: give a tuple of labels, not one text", field="when.labels")
        object.__setattr__(self, "labels", tuple(self.labels))


@dataclass(frozen=True, init=False)
class Saliency:
    """One saliency map to compute: `Saliency("grad_cam", layer="blocks.6")`.

    target: None for the predicted class (or the default of the call), an index, a text, Contrast or Top. A text is a
    label; digits that are no label of the model are an index; "label:1" and "index:1" say which is meant.
    reduction: how channels become one value per pixel; None leaves it to the method, "none" keeps them.
    size: "model" for the resolution of the model's input, "original" for that of the uploaded image.
    parameters: those of the method, by name: numbers, texts, flags. One that is an image, such as the baseline of
    integrated_gradients, is a Path (a text is a name), the bytes of a file, a PIL image, or an array as `explain` takes
    it; the service preprocesses it like the image itself.
    """

    method: str
    target: Target
    reduction: Reduction | None
    size: Size
    dtype: DType
    _parameters: tuple[tuple[str, Any], ...]

    def __init__(
        self,
        method: str,
        target: Target = None,
        reduction: Reduction | None = None,
        size: Size = "model",
        dtype: DType = "float32",
        **parameters: Any,
    ) -> None:
        for name, value, choices in (
            ("reduction", reduction, (*REDUCTIONS, None)),
            ("size", size, SIZES),
            ("dtype", dtype, DTYPES),
        ):
            if value not in choices:
                allowed = ", ".join(choice for choice in choices if choice)
                raise InvalidArgument(f"{name}: {value!r} is not one of {allowed}", field=name)
        fields = {"method": method, "target": target, "reduction": reduction, "size": size, "dtype": dtype}
        for name, field in {**fields, "_parameters": tuple(sorted(parameters.items()))}.items():
            object.__setattr__(self, name, field)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameters of the method, by name."""
        return MappingProxyType(dict(self._parameters))


Wishes: TypeAlias = str | Saliency | Iterable[str | Saliency]
