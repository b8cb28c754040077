"""The specification of an audit of a data set, from the arguments of a call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ouzel_client._codec import jobs as wire
from ouzel_client._codec.message import made, put, put_time
from ouzel_client._types.audit_job import RecordedPrediction
from ouzel_client.errors import InvalidArgument
from ouzel_protos.v1 import job_pb2 as pb
from ouzel_protos.v1.audit_pb2 import AuditContact


def audit(dataset: Any, arguments: Mapping[str, Any]) -> pb.JobSpec:
    """The specification.

    Args:
        dataset: A data set, or its id.
        arguments: The arguments of the call; None where an argument was not given.

    Raises:
        InvalidArgument: It names the argument.
    """
    given = {name: value for name, value in arguments.items() if value is not None and value != ""}
    if given.get("model") and given.get("endpoint"):
        raise InvalidArgument("endpoint: name a model or an endpoint, not both", field="endpoint")
    if given.get("recorded") is not None and not len(given["recorded"]):
        raise InvalidArgument("recorded: is empty; leave it out to audit the labels", field="recorded")
    if not isinstance(given.get("parameters", {}), Mapping):
        raise InvalidArgument(f"parameters: {given['parameters']!r:.80} is not a mapping", field="parameters")
    contact = {name: given.pop(name) for name in ("organisation", "contact") if name in given}
    spec = made(
        pb.AuditSpec,
        dataset=getattr(dataset, "id", dataset),
        recorded=_recorded(given.pop("recorded", ())),
        parameters=wire.parameters(given.pop("parameters", {}), flags=True),
        contact=made(AuditContact, **contact),
    )
    for field, value in given.items():
        if field in ("scenes", "fills") and isinstance(value, str):
            raise InvalidArgument(f"{field}: {value!r:.80} is a text; give a list of them", field=field)
        put(spec, field, value, field)
    return pb.JobSpec(audit=spec)


def _recorded(rows: Iterable[RecordedPrediction]) -> list[pb.RecordedPrediction]:
    made_rows = []
    for number, row in enumerate(rows):
        field = f"recorded[{number}]"
        if not isinstance(row, RecordedPrediction):
            raise InvalidArgument(f"{field}: {row!r:.80} is not a RecordedPrediction", field=field)
        message = pb.RecordedPrediction()
        for name in ("path", "label", "service"):
            put(message, name, getattr(row, name), f"{field}.{name}")
        if row.time is not None:
            put_time(message, row.time, f"{field}.time")
        made_rows.append(message)
    return made_rows
