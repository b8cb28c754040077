"""Sends one message to one receiver, signed."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import urllib3
from google.protobuf.json_format import MessageToDict

from ouzel.endpoints.transport.watched import Call, Overdue, pools, run
from ouzel.errors import OuzelError
from ouzel.worker.store.job import State
from ouzel.worker.store.notices import Notice
from ouzel.worker.webhooks import signing
from ouzel.worker.webhooks.addresses import Resolve, address, resolved
from ouzel.worker.webhooks.receivers import Receiver
from ouzel_protos.v1 import job_pb2 as pb

_PORTS = {"http": 80, "https": 443}
GONE = "status 410"  # with which a receiver says that it wants no more (Standard Webhooks)


def body_of(notice: Notice) -> bytes:
    """The message, as JSON."""
    event = pb.JobEvent.FromString(notice.event)
    change = event.state_change
    state = State(change.state).name
    data: dict[str, Any] = {
        "id": notice.job,
        "kind": notice.kind,
        "owner": notice.owner,
        "state": state,
        "previous": None if not change.previous else State(change.previous).name,
        "reason": change.reason,
        "attempt": event.attempt,
        "sequence": event.sequence,
        "labels": notice.labels,
    }
    if notice.error:
        error = pb.JobError.FromString(notice.error)
        data["error"] = MessageToDict(error, preserving_proto_field_name=True)
    when = datetime.fromtimestamp(event.time.ToMicroseconds() / 1e6, UTC).isoformat()
    return json.dumps({"type": f"job.{state.lower()}", "timestamp": when, "data": data}, sort_keys=True).encode()


class Sender:
    """Sends messages.

    Args:
        resolve: Finds addresses.
        tls: For https; None trusts what this machine trusts.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        resolve: Resolve = resolved,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._resolve, self._clock = resolve, clock
        self._tls = tls or ssl.create_default_context()

    def send(self, receiver: Receiver, notice: Notice) -> str:
        """Makes one attempt. Redirects are not followed, and no proxy is taken from the environment.

        Args:
            receiver: Who is told.
            notice: Of what.

        Returns:
            What went wrong, without addresses; "" if it was taken.
        """
        body = body_of(notice)
        try:
            secrets = [each.reveal() for each in receiver.secrets]
            headers = signing.headers(secrets, f"{notice.job}-{notice.sequence}", int(self._clock()), body)
            return self._post(receiver, notice.url, headers, body)
        except OuzelError as error:
            return str(error)
        except Overdue:
            return f"no answer within {receiver.timeout_s:g} s"
        except (ValueError, OSError, urllib3.exceptions.HTTPError) as error:
            return f"the connection failed ({type(error).__name__})"

    def _post(self, receiver: Receiver, url: str, headers: dict[str, str], body: bytes) -> str:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        where = address(host, port, private=receiver.private, resolve=self._resolve)
        place = f"[{where}]:{port}" if ":" in where else f"{where}:{port}"
        tls = self._tls if parts.scheme == "https" else None
        manager = pools(1, tls, "", named=host if tls else "")
        headers |= {"Host": parts.netloc, "Content-Type": "application/json", "User-Agent": "ouzel"}
        call = Call("POST", urlunsplit((parts.scheme, place, parts.path, parts.query, "")), body, headers)
        try:
            status = run(manager, call, lambda response: response.status, receiver.timeout_s)
        finally:
            manager.clear()
        return "" if 200 <= status < 300 else f"status {status}"
