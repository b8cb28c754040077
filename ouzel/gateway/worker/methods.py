"""The worker's methods and those of the log, by their paths, from the descriptors of their services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from ouzel_protos.v1 import audit_pb2, dataset_pb2, job_pb2, ledger_pb2, model_pb2

# Which role a service needs. What changes models for everybody is the administrator's: the worker itself lets callers
# change no models but their own.
_ROLES = {
    "JobService": "jobs",
    "DatasetService": "jobs",
    "ModelService": "jobs",
    "AuditService": "audit",
    "LedgerService": "audit",
}


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        path: "/package.Service/Method".
        service: Its name without the package.
        name: Its own.
        role: That callers need.
        streams_requests: Whether many messages are sent.
        streams_answers: Whether many messages are answered.
        request: Type of what is sent.
        answer: Type of what is answered.
    """

    path: str
    service: str
    name: str
    role: str
    streams_requests: bool
    streams_answers: bool
    request: type[Message]
    answer: type[Message]

    @property
    def converses(self) -> bool:
        """Whether many messages go in both directions."""
        return self.streams_requests and self.streams_answers


def _method(described: MethodDescriptor) -> Method:
    service = described.containing_service
    return Method(
        path=f"/{service.full_name}/{described.name}",
        service=service.name,
        name=described.name,
        role=_ROLES[service.name],
        streams_requests=described.client_streaming,
        streams_answers=described.server_streaming,
        request=_class(described.input_type),
        answer=_class(described.output_type),
    )


def _class(descriptor: Descriptor) -> Any:
    return GetMessageClass(descriptor)


def _methods(*files: Any) -> Mapping[str, Method]:
    services = (service for file in files for service in file.DESCRIPTOR.services_by_name.values())
    return {made.path: made for service in services for made in map(_method, service.methods)}


METHODS = _methods(job_pb2, dataset_pb2, model_pb2, audit_pb2)  # of the worker
LEDGER = _methods(ledger_pb2)  # of the gateway itself
SERVICES = tuple(dict.fromkeys(path[1:].partition("/")[0] for path in METHODS))
