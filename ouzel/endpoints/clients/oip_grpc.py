"""The Open Inference Protocol over gRPC, with tensors as raw bytes."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
import numpy as np
from google.protobuf.message import Message

from ouzel.endpoints.clients import oip
from ouzel.endpoints.clients.tensors import tensor
from ouzel.endpoints.description.config import Endpoint
from ouzel.endpoints.description.protocols import Oip
from ouzel.endpoints.transport.attempts import Attempts, PassingError
from ouzel.errors import FailedPrecondition, Unavailable
from ouzel_protos.oip import MODEL_INFER, MODEL_METADATA
from ouzel_protos.oip import inference_pb2 as pb

_M = TypeVar("_M", bound=Message)
_TOO_LARGE = "larger than max"  # how gRPC itself says it, under the code by which services say "too many requests"
_Status = grpc.StatusCode
_PASSING = {
    _Status.UNAVAILABLE: "it refuses the connection, or is not available",
    _Status.RESOURCE_EXHAUSTED: "too many requests",
}
_BROKEN = (_Status.INTERNAL, _Status.UNKNOWN, _Status.DATA_LOSS, _Status.ABORTED, _Status.CANCELLED)


class OipGrpcClient:
    """See `ouzel.endpoints.clients.client.Client`.

    Args:
        endpoint: Of this kind.
        how: Its protocol.

    Raises:
        OuzelError: The service does not describe the model, or not as the operator does.
    """

    digest = ""

    def __init__(self, endpoint: Endpoint, how: Oip) -> None:
        self._endpoint = endpoint
        self._how = how
        self._who = endpoint.who
        self._attempts = Attempts(self._who, endpoint.limits)
        self._channel = _channel(endpoint)
        self._describe = self._method(MODEL_METADATA, pb.ModelMetadataResponse)
        self._infer = self._method(MODEL_INFER, pb.ModelInferResponse)
        self.labels = endpoint.labels
        try:
            self._plan = oip.make_plan(endpoint, how, self._metadata())
        except BaseException:
            self._channel.close()
            raise
        self._check = oip.AnswerCheck(endpoint, self._plan)
        self.version, self.batch = self._plan.version, self._plan.batch

    def ask(self, pictures: np.ndarray, stop: threading.Event) -> np.ndarray:
        """See `Client`."""
        values = tensor(pictures, self._how.input)
        request = pb.ModelInferRequest(
            model_name=self._how.model,
            model_version=self._how.version,
            id=uuid.uuid4().hex,  # some servers fail without one
            raw_input_contents=[values.tobytes()],
        )
        request.inputs.add(name=self._plan.input, datatype=self._how.input.datatype, shape=values.shape)
        request.outputs.add(name=self._plan.output)
        answer = self._call(self._infer, request, stop)
        return oip.finished(self._scores(request.id, answer, len(pictures)), self._how, self._who)

    def close(self) -> None:
        """See `Client`."""
        self._channel.close()

    def _scores(self, identity: str, answer: pb.ModelInferResponse, count: int) -> np.ndarray:
        names, classes = [output.name for output in answer.outputs], len(self.labels)
        if self._plan.output not in names:
            raise FailedPrecondition(f"{self._who}: the answer has no output {self._plan.output[:80]!r}")
        index = names.index(self._plan.output)
        output = answer.outputs[index]
        self._check((identity, answer.id), (answer.model_name, answer.model_version), output.shape, count)
        if answer.raw_output_contents:  # then of all outputs
            if len(answer.raw_output_contents) != len(names):
                raise FailedPrecondition(f"{self._who}: the answer does not hold the bytes of each output")
            return oip.from_bytes(answer.raw_output_contents[index], output.datatype, count, classes, self._who)
        contents = {"FP32": output.contents.fp32_contents, "FP64": output.contents.fp64_contents}
        values = np.array(contents.get(output.datatype, ()), np.float64)
        if values.size != count * classes:
            raise FailedPrecondition(
                f"{self._who}: answered {values.size} scores, not {count * classes} of FP32 or FP64"
            )
        return values.reshape(count, classes)

    def _metadata(self) -> oip.Metadata:
        request = pb.ModelMetadataRequest(name=self._how.model, version=self._how.version)
        answer = self._call(self._describe, request, threading.Event())
        inputs, outputs = (
            tuple(oip.TensorSpec(each.name, each.datatype, tuple(each.shape)) for each in specs)
            for specs in (answer.inputs, answer.outputs)
        )
        return oip.Metadata(answer.name, tuple(answer.versions), inputs, outputs)

    def _method(self, path: str, answer: type[_M]) -> Callable[..., _M]:
        return self._channel.unary_unary(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )

    def _call(self, method: Callable[..., _M], request: Message, stop: threading.Event) -> _M:
        try:
            metadata = [(name.lower(), secret.reveal()) for name, secret in self._endpoint.headers]
        except FailedPrecondition as error:
            raise FailedPrecondition(f"{self._who}: headers: {error}") from None

        def attempt(seconds: float) -> _M:
            try:
                return method(request, timeout=seconds, metadata=metadata)
            except grpc.RpcError as error:
                raise self._translated(error) from None

        return self._attempts.run(attempt, stop)

    def _translated(self, error: Any) -> Exception:
        """Details come from the service, or hold its address: they are not passed on."""
        code, who, limits = error.code(), self._who, self._endpoint.limits
        if code is _Status.RESOURCE_EXHAUSTED and _TOO_LARGE in (error.details() or ""):
            most = limits.max_response_bytes
            return FailedPrecondition(f"{who}: answered with more than {most} bytes (max_response_bytes)")
        if problem := _PASSING.get(code):
            return PassingError(Unavailable(f"{who}: answered {code.name}, {problem}"))
        if code is _Status.DEADLINE_EXCEEDED:
            return Unavailable(f"{who}: did not answer within {limits.timeout_s:g} s (timeout_s)")
        if code in _BROKEN:
            return Unavailable(f"{who}: answered {code.name}, an error of the service, or not in this protocol")
        if code in (_Status.UNAUTHENTICATED, _Status.PERMISSION_DENIED):
            problem = "it does not accept the operator's credentials"
        else:
            problem = "it does not take the request, or has no such model"
        return FailedPrecondition(f"{who}: answered {code.name}: {problem}")


def _channel(endpoint: Endpoint) -> grpc.Channel:
    scheme, _, address = endpoint.url.partition("://")
    options = [
        ("grpc.max_receive_message_length", endpoint.limits.max_response_bytes),
        ("grpc.enable_http_proxy", 0),  # whatever the environment says
        ("grpc.enable_retries", 0),  # `Attempts` retries, within its limits
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.use_local_subchannel_pool", 1),  # closing one endpoint's does not touch another's
    ]
    if scheme == "grpc":
        return grpc.insecure_channel(address, options=options)
    try:
        roots = endpoint.ca_file.read_bytes() if endpoint.ca_file is not None else None
    except OSError as error:
        raise FailedPrecondition(f"{endpoint.who}: ca_file: {endpoint.ca_file} ({error.strerror})") from None
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(roots), options=options)
