"""Which models callers may name in requests to the worker, where they may not see all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from ouzel.bounded_messages import parsed
from ouzel.errors import InvalidArgument, PermissionDenied
from ouzel.gateway.access.caller import Caller, unknown_model
from ouzel.gateway.worker.fields import MODELS, OTHERS
from ouzel.gateway.worker.methods import Method
from ouzel.request_bounds import most_elements
from ouzel_protos.v1 import model_pb2


def sees_all(caller: Caller) -> bool:
    """Whether there is nothing to check."""
    return "*" in caller.models and "*" in caller.tenant_models


def check_request(method: Method, content: bytes, caller: Caller) -> None:
    """Lets a request pass that names no model which the caller may not see, and nothing of which that is not known.

    Raises:
        NotFound: It names such a model.
        InvalidArgument: It is no message of this kind, or has fields that only a newer worker knows.
        PermissionDenied: It has a text of which it is not known what it names.
    """
    if sees_all(caller):
        return
    for name in _named(parsed(method.request, content, most_elements(method.path))):
        if not caller.may_see(name.partition("@")[0]):
            raise unknown_model(name)


def filtered_answer(method: Method, content: bytes, caller: Caller) -> bytes:
    """An answer without models that the caller may not see."""
    if sees_all(caller) or method.answer is not model_pb2.ListModelsResponse:
        return content
    answer = model_pb2.ListModelsResponse.FromString(content)
    kept = [each for each in answer.models if caller.may_see(each.name)]
    return model_pb2.ListModelsResponse(models=kept).SerializeToString()


def _named(message: Message) -> Iterator[str]:
    """The names of models in a message, each time that one is there."""
    if len(UnknownFieldSet(message)):
        raise InvalidArgument(f"{message.DESCRIPTOR.name}: has fields that are not known here")
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in _messages(field, value):
                yield from _named(each)
        elif field.type == FieldDescriptor.TYPE_STRING:
            yield from _texts(field, [value] if isinstance(value, str) else list(value))


def _messages(field: FieldDescriptor, value: Any) -> list[Message]:
    if isinstance(value, Message):
        return [value]
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        values = list(value.values())
        return [each for each in values if isinstance(each, Message)]
    return list(value)


def _texts(field: FieldDescriptor, values: list[str]) -> list[str]:
    """Those that name models. Raises PermissionDenied if nobody has said whether they do."""
    assert field.containing_type is not None
    kind, name = field.containing_type.name, field.name
    if name in MODELS.get(kind, ""):
        return values
    if name not in OTHERS.get(kind, ""):
        raise PermissionDenied(f"{name}: is not for callers who may see some models only", field=name)
    return []
