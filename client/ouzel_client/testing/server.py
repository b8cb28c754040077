"""The fake server: gRPC, tokens, failures on demand."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.empty_pb2 import Empty

from ouzel_client.testing import explain
from ouzel_client.testing.audits import FakeAudits
from ouzel_client.testing.datasets import FakeDatasets
from ouzel_client.testing.jobs import FakeJobs
from ouzel_client.testing.models import FakeModels
from ouzel_protos.torchserve import PREDICTIONS
from ouzel_protos.torchserve.inference_pb2 import PredictionResponse, PredictionsRequest
from ouzel_protos.v1 import audit_pb2, dataset_pb2, job_pb2, model_pb2
from ouzel_protos.v1 import explain_pb2 as pb


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as it arrived.

    Attributes:
        model: The name of the model.
        version: The version, or empty for the default version.
        key: "image" or "tensor".
        image: The bytes of a file, or of a serialised Tensor if key is "tensor".
        options: The options of the request as JSON, with the field names of the wire.
        token: The inference token that was sent, or empty.
    """

    model: str
    version: str
    key: str
    image: bytes = field(repr=False)
    options: Mapping[str, Any]
    token: str

    @property
    def request_id(self) -> str:
        """The id of the request."""
        return str(self.options.get("request_id", ""))


@dataclass
class _Failure:
    code: str
    message: str
    in_answer: bool
    times: int


class FakeServer:
    """A server that starts when its context is entered, and stops when it is left.

    Args:
        models: Labels by name of the model, the best class first.
        tasks: By name, "segmentation" or "detection" of models that are no classifiers. A detector's first label is the
            background.
        token: If given, requests without it are refused, as TorchServe refuses them.
        input_size: (height, width) of the maps.

    Attributes:
        target: "host:port" of the server, once it is started.
        requests: The requests for explanations, in the order of their arrival.
        peak: The largest number of explanations that were computed at the same time.
        jobs: Controls the jobs: `steps`, `fail`, `hold`, `cut`, `better`, `grounded`; `jobs.models.labels` are the
            labels of the models that they make.
        datasets: The uploaded data sets: `received`, `files`; `cut` breaks an upload.
        audits: Controls the audits: `verdict`, `endpoints`; `requests` arrived.
    """

    def __init__(
        self,
        models: Mapping[str, Sequence[str]] | None = None,
        *,
        tasks: Mapping[str, str] | None = None,
        token: str | None = None,
        input_size: tuple[int, int] = (8, 8),
    ) -> None:
        self.models = {name: tuple(labels) for name, labels in (models or {"m": ("cat", "dog")}).items()}
        self.token = token
        self.input_size = input_size
        self.requests: list[ReceivedRequest] = []
        self._store = FakeModels(self.models, tasks)
        self.jobs = FakeJobs(self._store)
        self.datasets = FakeDatasets()
        self.audits = FakeAudits(self._store)
        self.peak = 0
        self._active = 0
        self._delay = 0.0
        self._failures: list[_Failure] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._server: grpc.Server | None = None
        self._pool = ThreadPoolExecutor(32, thread_name_prefix="ouzel-fake-server")
        self.target = ""

    def start(self, port: int = 0) -> FakeServer:
        """Listen on 127.0.0.1.

        Args:
            port: The port; 0 takes a free one.
        """
        self._server = grpc.server(self._pool, handlers=[_Handler(self)], options=[("grpc.so_reuseport", 0)])
        self.target = f"127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{port}')}"
        self._server.start()
        return self

    def stop(self) -> None:
        """Stop listening, end what is in flight, and wait for its threads."""
        self._stopped.set()
        if self._server is not None:
            self._server.stop(grace=None).wait()
        self._pool.shutdown()

    def __enter__(self) -> FakeServer:
        return self if self._server else self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def fail_next(self, code: str, times: int = 1, *, message: str = "scripted", in_answer: bool = False) -> None:
        """Fail the next requests.

        Args:
            code: Name of the gRPC status: "UNAVAILABLE" for example.
            times: How many requests fail.
            message: The message of the error.
            in_answer: Whether the error is in the answer, instead of the status of the call.

        Raises:
            ValueError: There is no such status.
        """
        if code not in grpc.StatusCode.__members__:
            raise ValueError(f"code: {code!r} is not one of {', '.join(grpc.StatusCode.__members__)}")
        with self._lock:
            self._failures.append(_Failure(code, message, in_answer, times))

    def slow_down(self, seconds: float) -> None:
        """Delay every answer from now on by this many seconds."""
        self._delay = seconds

    def _answer(self, request: PredictionsRequest, context: grpc.ServicerContext) -> PredictionResponse:
        with self._lock:
            self._active += 1
            self.peak = max(self.peak, self._active)
        try:
            failure = self._record(request, context)
            if self._delay and self._stopped.wait(self._delay):
                context.abort(grpc.StatusCode.UNAVAILABLE, "stopped")
            return PredictionResponse(prediction=self._prediction(request, failure, context).SerializeToString())
        finally:
            with self._lock:
                self._active -= 1

    def _call_worker(self, service: str, name: str, request: Any, context: grpc.ServicerContext) -> Any:
        self._check_job(context)
        return self._fake(service).call(name, request, context)

    def _stream_worker(self, service: str, name: str, request: Any, context: grpc.ServicerContext) -> Any:
        if isinstance(request, Iterator):
            # Read before a failure: gRPC hides the status of a call that ends while its caller still writes.
            request = itertools.chain(list(itertools.islice(request, 1)), request)
        self._check_job(context)
        yield from self._fake(service).stream(name, request, context)

    def _fake(self, service: str) -> Any:
        fakes: dict[str, Any] = {
            "JobService": self.jobs,
            "DatasetService": self.datasets,
            "ModelService": self._store,
            "AuditService": self.audits,
        }
        return fakes[service]

    def _check_job(self, context: grpc.ServicerContext) -> None:
        if self.token is not None and _token(context) != self.token:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token, or one that is not known here")
        failure = self._next_failure()
        if failure is not None:
            context.abort(grpc.StatusCode[failure.code], failure.message)

    def _next_failure(self) -> _Failure | None:
        with self._lock:
            if not self._failures:
                return None
            failure = self._failures[0]
            failure.times -= 1
            if failure.times <= 0:
                self._failures.pop(0)
            return failure

    def _record(self, request: PredictionsRequest, context: grpc.ServicerContext) -> _Failure | None:
        token = _token(context)
        options = pb.ExplainOptions.FromString(request.input["options"])
        key = "tensor" if "tensor" in request.input else "image"
        as_dict = json_format.MessageToDict(options, preserving_proto_field_name=True)
        with self._lock:
            self.requests.append(
                ReceivedRequest(
                    request.model_name, request.model_version, key, bytes(request.input[key]), as_dict, token
                )
            )
        return self._next_failure()

    def _prediction(
        self, request: PredictionsRequest, failure: _Failure | None, context: grpc.ServicerContext
    ) -> pb.Explanation:
        if self.token is not None and _token(context) != self.token:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "Token Authorization failed. Token either incorrect, ...")
        if failure is not None and not failure.in_answer:
            context.abort(grpc.StatusCode[failure.code], failure.message)
        stored = self._store.find(request.model_name, request.model_version)
        if stored is None:
            context.abort(grpc.StatusCode.INTERNAL, f"Model not found: {request.model_name}\nModelNotFoundException")
        version = request.model_version or stored[0].version
        model = explain.FakeModel(request.model_name, version, stored[1], stored[0].task)
        if failure is not None:
            error = pb.Error(code=failure.code, message=failure.message)
            return pb.Explanation(model=model.info(), error=error)
        return model.explain(request.input, self.input_size)


