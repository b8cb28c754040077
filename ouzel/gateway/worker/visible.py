"""Which models callers may name in requests to the worker, where they may not see all of them."""

from __future__ import annotations

from google.protobuf.message import Message

from ouzel.gateway.access.caller import Caller, unknown_model
from ouzel.gateway.grpc_calls import parsed
from ouzel.gateway.worker.methods import Method
from ouzel_protos.v1 import audit_pb2, job_pb2, model_pb2

_FIELDS = ("model", "base", "surrogate")
_NAMES = (  # messages whose `name` is a model's
    model_pb2.GetModelRequest.DESCRIPTOR.full_name,
    model_pb2.DeleteModelRequest.DESCRIPTOR.full_name,
    model_pb2.PromoteModelRequest.DESCRIPTOR.full_name,
    model_pb2.ListModelsRequest.DESCRIPTOR.full_name,
    job_pb2.FinetuneSpec.DESCRIPTOR.full_name,
)
_ELSEWHERE = audit_pb2.ReportedPrediction.DESCRIPTOR.full_name  # its `model` is of another service


def sees_all(caller: Caller) -> bool:
    """Whether there is nothing to check."""
    return "*" in caller.models and "*" in caller.tenant_models


def check_request(method: Method, content: bytes, caller: Caller) -> None:
    """Raises NotFound if a request names a model that the caller may not see, InvalidArgument if it is no message."""
    if sees_all(caller):
        return
    for name in _named(parsed(method.request, content)):
        if not caller.may_see(name.partition("@")[0]):
            raise unknown_model(name)


def filtered_answer(method: Method, content: bytes, caller: Caller) -> bytes:
    """An answer without models that the caller may not see."""
    if sees_all(caller) or method.answer is not model_pb2.ListModelsResponse:
        return content
    answer = model_pb2.ListModelsResponse.FromString(content)
    kept = [each for each in answer.models if caller.may_see(each.name)]
    return model_pb2.ListModelsResponse(models=kept).SerializeToString()


def _named(message: Message) -> list[str]:
    kind = message.DESCRIPTOR.full_name
    found: list[str] = []
    for field, value in message.ListFields():
        if isinstance(value, str):
            if (field.name in _FIELDS and kind != _ELSEWHERE) or (field.name == "name" and kind in _NAMES):
                found.append(value)
        elif isinstance(value, Message):
            found += _named(value)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for each in value:
                found += _named(each)
    return found
