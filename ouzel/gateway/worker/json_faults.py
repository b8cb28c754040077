"""What is wrong with JSON that is to be a message of protobuf, in words for callers and with the field at fault."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from ouzel.errors import InvalidArgument
from ouzel_protos.text import is_encodable, shown

_DEEPEST = 50
_FIELD = re.compile(r"Failed to parse (\w+) field: ")
_UNKNOWN = re.compile(r'Message type "([\w.]+)" has no field named "(.*?)" at "')
_KIND = FieldDescriptor
_BITS = {
    _KIND.TYPE_INT32: (-(2**31), 2**31 - 1),
    _KIND.TYPE_SINT32: (-(2**31), 2**31 - 1),
    _KIND.TYPE_UINT32: (0, 2**32 - 1),
    _KIND.TYPE_INT64: (-(2**63), 2**63 - 1),
    _KIND.TYPE_SINT64: (-(2**63), 2**63 - 1),
    _KIND.TYPE_UINT64: (0, 2**64 - 1),
}
_WORDS = {
    _KIND.TYPE_FLOAT: "a number",
    _KIND.TYPE_DOUBLE: "a number",
    _KIND.TYPE_BOOL: "true or false",
    _KIND.TYPE_STRING: "a text",
    _KIND.TYPE_BYTES: "bytes in base64",
}
_KNOWN = {
    "google.protobuf.Duration": 'a number of seconds as a text, such as "3.5s"',
    "google.protobuf.Timestamp": 'a time as RFC 3339 has it, such as "2026-01-31T12:00:00Z"',
}


def serialized(kind: type[Message], content: dict[str, Any], where: str) -> bytes:
    """The message of a JSON object, by protobuf's mapping.

    Args:
        kind: Type of the message.
        content: The object.
        where: What it is, at the beginning of errors.

    Raises:
        InvalidArgument: It is none; names the field.
    """
    try:
        return json_format.ParseDict(content, kind(), max_recursion_depth=_DEEPEST).SerializeToString()
    except Exception as error:  # noqa: BLE001 - protobuf's reader fails with errors of all kinds on hostile JSON
        fault = _fault(kind.DESCRIPTOR, content, str(error))
        name = kind.DESCRIPTOR.name
        raise InvalidArgument(f"{where}: is no {name}: {fault.words}", field=fault.field or "body") from None


class _Fault(NamedTuple):
    words: str
    field: str = ""


def _fault(kind: Any, content: Any, said: str) -> _Fault:
    names = _FIELD.findall(said)
    if (unknown := _UNKNOWN.search(said)) is not None:
        return _unknown(kind, names, unknown.group(1), unknown.group(2))
    path = ".".join(names)
    if (field := _found(kind, names)) is None:
        deep = "nested too deep" in said
        return _Fault(f"it is nested more than {_DEEPEST} deep" if deep else "its members do not fit together", path)
    if "should not have multiple" in said:
        return _Fault(f"{path}: has a member twice, or two that exclude each other", path)
    if "null is not allowed" in said:
        return _Fault(f"{path}: null is no element of a list", path)
    value = _value(content, names)
    value = "" if value is None else f"{shown(repr(value), 40)[1:-1] if is_encodable(repr(value)) else 'a value'} "
    return _Fault(f"{path}: {value}is not {_wanted(field)}", path)


def _unknown(kind: Descriptor, names: list[str], full_name: str, name: str) -> _Fault:
    field = _found(kind, names)
    below = kind if field is None else field.message_type
    if below is None or below.full_name != full_name:  # in a map
        return _Fault(f"{shown(name, 40)} is unknown in {'.'.join(names)}", ".".join(names))
    path = ".".join((*names, name[:40] if is_encodable(name) else ""))
    allowed = ", ".join(each.name for each in below.fields)
    return _Fault(f"{shown(path, 200)[1:-1]}: is unknown; allowed are {allowed}", path if path.isascii() else "")


def _found(kind: Descriptor, names: list[str]) -> FieldDescriptor | None:
    """The field at the end of a path; None if it is not to be found."""
    field = None
    for name in names:
        here: Descriptor | None = kind if field is None else field.message_type
        if here is not None and here.GetOptions().map_entry:
            here = here.fields_by_name["value"].message_type
        field = None if here is None else next((each for each in here.fields if name in _names(each)), None)
        if field is None:
            return None
    return field


def _names(field: FieldDescriptor) -> tuple[str, str]:
    return field.name, field.json_name


def _value(content: Any, names: list[str]) -> Any:
    """The value at the end of a path, if it is in no list and a plain one."""
    for name in names:
        content = content.get(name) if isinstance(content, dict) else None
    return content if isinstance(content, str | int | float) else None


def _wanted(field: FieldDescriptor) -> str:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return "an object whose members have one type each"
    one = _one(field)
    return f"a list, each {one}" if field.is_repeated else one


def _one(field: FieldDescriptor) -> str:
    if field.type in _BITS:
        least, most = _BITS[field.type]
        return f"an integer from {least} to {most}"
    if field.enum_type is not None:
        return f"one of {', '.join(each.name for each in field.enum_type.values)}"
    if field.message_type is not None:
        return _KNOWN.get(field.message_type.full_name, "an object")
    return _WORDS.get(field.type, "what belongs there")
