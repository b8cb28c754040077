"""The ways in which an image and options arrive: as parts of a form, as the body, or in a JSON document.

    parts             image (bytes), or tensor (a serialised Tensor), and options; traceparent, tracestate
    body              the bytes of an image; options in the header X-Ouzel-Options
    JSON document     {"image": base64, "options": {...}}, or "tensor" as answers carry one: {"dtype", "shape", "data"}

TorchServe hands over text and JSON decoded where a content type says so: then a part is a str, a dict, a list, ...
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ouzel import bounded_json
from ouzel.checks import one_of
from ouzel.errors import InvalidArgument
from ouzel.explain import options
from ouzel.explain.accept import PROTOBUF
from ouzel.explain.requests import RawRequest
from ouzel.telemetry import tracing
from ouzel_protos.text import shown
from ouzel_protos.v1.tensor_pb2 import Tensor

_FIELDS = ("image", "tensor", "options")
_BODIES = ("body", "data")  # what TorchServe calls a body without a form
_KNOWN = frozenset((*_FIELDS, *_BODIES, *tracing.KEYS))
_NO_TRACE: Mapping[str, str] = MappingProxyType({})
_DTYPES = [name for name, number in Tensor.DType.items() if number]


def read(
    row: Mapping[str, Any],
    header_options: str | None = None,
    media_type: str = PROTOBUF,
    trace: Mapping[str, str] = _NO_TRACE,
    also: Collection[str] = (),
) -> RawRequest:
    """One row of a batch as a request.

    Args:
        row: Parts by name, as TorchServe hands them over.
        header_options: Those of the header; options in the row go before them.
        media_type: Format of the answer.
        trace: The context of the headers, of `tracing.read`; one in the row goes before it.
        also: Names of parts that the caller of this function reads.

    Raises:
        InvalidArgument: Names the part or the field at fault.
    """
    body = next((row[name] for name in ("body", "data") if row.get(name) is not None), None)
    _check_parts(row, also)
    document = None if row.get("image") is not None else _document(body)
    if document is not None:
        row, body = {**row, **document}, None
    image = row.get("image")
    return RawRequest(
        image=_image(body if image is None else image, "body" if image is None else "image"),
        tensor=_tensor(row.get("tensor")),
        options=_options(row.get("options")) or header_options,
        media_type=media_type,
        trace=tracing.read(row) or trace,
    )


def addressed(row: Mapping[str, Any], names: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """A row whose parts say as well which model is asked.

    Args:
        row: Parts by name, as TorchServe hands them over.
        names: Of the parts that say so.

    Returns:
        The row without them, and them as texts.

    Raises:
        InvalidArgument: Names the part at fault.
    """
    body = next((row[name] for name in ("body", "data") if row.get(name) is not None), None)
    document = None if row.get("image") is not None else _document(body, (*_FIELDS, *names))
    if document is not None:
        row = {**{name: part for name, part in row.items() if name not in ("body", "data")}, **document}
    texts = {}
    for name in names:
        if (part := row.get(name)) is None:
            continue
        try:
            texts[name] = bytes(part).decode() if isinstance(part, (bytes, bytearray)) else part
        except UnicodeDecodeError:
            raise InvalidArgument(f"{name}: no text in UTF-8", field=name) from None
        if not isinstance(texts[name], str):
            raise InvalidArgument(f"{name}: a JSON {_kind(part)} is no text", field=name)
    return {name: part for name, part in row.items() if name not in names}, texts


def _check_parts(row: Mapping[str, Any], also: Collection[str]) -> None:
    """Refuses parts that mean nothing: who misspells one gets no answer to another question."""
    for name in row:
        if name not in _KNOWN and name not in also:
            raise InvalidArgument(
                f"{shown(str(name), 80)}: is no part of a request; there are {', '.join(_FIELDS)}",
                field=_field(str(name)),
            )
    beside = next((name for name in _BODIES if row.get(name) is not None), None)
    if beside is not None and row.get("image") is not None:
        raise InvalidArgument(f"{beside}: comes beside an image; send one of them", field=beside)


def _field(name: str) -> str:
    return name if len(name) <= 80 and name.isascii() and name.isprintable() else "body"


def header_text(value: str) -> str:
    """The text of a header, whose bytes servers read as Latin-1, while callers write UTF-8."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _document(body: object, allowed: Sequence[str] = _FIELDS) -> dict[str, Any] | None:
    """The JSON document that a body is, or None. TorchServe decodes one only under the bare content type."""
    if isinstance(body, (bytes, bytearray, str)):
        raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
        if raw[:64].lstrip()[:1] not in (b"{", b"["):
            return None
        body = bounded_json.loads(bytes(raw), "body", options.MOST_ELEMENTS)
    if body is None:
        return None
    if not isinstance(body, dict):
        raise InvalidArgument(
            f'body: a JSON {_kind(body)} is no request; send {{"image": "...", "options": {{...}}}}', field="body"
        )
    for key in body:
        if key not in allowed:
            raise InvalidArgument(f"body: {shown(key)} is unknown; allowed are {', '.join(allowed)}", field="body")
    return body


def _image(value: object, name: str) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, str):
        if name == "body":  # a text, and no JSON: not an image
            return value.encode(errors="replace")
        head, comma, tail = value.partition(",")
        return options.from_base64(tail if comma and head.startswith("data:") else value, name)
    raise InvalidArgument(f"{name}: send a file, or its bytes in base64, not a JSON {_kind(value)}", field=name)


def _tensor(value: object) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if not isinstance(value, dict):
        raise InvalidArgument(
            f'tensor: send a serialised Tensor, or {{"dtype", "shape", "data"}}, not a JSON {_kind(value)}',
            field="tensor",
        )
    # By hand: protobuf's own reader fails with errors of all kinds on text that is no Unicode.
    dtype, shape, data = value.get("dtype"), value.get("shape"), value.get("data")
    if unknown := value.keys() - {"dtype", "shape", "data"}:
        raise InvalidArgument(f"tensor: {shown(min(unknown))} is unknown; give dtype, shape and data", field="tensor")
    one_of("tensor.dtype", dtype, _DTYPES)
    if not isinstance(shape, list) or not all(type(edge) is int and 0 <= edge < 2**31 for edge in shape):
        raise InvalidArgument(f"tensor.shape: {shape!r:.80} is not a list of integers", field="tensor.shape")
    if not isinstance(data, str):
        raise InvalidArgument("tensor.data: missing; give little-endian bytes in base64", field="tensor.data")
    raw = options.from_base64(data, "tensor.data")
    return Tensor(dtype=dtype, shape=shape, data=raw).SerializeToString()


def _options(value: object) -> bytes | str | Mapping[str, Any] | None:
    if value is None or isinstance(value, (str, dict)):
        return value
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    raise InvalidArgument(f"options: a JSON {_kind(value)} is not an object", field="options")


def _kind(value: object) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "list", dict: "object"}
    return names.get(type(value), type(value).__name__)
