"""The record by which clients on this machine find the gateway that `ouzel up` keeps up."""

from __future__ import annotations

import ipaddress
import json
import os
import tempfile
from pathlib import Path

import psutil

from ouzel_protos.local import GATEWAY, Gateway

_SOCKET = "gateway.sock"


class Record:
    """A gateway's record in a state folder, which must exist.

    Args:
        state: The state folder.
    """

    def __init__(self, state: Path) -> None:
        self._state, self.health = state, state / _SOCKET

    def write(self, rest: str, grpc: str, *, tls: bool, pool: bool) -> None:
        """Writes it whole, mode 0600, once the gateway serves.

        Args:
            rest: URL of REST, as it listens.
            grpc: "host:port", as it listens.
            tls: Whether both speak TLS.
            pool: Whether models are served through it alone.
        """
        scheme, _, address = rest.partition("://")
        record: Gateway = {
            "pid": os.getpid(),
            "create_time": psutil.Process().create_time(),
            "grpc": _near(grpc),
            "rest": f"{scheme}://{_near(address)}",
            "health": str(self.health),
            "tls": tls,
            "pool": pool,
            "listens": [rest, grpc],
        }
        handle, name = tempfile.mkstemp(prefix="gateway.", dir=self._state)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=2)
        Path(name).replace(self._state / GATEWAY)

    def close(self) -> None:
        """Removes it."""
        (self._state / GATEWAY).unlink(missing_ok=True)
        self.health.unlink(missing_ok=True)


def _near(address: str) -> str:
    """Where this machine's clients reach who listens there: all addresses are none that one can call."""
    host, _, port = address.rpartition(":")
    try:
        given = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return address
    if not given.is_unspecified:
        return address
    return f"127.0.0.1:{port}" if given.version == 4 else f"[::1]:{port}"
