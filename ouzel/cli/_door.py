"""Options of `ouzel up` for its gateway. Their environment variables are those of `ouzel-gateway`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ouzel import secret_files
from ouzel.errors import InvalidArgument
from ouzel.serving import front_door
from ouzel.serving.door_options import LOOPBACK, DoorOptions

if TYPE_CHECKING:
    from ouzel.gateway.access.tenants import Tenants

_FILES = {
    "tenants": "tenants.toml: who may call the gateway, and how much. [default: everybody on this machine, everything]",
    "tls_certificate": "The gateway's certificate in PEM, with those between it and its root.",
    "tls_key": "Its private key.",
    "tls_client_ca": "Who may sign certificates of the gateway's clients; then every client must show one.",
    "worker_tokens": "A line TENANT TOKEN for each tenant that may have jobs; the worker knows its owners by them.",
}
DOOR = ("keys", *_FILES)


def door_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them to a command, which gets them by the names in `DOOR`, and `gateway_host`."""
    for name, text in reversed(_FILES.items()):
        command = _option(name, text, type=click.Path(dir_okay=False, path_type=Path))(command)
    command = _option(
        "keys", "Database of API keys: a SQLite file, or postgresql://... [default: keys.db, in the state folder]"
    )(command)
    return click.option(
        "--gateway-host",
        envvar="OUZEL_GATEWAY_HOST",
        show_envvar=True,
        show_default=True,
        default=LOOPBACK,
        help="Address that the gateway listens on. Another one than loopback needs --tenants.",
    )(command)


def check_door(door: DoorOptions) -> None:
    """Reads the files now: the gateway itself would find what is wrong with them when all models are loaded."""
    if not front_door.installed():
        return
    from ouzel.gateway.access.tls import Tls, TlsFiles

    if door.tenants is not None:
        read_tenants(door.tenants)
    if door.worker_tokens is not None:
        secret_files.check(door.worker_tokens, "worker_tokens")
    if door.tls_certificate is not None and door.tls_key is not None:
        Tls(TlsFiles(door.tls_certificate, door.tls_key, door.tls_client_ca))


def read_tenants(path: Path) -> Tenants:
    """The operator's file. Raises InvalidArgument."""
    from ouzel.gateway.access.tenants_file import parse

    try:
        return parse(path.read_bytes(), path)
    except OSError as error:
        raise InvalidArgument(f"tenants: {path} cannot be read ({error.strerror})", field="tenants") from None


def _option(name: str, text: str, **more: Any) -> Callable[..., Any]:
    return click.option(
        f"--{name.replace('_', '-')}", help=text, envvar=f"OUZEL_GATEWAY_{name.upper()}", show_envvar=True, **more
    )
