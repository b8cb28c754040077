"""Messages of the wire from arguments of callers: what cannot be sent is an InvalidArgument that names the argument."""

from __future__ import annotations

from collections.abc import Mapping
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
