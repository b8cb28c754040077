"""Messages of protobuf that strangers sent, within bounds that are looked at before a single object is made.

Two bytes are an empty message within a message, for which protobuf takes a hundred, and Python some more when it looks
at it. So the fields are counted on the wire first: what is not looked into, texts, bytes and packed floats, is skipped.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from ouzel.errors import InvalidArgument

MOST = 10_000  # elements of a message that nobody has said more of
M = TypeVar("M", bound=Message)
_Plan: TypeAlias = "dict[int, Descriptor]"
_VARINT, _FIXED64, _BYTES, _GROUP, _END, _FIXED32 = range(6)
_PACKED = {  # whose elements take a byte or more; others take four or eight, and are as many as the bytes allow
    FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT32,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_SINT32,
    FieldDescriptor.TYPE_SINT64,
    FieldDescriptor.TYPE_BOOL,
    FieldDescriptor.TYPE_ENUM,
}
_DEEPEST = 100  # that protobuf reads


def parsed(kind: type[M], content: bytes, most: int = MOST, *, where: str = "request") -> M:
    """The message.

    Args:
        kind: Its type.
        content: Of a stranger.
        most: Elements that it may have, see `elements`.
        where: What it is, in messages.

    Raises:
        InvalidArgument: It is none, or has too many elements.
    """
    check_elements(kind, content, most, where=where)
    try:
        return kind.FromString(content)
    except DecodeError:
        raise InvalidArgument(
            f"{where}: {len(content)} bytes are no message of the type {kind.DESCRIPTOR.name}", field=where
        ) from None


def check_elements(kind: type[Message], content: bytes, most: int, *, where: str = "request") -> None:
    """Refuses a message with more than so many elements. Raises InvalidArgument."""
    if elements(kind, content, most) > most:
        raise InvalidArgument(
            f"{where}: has more than {most} fields and elements of lists, the most of a {kind.DESCRIPTOR.name}",
            field=where,
        )


def elements(kind: type[Message], content: bytes, most: int) -> int:
    """How many fields a message has, those of the messages in it included, and elements of packed integers.

    Args:
        kind: Its type.
        content: The message; of what is none, the fields before the fault count.
        most: Where counting may end.
    """
    if len(content) <= most:  # a field takes two bytes, a packed integer one
        return 0
    return _Counter(content, most).within(kind.DESCRIPTOR, 0, len(content), 0)


class _Counter:
    def __init__(self, content: bytes, most: int) -> None:
        self._content, self._most, self._count = content, most, 0

    def within(self, kind: Any, place: int, end: int, depth: int) -> int:
        """Counts what is in a message there, and gives the count so far."""
        content, plan, packed = self._content, *_plans(kind)
        try:
            while place < end and self._count <= self._most:
                self._count += 1
                tag = content[place]
                place += 1
                if tag >= 0x80:
                    tag, place = _varint(content, place - 1)
                wire = tag & 7
                if wire == _BYTES:
                    size = content[place]
                    place += 1
                    if size >= 0x80:
                        size, place = _varint(content, place - 1)
                    number = tag >> 3
                    if size and number in plan:
                        if depth < _DEEPEST:
                            self.within(plan[number], place, min(place + size, end), depth + 1)
                    elif number in packed:
                        self._count += size
                    place += size
                elif wire == _VARINT:
                    while content[place] >= 0x80:
                        place += 1
                    place += 1
                elif wire in (_FIXED64, _FIXED32):
                    place += 8 if wire == _FIXED64 else 4
                elif wire not in (_GROUP, _END):  # groups are unknown fields, whose fields follow
                    break
        except IndexError:  # it ends within a field: protobuf says so
            pass
        return self._count


@lru_cache(maxsize=1024)
def _plans(kind: Descriptor) -> tuple[_Plan, frozenset[int]]:
    """Types of the messages in a message, and which of its fields are lists of integers; by the numbers of fields."""
    plan = {field.number: field.message_type for field in kind.fields if field.message_type is not None}
    packed = (field.number for field in kind.fields if field.is_repeated and field.type in _PACKED)
    return plan, frozenset(packed)


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80 or shift > 63:
            return value, place
        shift += 7
