"""Models that a caller may not see, in every request that can name one."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from ouzel.errors import InvalidArgument, NotFound, OuzelError, PermissionDenied
from ouzel.gateway.access.caller import ROLES, Caller, TenantLimits
from ouzel.gateway.worker import fields
from ouzel.gateway.worker.methods import METHODS, Method
from ouzel.gateway.worker.visible import check_request
from ouzel_protos.v1 import job_pb2

SOME = Caller("ann", "ann", frozenset(ROLES), ("t*",), TenantLimits())
ALL = Caller("bob", "bob", frozenset(ROLES), ("*",), TenantLimits())


def texts(kind: Descriptor, seen: frozenset[str] = frozenset()) -> list[tuple[FieldDescriptor, ...]]:
    """The ways to all fields of text below a message, keys and values of maps left out: callers invent these."""
    found: list[tuple[FieldDescriptor, ...]] = []
    for field in kind.fields:
        inner = field.message_type
        if field.type == FieldDescriptor.TYPE_STRING:
            found.append((field,))
        elif inner is not None and inner.full_name not in seen:
            if inner.GetOptions().map_entry:
                value = inner.fields_by_name["value"]
                if value.message_type is not None:
                    found += [(field, *way) for way in texts(value.message_type, seen | {inner.full_name})]
            else:
                found += [(field, *way) for way in texts(inner, seen | {inner.full_name})]
    return found


def filled(message: Message, way: tuple[FieldDescriptor, ...], text: str) -> None:
    field, *rest = way
    value = getattr(message, field.name)
    if not rest and field.is_repeated:
        value.append(text)
    elif not rest:
        setattr(message, field.name, text)
    elif field.message_type.GetOptions().map_entry:
        filled(value["key"], tuple(rest), text)
    else:
        filled(value.add() if field.is_repeated else value, tuple(rest), text)


WAYS = [
    pytest.param(method, way, id=f"{method.name}:{'.'.join(each.name for each in way)}")
    for method in METHODS.values()
    for way in texts(method.request.DESCRIPTOR)
]


@pytest.mark.parametrize(("method", "way"), WAYS)
def test_it_is_known_of_every_text_whether_it_names_a_model(method: Method, way: tuple[FieldDescriptor, ...]) -> None:
    kind, name = way[-1].containing_type.name, way[-1].name
    assert (name in fields.MODELS.get(kind, ())) != (name in fields.OTHERS.get(kind, ())), (
        f"say in ouzel/gateway/worker/fields.py whether {kind}.{name} names a model"
    )
    refused = {}
    for text in ("toy@2", "other"):
        message = method.request()
        filled(message, way, text)
        try:
            check_request(method, message.SerializeToString(), SOME)
        except OuzelError as error:
            refused[text] = type(error)
        check_request(method, message.SerializeToString(), ALL)
    assert refused == ({"other": NotFound} if name in fields.MODELS.get(kind, ()) else {})


def test_what_nobody_has_said_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    method = METHODS["/ouzel.v1.JobService/GetJob"]
    asked = job_pb2.GetJobRequest(id="j").SerializeToString()
    check_request(method, asked, SOME)
    monkeypatch.setitem(fields.OTHERS, "GetJobRequest", frozenset())  # type: ignore[arg-type]
    with pytest.raises(PermissionDenied, match="id: is not for callers"):
        check_request(method, asked, SOME)


def test_fields_that_only_a_newer_worker_knows_are_refused() -> None:
    method = METHODS["/ouzel.v1.JobService/CreateJob"]
    spec = job_pb2.JobSpec(maximize=job_pb2.MaximizeSpec(model="toy"))
    request = job_pb2.CreateJobRequest(spec=spec)
    unknown = b"\xfa\x3e\x05other"  # field 1007: a text
    check_request(method, request.SerializeToString(), SOME)
    request.spec.maximize.MergeFromString(unknown)
    with pytest.raises(InvalidArgument, match="MaximizeSpec: has fields that are not known here"):
        check_request(method, request.SerializeToString(), SOME)
    check_request(method, request.SerializeToString(), ALL)
