"""Asking each part whether it serves, with a short time-out. Every function returns "" if it does, else why not."""

from __future__ import annotations

from ouzel.serving.options import HOST
from ouzel.torchserve import rest
from ouzel_protos.local import Serving, token

ANSWERED = "answered"  # begins the reason where there was an answer, which is an error

_HEALTH = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}: two bytes need no generated code
_PING = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Ping"
_OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]


def torchserve(serving: Serving, timeout: float) -> str:
    """TorchServe over REST and gRPC. Whatever it answers shows that it lives: of models it knows more by itself."""
    try:
        key = token(serving["key_file"], "inference")
    except (OSError, ValueError) as error:
        return f"its tokens cannot be read: {error}"
    try:
        rest.call("GET", f"{serving['rest']}/ping", key, timeout=timeout)
    except rest.Unreachable as error:
        return f"no answer over REST: {_cause(error)}"
    answer = _ask(serving["grpc"], _PING, key, timeout)
    return f"no answer over gRPC: {answer}" if isinstance(answer, str) else ""


def model(serving: Serving, name: str, version: str, timeout: float) -> str:
    """A version of a model, by a request that costs next to nothing but goes all the way to its process."""
    try:
        key = token(serving["key_file"], "inference")
        status, message = rest.probe(serving["rest"], key, f"{name}/{version}", timeout)
    except rest.Unreachable as error:
        return f"no answer: {_cause(error)}"
    except (OSError, ValueError) as error:
        return f"no answer: {error}"
    return "" if status == 200 else f"{ANSWERED} {status}: {message}"


def worker(address: str, timeout: float) -> str:
    """The worker of jobs, by gRPC's standard health service. address: "host:port"."""
    answer = _ask(f"{HOST}:{address.rpartition(':')[2]}" if _is_any(address) else address, _HEALTH, "", timeout)
    if isinstance(answer, str):
        return f"no answer: {answer}"
    return "" if answer == _SERVING else "it takes no jobs: it is about to stop"


def gateway(socket: str, timeout: float) -> str:
    """The gateway, by the same service at a socket of the file system: its ports may ask for certificates."""
    answer = _ask(f"unix:{socket}", _HEALTH, "", timeout)
    if isinstance(answer, str):
        return f"no answer: {answer}"
    return "" if answer == _SERVING else "it takes no calls: it is about to stop"


def _ask(target: str, method: str, key: str, timeout: float) -> bytes | str:
    """Makes one call with an empty message.

    Returns:
        The answer's bytes, empty if the service reports an error. Without an answer, a text that says why.
    """
    import grpc

    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    with grpc.insecure_channel(target, _OPTIONS) as channel:
        call = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
        try:
            return call(b"", timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return f"none within {timeout:g} s"
            return "connection refused" if error.code() is grpc.StatusCode.UNAVAILABLE else b""


def _is_any(address: str) -> bool:
    return address.rpartition(":")[0] in ("0.0.0.0", "[::]")


def _cause(error: rest.Unreachable) -> str:
    return str(error.__cause__ or error)
