"""The port of the services, and what callers may do to it."""

from __future__ import annotations

import grpc.aio

from ouzel.errors import FailedPrecondition
from ouzel.worker.api.audit_requests import LARGEST_ANSWER, LARGEST_REQUEST

SETTINGS = [
    ("grpc.so_reuseport", 0),  # else a second server takes the same port, and half of the calls
    ("grpc.max_receive_message_length", LARGEST_REQUEST),  # other services take less, see ReadableInterceptor
    ("grpc.max_send_message_length", LARGEST_ANSWER + 2**20),  # with the pictures of an audit
    ("grpc.max_metadata_size", 16 * 2**10),
    ("grpc.absolute_max_metadata_size", 32 * 2**10),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
]
MOST_CALLS = 2000  # at a time


def bind(server: grpc.aio.Server, host: str, port: int) -> str:
    """Has a server listen.

    Args:
        server: With `SETTINGS`.
        host: Name or address.
        port: 0 takes a free one.

    Returns:
        Its address.

    Raises:
        FailedPrecondition: The port cannot be had.
    """
    shown = f"[{host}]" if ":" in host else host
    try:
        return f"{shown}:{server.add_insecure_port(f'{shown}:{port}')}"
    except RuntimeError as error:
        raise FailedPrecondition(
            f"port {port} of {host} is in use or cannot be used; choose another with --port", field="port"
        ) from error
