"""ExplainOptions from what callers send: the serialised message, or JSON written by hand.

JSON is the form for curl: `{"saliency": ["guided", {"method": "grad_cam", "target": "tabby", "layer": "blocks.6"}]}`.
A target is a class or one of {"contrast": [a, b]}, {"top": n}, {"rank": n}; a class is a number, its index, or a text,
as `ouzel.models.label_index` takes it. Of a segmentation model, a region stands beside it, or alone: {"class": c,
"box": [left, top, right, bottom]}, {"pixel": [x, y]}, {"mask": "..."}, a PNG file in base64. In a saliency entry, keys
that are not the request's own are parameters of the method; where one is an image, it is {"image": "..."}, with a PNG,
JPEG or WebP file in base64. No message starts with a brace, so the two cannot be confused.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from ouzel import bounded_json
from ouzel.bounded_messages import check_elements
from ouzel.checks import one_of
from ouzel.errors import InvalidArgument
from ouzel_protos import parameters
from ouzel_protos.parameters import DTYPES, REDUCTIONS, SIZES, BadParameter
from ouzel_protos.text import is_encodable, shown
from ouzel_protos.v1 import explain_pb2 as pb
from ouzel_protos.v1.tensor_pb2 import Tensor

_T = TypeVar("_T")
MOST_ELEMENTS = 5000  # of a request: its maps, their parameters and conditions


def parse(data: bytes | str | Mapping[str, Any] | None) -> pb.ExplainOptions:
    """Read the options of a request in any form.

    Args:
        data: A serialised ExplainOptions, JSON, or JSON decoded; None is the defaults.

    Raises:
        InvalidArgument: Names the field at fault.
    """
    if not data:
        return pb.ExplainOptions()
    if isinstance(data, Mapping):
        return _from_document(dict(data))
    # What is no Unicode comes through, to be refused where its field is known.
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else bytes(data)
    if raw.lstrip()[:1] in (b"{", b"["):
        return _from_json(raw)
    check_elements(pb.ExplainOptions, raw, MOST_ELEMENTS, where="options")
    try:
        return pb.ExplainOptions.FromString(raw)
    except DecodeError:
        raise InvalidArgument(
            'options: neither a serialised ExplainOptions nor a JSON object such as {"saliency": ["guided"]}',
            field="options",
        ) from None


def _from_json(raw: bytes) -> pb.ExplainOptions:
    return _from_document(bounded_json.loads(raw, "options", MOST_ELEMENTS))


def _from_document(document: Any) -> pb.ExplainOptions:
    options = pb.ExplainOptions()
    _apply(document, "options", {
        "top_k": lambda value, path: setattr(options, "top_k", _integer(value, path)),
        "saliency": lambda value, path: options.saliency.extend(_saliency_list(value, path)),
        "label_map_size": lambda value, path: setattr(options, "label_map_size", _choice(value, SIZES, path)),
        "when": lambda value, path: options.when.CopyFrom(_condition(value, path)),
        "estimate_only": lambda value, path: setattr(options, "estimate_only", _of(bool, value, path)),
        "record": lambda value, path: setattr(options, "record", _of(bool, value, path)),
        "min_score": lambda value, path: setattr(options, "min_score", _number(value, path)),
        "timeout": lambda value, path: setattr(options, "timeout", _number(value, path)),
        "request_id": lambda value, path: setattr(options, "request_id", _text(value, path)),
    })  # fmt: skip
    return options


def _saliency_list(value: Any, path: str) -> list[pb.SaliencyRequest]:
    return [_saliency(entry, f"{path}[{number}]") for number, entry in enumerate(_of(list, value, path))]


def _saliency(value: Any, path: str) -> pb.SaliencyRequest:
    if isinstance(value, str):
        return pb.SaliencyRequest(method=_text(value, path))
    request = pb.SaliencyRequest()
    _apply(value, path, {
        "method": lambda v, p: setattr(request, "method", _text(v, p)),
        "target": lambda v, p: request.target.CopyFrom(_target(v, p)),
        "reduction": lambda v, p: setattr(request, "reduction", _choice(v, REDUCTIONS, p)),
        "dtype": lambda v, p: setattr(request, "dtype", _choice(v, DTYPES, p)),
        "size": lambda v, p: setattr(request, "size", _choice(v, SIZES, p)),
        "faithfulness": lambda v, p: setattr(request, "faithfulness", _integer(v, p)),
    }, otherwise=lambda key, v, p: request.parameters[key].CopyFrom(_parameter(v, p)))  # fmt: skip
    return request


def _target(value: Any, path: str) -> pb.Target:
    target = pb.Target()
    if isinstance(value, dict):
        if len(value.keys() - _REGIONS) > 1 or len(value.keys() & _REGIONS) > 1 or not value:
            raise InvalidArgument(
                f"{path}: give exactly one of class, contrast, top, rank; for a region one of box, pixel, mask",
                field=path,
            )
        _apply(value, path, {
            "class": lambda v, p: _name(target, v, p),
            "contrast": lambda v, p: target.contrast.CopyFrom(_contrast(v, p)),
            "top": lambda v, p: setattr(target, "top", _integer(v, p)),
            "rank": lambda v, p: setattr(target, "rank", _integer(v, p)),
            "box": lambda v, p: target.region.box.CopyFrom(pb.Region.Box(**_listed(v, _BOX, _number, p))),
            "pixel": lambda v, p: target.region.pixel.CopyFrom(pb.Region.Pixel(**_listed(v, _PIXEL, _integer, p))),
            "mask": lambda v, p: target.region.mask.CopyFrom(_bytes(_text(v, p), p)),
        })  # fmt: skip
    else:
        _name(target, value, path)
    return target


_REGIONS = {"box", "pixel", "mask"}
_BOX, _PIXEL = ("left", "top", "right", "bottom"), ("x", "y")


def _name(target: pb.Target, value: Any, path: str) -> None:
    ref = _class_ref(value, path)
    if ref.HasField("label"):
        target.label = ref.label
    else:
        target.index = ref.index


def _listed(value: Any, names: tuple[str, ...], read: Callable[[Any, str], Any], path: str) -> dict[str, Any]:
    """A list of numbers, by what each is called."""
    if not isinstance(value, list) or len(value) != len(names):
        raise InvalidArgument(f"{path}: {value!r:.80} is not [{', '.join(names)}]", field=path)
    return {name: read(one, f"{path}[{number}]") for number, (name, one) in enumerate(zip(names, value, strict=True))}


def _contrast(value: Any, path: str) -> pb.Contrast:
    if not isinstance(value, list) or len(value) != 2:
        raise InvalidArgument(f"{path}: a contrast is a list of two classes", field=path)
    return pb.Contrast(a=_class_ref(value[0], f"{path}[0]"), b=_class_ref(value[1], f"{path}[1]"))


def _class_ref(value: Any, path: str) -> pb.ClassRef:
    if isinstance(value, str):
        return pb.ClassRef(label=_text(value, path))
    return pb.ClassRef(index=_integer(value, path, bits=64))


def _condition(value: Any, path: str) -> pb.Condition:
    condition = pb.Condition()
    _apply(value, path, {
        "score_below": lambda v, p: setattr(condition, "score_below", _number(v, p)),
        "entropy_above": lambda v, p: setattr(condition, "entropy_above", _number(v, p)),
        "labels": lambda v, p: condition.labels.extend(_text(label, p) for label in _of(list, v, p)),
    })  # fmt: skip
    return condition


def _parameter(value: Any, path: str) -> pb.Parameter:
    match value:
        case {"image": str() as text}:
            value = _file(text, path)
        case int() if not isinstance(value, bool):
            value = _integer(value, path, bits=64)
    try:
        return parameters.encode(value)
    except BadParameter as error:
        raise InvalidArgument(f"{path}: {error}", field=path) from None


def _file(text: str, path: str) -> Tensor:
    return _bytes(text, f"{path}.image")


def _bytes(text: str, path: str) -> Tensor:
    """The bytes of a file, as a tensor of one axis."""
    data = from_base64(text, path)
    return Tensor(dtype=Tensor.UINT8, shape=[len(data)], data=data)


def from_base64(text: str, path: str) -> bytes:
    """The bytes; lines may be broken, as `base64` breaks them. Raises InvalidArgument that names the field."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise InvalidArgument(f"{path}: not base64 ({error})", field=path) from None


