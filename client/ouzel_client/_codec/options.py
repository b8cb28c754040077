"""What a caller requests to be explained, as a message."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from ouzel_client._codec import images, regions
from ouzel_client._codec.message import put
from ouzel_client._transport.config import MAX_REQUEST_BYTES
from ouzel_client._types.saliency import Class, Contrast, Rank, Saliency, SaliencyInput, Size, Target, Top, When, Within
from ouzel_client.errors import InvalidArgument
from ouzel_protos import parameters
from ouzel_protos.limits import too_small
from ouzel_protos.parameters import DTYPES, REDUCTIONS, SIZES, BadParameter
from ouzel_protos.text import is_encodable, shown
from ouzel_protos.v1 import explain_pb2 as pb
from ouzel_protos.v1.tensor_pb2 import Tensor


def encode(
    saliency: SaliencyInput,
    *,
    target: Target = None,
    top_k: int | None = None,
    when: When | None = None,
    estimate_only: bool = False,
    record: bool = False,
    label_map_size: Size | None = None,
    min_score: float | None = None,
) -> pb.ExplainOptions:
    """The message of these options. Raises InvalidArgument that names the field."""
    options = pb.ExplainOptions(estimate_only=estimate_only)
    put(options, "record", record)
    if label_map_size is not None:
        if label_map_size not in SIZES:
            raise InvalidArgument(
                f"label_map_size: {label_map_size!r:.80} is not one of {', '.join(SIZES)}", field="label_map_size"
            )
        options.label_map_size = SIZES[label_map_size]
    if min_score is not None:
        if isinstance(min_score, bool) or not isinstance(min_score, Real) or not 0 <= min_score <= 1:
            raise InvalidArgument(f"min_score: {min_score!r:.80} is not a number in [0, 1]", field="min_score")
        options.min_score = float(min_score)
    if top_k is not None:
        if problem := too_small(_integer(top_k, "top_k", bits=32), 1):
            raise InvalidArgument(f"top_k: {problem}", field="top_k")
        options.top_k = top_k
    if when is not None:
        options.when.CopyFrom(_condition(when))
    for number, given in enumerate([saliency] if isinstance(saliency, str | Saliency) else saliency):
        path = f"saliency[{number}]"
        one = Saliency(given) if isinstance(given, str) else given
        if not isinstance(one, Saliency):
            raise InvalidArgument(f"{path}: {one!r} is neither a method's name nor a Saliency", field=path)
        options.saliency.append(_request(one, target, path))
    return options


def _request(one: Saliency, default: Target, path: str) -> pb.SaliencyRequest:
    if not isinstance(one.method, str) or not one.method:
        raise InvalidArgument(f"{path}.method: {one.method!r} is not a method's name", field=f"{path}.method")
    request = pb.SaliencyRequest(
        method=text(one.method, f"{path}.method"),
        reduction=REDUCTIONS[one.reduction] if one.reduction else None,
        dtype=DTYPES[one.dtype],
        size=SIZES[one.size],
        faithfulness=_integer(one.faithfulness, f"{path}.faithfulness", bits=32),
        parameters={text(name, path): _parameter(value, f"{path}.{name}") for name, value in one.parameters.items()},
    )
    target = default if one.target is None else one.target
    if target is not None:
        request.target.CopyFrom(_target(target, f"{path}.target"))
    return request


def _target(target: Target, path: str) -> pb.Target:
    match target:
        case Within(inner, region):
            if isinstance(inner, Within):
                raise InvalidArgument(f"{path}: a region within a region", field=path)
            message = pb.Target() if inner is None else _target(inner, path)
            message.region.CopyFrom(regions.region(region, path, MAX_REQUEST_BYTES))
            return message
        case Contrast():
            return pb.Target(
                contrast=pb.Contrast(a=class_ref(target.a, f"{path}.a"), b=class_ref(target.b, f"{path}.b"))
            )
        case Rank():
            if _integer(target.place, path, bits=32) < 0:
                raise InvalidArgument(f"{path}: rank {target.place} is less than 0", field=path)
            return pb.Target(rank=target.place)
        case Top():
            if _integer(target.count, path, bits=32) < 1:
                raise InvalidArgument(f"{path}: top {target.count} is less than 1", field=path)
            return pb.Target(top=target.count)
        case str():
            return pb.Target(label=text(target, path))
    return pb.Target(index=_integer(target, path, bits=64))


def class_ref(value: Class, path: str) -> pb.ClassRef:
    """The message of a class, by its index or a text. Raises InvalidArgument that names the field."""
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
    try:
        if images.is_file(value):
            data = images.read(value, MAX_REQUEST_BYTES).data
            value = Tensor(dtype=Tensor.UINT8, shape=[len(data)], data=data)
        return parameters.encode(value)
    except BadParameter as error:
        raise InvalidArgument(f"{path}: {error}", field=path) from None
    except InvalidArgument as error:
        raise InvalidArgument(f"{path}: {error.message}", field=path) from None


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
