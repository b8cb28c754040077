"""Where the services are and how the channel to them is set up."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ouzel_client.errors import ConfigurationError
from ouzel_protos import local

# Every deadline and limit has a value, so that nothing waits or grows without end.
TIMEOUT = 30.0
MAX_REQUEST_BYTES = 6_553_500  # TorchServe's own default
MAX_RESPONSE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Address:
    """An address with its token.

    Attributes:
        target: "host:port" of gRPC.
        token: The token, or empty.
    """

    target: str
    token: str = ""


def find(target: str | None = None, token: str | None = None) -> Address:
    """Finds the services: the arguments, else OUZEL_GRPC and OUZEL_TOKEN, else what `ouzel up` recorded here.

    That is TorchServe, which is one hop nearer than the gateway; but a pool of models is asked through the gateway.
    The token of local services is sent to their own address only.

    Raises:
        ConfigurationError: No services are found.
    """
    serving, gateway = local.read_serving(), local.read_gateway()
    target = target or os.environ.get("OUZEL_GRPC")
    if not target and gateway and gateway["pool"]:
        if gateway["tls"]:
            raise ConfigurationError(f"the gateway at {gateway['grpc']} speaks TLS: give target, token and credentials")
        target = gateway["grpc"]
    target = target or (serving["grpc"] if serving else None)
    if not target:
        raise ConfigurationError(
            coming("torchserve")
            or "no services are found: start local ones with `ouzel up`, or set OUZEL_GRPC (and OUZEL_TOKEN), "
            "or pass target='host:port'"
        )
    _check_target(target, "target", "127.0.0.1:7070")
    token = token or os.environ.get("OUZEL_TOKEN")
    if not token and serving and serving["grpc"] == target:
        token = _local_token(serving["key_file"])
    return Address(target, token or "")


def restarting(target: str | None, token: str | None, before: Address) -> bool:
    """Whether `before` was that of local services that have no record now: they stopped, or are being restarted."""
    if token or os.environ.get("OUZEL_TOKEN") or not before.token:
        return False
    return target in (None, before.target) and local.read_serving() is None


def find_worker(target: str | None = None, token: str | None = None) -> Address:
    """Finds the worker: the arguments, else OUZEL_WORKER and OUZEL_WORKER_TOKEN, else the worker of this machine.

    The token of a local worker is sent to its own address only.

    Raises:
        ConfigurationError: No worker is found.
    """
    worker = local.read_worker()
    target = target or os.environ.get("OUZEL_WORKER") or (worker["grpc"] if worker else None)
    if not target:
        raise ConfigurationError(
            coming("worker")
            or "no worker is found: start one with `ouzel up` or `ouzel-worker`, or set OUZEL_WORKER (and "
            "OUZEL_WORKER_TOKEN), or pass worker='host:port'"
        )
    _check_target(target, "worker", "127.0.0.1:7090")
    token = token or os.environ.get("OUZEL_WORKER_TOKEN")
    if not token and worker and worker["grpc"] == target:
        try:
            token = Path(worker["token_file"]).read_text(encoding="ascii").strip()
        except OSError as error:
            raise ConfigurationError(f"the token of the local worker cannot be read: {error}") from None
    return Address(target, token or "")


def coming(part: Literal["torchserve", "worker"]) -> str:
    """Why there is no record of a local part at the moment; "" if it is not being started."""
    if (pid := local.supervisor(part)) is None:
        return ""
    return f"{part} is being started again by process {pid}: `ouzel status` shows how far it is"


def has_worker(target: str | None) -> bool:
    """Whether there is somewhere to send jobs."""
    return bool(target or os.environ.get("OUZEL_WORKER") or local.read_worker())


def _check_target(target: str, name: str, example: str) -> None:
    host, separator, port = target.rpartition(":")
    if not separator or not host or not port.isdecimal() or "/" in host:
        raise ConfigurationError(f"{name}: {target!r} is not host:port, e.g. {example}")


def _local_token(key_file: str) -> str:
    try:
        return local.token(key_file, "inference")
    except OSError as error:
        raise ConfigurationError(f"the token of the local services cannot be read: {error}") from None
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def channel_options(target: str, max_response_bytes: int) -> list[tuple[str, int]]:
    """The arguments of a gRPC channel."""
    return [
        ("grpc.max_receive_message_length", max_response_bytes),
        ("grpc.max_send_message_length", -1),  # checked before, with a better message
        ("grpc.enable_retries", 0),  # Retry is the one policy
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.enable_http_proxy", 0 if is_loopback(target) else 1),
        # After a refused connection gRPC answers UNAVAILABLE for a second without trying: longer than our pauses.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 5_000),  # in spite of its name, the time that connecting may take
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # Java servers cut off clients that ping more often than every five minutes.
        ("grpc.keepalive_time_ms", 330_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]


def is_loopback(target: str) -> bool:
    """Whether "host:port" is on this machine."""
    host = target.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
