"""Whether ports can be had, before somebody is started who needs them."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Collection

from ouzel.errors import FailedPrecondition
from ouzel.serving.options import Ports

FREED = 5.0  # s in which the kernel takes the ports back from a process that was killed


def check(ports: Ports, names: Collection[str], host: str, patience: float) -> None:
    """Raises FailedPrecondition if one is still in use after some time.

    Args:
        ports: All ports.
        names: Those that are needed.
        host: On which address.
        patience: Seconds.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return _try(ports, names, host)
        except FailedPrecondition:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.2)


def _try(ports: Ports, names: Collection[str], host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for name in names:
        port = getattr(ports, name)
        with socket.socket(family) as trial:
            # As the server does, which takes a port whose old connections have not quite ended.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, port))
            except OSError as error:
                trouble = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
                option = name.replace("_", "-")
                raise FailedPrecondition(
                    f"port {port} {trouble}; choose another with --{option}-port or OUZEL_{name.upper()}_PORT",
                    field=f"ports.{name}",
                ) from None