def _apply(
    value: Any,
    path: str,
    setters: Mapping[str, Callable[[Any, str], None]],
    otherwise: Callable[[str, Any, str], None] | None = None,
) -> None:
    """Hand each entry of a JSON object to its setter; unknown keys go to `otherwise` or are refused."""
    prefix = "" if path == "options" else f"{path}."
    for key, entry in _of(dict, value, path).items():
        if not is_encodable(key):
            raise InvalidArgument(f"{path}: the key {shown(key, 80)} is no text of Unicode", field=path)
        if key in setters:
            setters[key](entry, prefix + key)
        elif otherwise is not None:
            otherwise(key, entry, prefix + key)
        else:
            raise InvalidArgument(f"{prefix}{key}: unknown; allowed are {', '.join(setters)}", field=prefix + key)


def _of(kind: type[_T], value: Any, path: str) -> _T:
    if not isinstance(value, kind):
        raise InvalidArgument(f"{path}: {value!r:.80} is not a {_JSON_NAMES[kind]}", field=path)
    return value


def _text(value: Any, path: str) -> str:
    """JSON can spell halves of characters, lone surrogates, that no text holds."""
    text = _of(str, value, path)
    if not is_encodable(text):
        raise InvalidArgument(f"{path}: {shown(text, 80)} is no text of Unicode: it holds a lone surrogate", field=path)
    return text


_JSON_NAMES: dict[type, str] = {bool: "boolean", str: "string", list: "list", dict: "JSON object"}


def _integer(value: Any, path: str, *, bits: int = 32) -> int:
    bound = 2 ** (bits - 1)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON has numbers only: 5.0 and 1e9 are whole
    if isinstance(value, bool) or not isinstance(value, int) or not -bound <= value < bound:
        raise InvalidArgument(f"{path}: {value!r} is not an integer of {bits} bits", field=path)
    return value


def _number(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidArgument(f"{path}: {value!r} is not a number", field=path)
    return float(value)


def _choice(value: Any, choices: Mapping[str, Any], path: str) -> Any:
    one_of(path, value, choices)
    return choices[value]
