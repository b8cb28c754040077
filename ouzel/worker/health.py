"""`python -m ouzel.worker.health`: exit status 0 if the worker of this state folder serves, for container engines."""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ouzel_protos.local import read_worker

_SECONDS = 5.0


def main() -> int:
    """Prints why the worker does not serve, if it does not; returns the exit status."""
    record = read_worker()
    if record is None:
        sys.stderr.write("no worker is recorded\n")
        return 1
    port = record["grpc"].rpartition(":")[2]
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_SECONDS)
        except grpc.RpcError as error:
            sys.stderr.write(f"{error.code().name}\n")
            return 1
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1


if __name__ == "__main__":
    sys.exit(main())