_WORKER = {
    "JobService": job_pb2,
    "DatasetService": dataset_pb2,
    "ModelService": model_pb2,
    "AuditService": audit_pb2,
}


def _token(context: grpc.ServicerContext) -> str:
    metadata = dict(context.invocation_metadata() or ())
    return str(metadata.get("authorization", "")).removeprefix("Bearer ")


class _Handler(grpc.GenericRpcHandler):
    """Routes TorchServe's one method, and those of the worker."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server
        self._method = grpc.unary_unary_rpc_method_handler(
            server._answer,
            request_deserializer=PredictionsRequest.FromString,
            response_serializer=PredictionResponse.SerializeToString,
        )

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        service, _, name = handler_call_details.method.removeprefix("/ouzel.v1.").rpartition("/")
        if service in _WORKER:
            return self._worker_method(service, name)
        return self._method if handler_call_details.method == PREDICTIONS else None

    def _worker_method(self, service: str, name: str) -> Any:
        module = _WORKER[service]
        method = module.DESCRIPTOR.services_by_name[service].methods_by_name.get(name)
        if method is None:
            return None
        server = self._server
        request, answer = (getattr(module, kind.name, Empty) for kind in (method.input_type, method.output_type))
        codec: dict[str, Any] = {
            "request_deserializer": request.FromString,
            "response_serializer": answer.SerializeToString,
        }

        def call(asked: Any, context: grpc.ServicerContext) -> Any:
            return server._call_worker(service, name, asked, context)

        def stream(asked: Any, context: grpc.ServicerContext) -> Any:
            return server._stream_worker(service, name, asked, context)

        if method.server_streaming and method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(stream, **codec)
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(stream, **codec)
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(call, **codec)
        return grpc.unary_unary_rpc_method_handler(call, **codec)
