"""What a caller may ask for, and how it is put on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np

from ouzel_client import _images
from ouzel_client._settings import MAX_REQUEST_BYTES
from ouzel_client.errors import InvalidArgument
from ouzel_protos import tensors
from ouzel_protos.text import is_encodable, shown
from ouzel_protos.v1 import explain_pb2 as pb
from ouzel_protos.v1.tensor_pb2 import Tensor

Class: TypeAlias = int | str
Reduction = Literal["max_abs", "sum_abs", "signed_sum", "none"]
Size = Literal["model", "original"]
DType = Literal["float32", "float16"]

REDUCTIONS: dict[Any, Any] = {
    None: pb.CHANNEL_REDUCTION_UNSPECIFIED,
    "max_abs": pb.MAX_ABS,
    "sum_abs": pb.SUM_ABS,
    "signed_sum": pb.SIGNED_SUM,
    "none": pb.NONE,
}
SIZES: dict[Any, Any] = {"model": pb.MODEL_INPUT, "original": pb.ORIGINAL_IMAGE}
_DTYPES: dict[Any, Any] = {"float32": Tensor.FLOAT32, "float16": Tensor.FLOAT16}


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
            ("reduction", reduction, REDUCTIONS),
            ("size", size, SIZES),
            ("dtype", dtype, _DTYPES),
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


def encode(
    saliency: Wishes,
    *,
    target: Target = None,
    top_k: int | None = None,
    when: When | None = None,
    estimate_only: bool = False,
) -> pb.ExplainOptions:
    """The message of these options. Raises InvalidArgument that names the field."""
    options = pb.ExplainOptions(estimate_only=estimate_only)
    if top_k is not None:
        if _integer(top_k, "top_k", bits=32) < 1:
            raise InvalidArgument(f"top_k: {top_k} is less than 1", field="top_k")
        options.top_k = top_k
    if when is not None:
        options.when.CopyFrom(_condition(when))
    wishes = [saliency] if isinstance(saliency, str | Saliency) else list(saliency)
    for number, wish in enumerate(wishes):
        path = f"saliency[{number}]"
        if isinstance(wish, str):
            wish = Saliency(wish)  # noqa: PLW2901 - a name is short for a request of that name
        if not isinstance(wish, Saliency):
            raise InvalidArgument(f"{path}: {wish!r} is neither a method's name nor a Saliency", field=path)
        options.saliency.append(_request(wish, target, path))
    return options


def _request(wish: Saliency, default: Target, path: str) -> pb.SaliencyRequest:
    if not isinstance(wish.method, str) or not wish.method:
        raise InvalidArgument(f"{path}.method: {wish.method!r} is not a method's name", field=f"{path}.method")
    request = pb.SaliencyRequest(
        method=text(wish.method, f"{path}.method"),
        reduction=REDUCTIONS[wish.reduction],
        dtype=_DTYPES[wish.dtype],
        size=SIZES[wish.size],
        parameters={text(name, path): _parameter(value, f"{path}.{name}") for name, value in wish.parameters.items()},
    )
    target = default if wish.target is None else wish.target
    if target is not None:
        request.target.CopyFrom(_target(target, f"{path}.target"))
    return request


def _target(target: Target, path: str) -> pb.Target:
    match target:
        case Contrast():
            return pb.Target(contrast=pb.Contrast(a=_class(target.a, f"{path}.a"), b=_class(target.b, f"{path}.b")))
        case Top():
            if _integer(target.count, path, bits=32) < 1:
                raise InvalidArgument(f"{path}: top {target.count} is less than 1", field=path)
            return pb.Target(top=target.count)
        case str():
            return pb.Target(label=text(target, path))
    return pb.Target(index=_integer(target, path, bits=64))


def _class(value: Class, path: str) -> pb.ClassRef:
    return (
        pb.ClassRef(label=text(value, path))
        if isinstance(value, str)
        else pb.ClassRef(index=_integer(value, path, bits=64))
    )


def _condition(when: When) -> pb.Condition:
    condition = pb.Condition(labels=[text(label, "when.labels") for label in when.labels])
    for name in ("score_below", "entropy_above"):
        value = getattr(when, name)
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, Real):
                raise InvalidArgument(f"when.{name}: {value!r} is not a number", field=f"when.{name}")
            setattr(condition, name, float(value))
    return condition


def _parameter(value: Any, path: str) -> pb.Parameter:
    match value:
        case bool() | np.bool_():
            return pb.Parameter(flag=bool(value))
        case Integral():
            return pb.Parameter(integer=_integer(value, path, bits=64))
        case Real():
            return pb.Parameter(number=float(value))
        case str():
            return pb.Parameter(text=text(value, path))
        case np.ndarray():
            try:
                return pb.Parameter(tensor=tensors.encode(value))
            except TypeError as error:
                raise InvalidArgument(f"{path}: {error}", field=path) from None
    if not _images.is_file(value):
        raise InvalidArgument(f"{path}: {value!r:.80} is neither a number, a text, a flag nor an image", field=path)
    try:
        data = _images.read(value, MAX_REQUEST_BYTES).data
    except InvalidArgument as error:
        raise InvalidArgument(f"{path}: {error.message}", field=path) from None
    return pb.Parameter(tensor=Tensor(dtype=Tensor.UINT8, shape=[len(data)], data=data))


def text(value: Any, path: str) -> str:
    """The text, if it can be sent: names of files on Linux may hold bytes that are no text. Raises InvalidArgument."""
    if not isinstance(value, str):
        raise InvalidArgument(f"{path}: {value!r:.80} is not a text", field=path)
    if not is_encodable(value):
        raise InvalidArgument(
            f"{path}: {shown(value, 80)} is no text of Unicode: it holds a lone surrogate", field=path
        )
    return value


def _integer(value: Any, path: str, *, bits: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InvalidArgument(f"{path}: {value!r} is not an integer", field=path)
    if not -(2 ** (bits - 1)) <= int(value) < 2 ** (bits - 1):
        raise InvalidArgument(f"{path}: {value} does not fit {bits} bits", field=path)
    return int(value)
