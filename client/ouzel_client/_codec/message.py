"""Messages of the wire from arguments of callers: what cannot be sent is an InvalidArgument that names the argument."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from google.protobuf.message import Message

from ouzel_client.errors import InvalidArgument

M = TypeVar("M", bound=Message)


def made(kind: type[M], /, **values: Any) -> M:
    """A message with these fields. A whole float is an int where one is meant. Raises InvalidArgument."""
    message = kind()
    for name, value in values.items():
        put(message, name, value)
    return message


def put_time(message: Any, time: Any, argument: str) -> None:
    """Set the field `time`, a Timestamp. Raises InvalidArgument for what is not a time with a time zone."""
    if not isinstance(time, datetime) or time.tzinfo is None:
        raise InvalidArgument(f"{argument}: {time!r:.80} is not a datetime with a time zone", field=argument)
    try:
        message.time.FromDatetime(time)
    except (ValueError, OverflowError):
        raise InvalidArgument(f"{argument}: {time} is not within the years 1..9999 of UTC", field=argument) from None


def put(message: Message, name: str, value: Any, argument: str = "") -> None:
    """Set a field, or add to a repeated one. argument: what callers know it as, if it has another name there."""
    argument = argument or name
    if isinstance(value, float) and value.is_integer() and isinstance(getattr(message, name), int):
        value = int(value)
    try:
        message.MergeFrom(type(message)(**{name: value}))
    except UnicodeError:
        shown = dict(value) if isinstance(value, Mapping) else value
        raise InvalidArgument(f"{argument}: {shown!a:.80} holds what is no text of Unicode", field=argument) from None
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"{argument}: {value!a:.80} cannot be sent ({error})", field=argument) from None
