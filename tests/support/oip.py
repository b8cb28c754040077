"""A server of the Open Inference Protocol, REST and gRPC, written from its specification. Models are functions."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np

from ouzel_protos.oip import inference_pb2 as pb

TYPES = {"FP32": np.float32, "FP64": np.float64, "FP16": np.float16, "UINT8": np.uint8}
LENGTH = "Inference-Header-Content-Length"


@dataclass
class OipModel:
    """A served model.

    Attributes:
        function: (N, ...) of the input's datatype to (N, K).
        input: (name, datatype, shape) as the metadata tells.
        output: The same of the output.
        changes: Made to what is answered: to the metadata (`metadata`), and to the inference (`answer`).
        raw: Whether gRPC answers with raw bytes.
        asked: Shapes of the inputs that came.
        headers: Of the last request, with lower-case names.
    """

    function: Callable[[np.ndarray], np.ndarray]
    input: tuple[str, str, list[int]] = ("pixels", "FP32", [-1, 3, 64, 64])
    output: tuple[str, str, list[int]] = ("scores", "FP32", [-1, 5])
    name: str = "toy"
    version: str = "3"
    raw: bool = True
    metadata: Callable[[dict[str, Any]], Any] = lambda document: document
    answer: Callable[[dict[str, Any]], Any] = lambda document: document
    asked: list[tuple[int, ...]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def predict(self, values: np.ndarray) -> np.ndarray:
        self.asked.append(values.shape)
        return self.function(values).astype(TYPES[self.output[1]])

    def describe(self) -> dict[str, Any]:
        inputs, outputs = (
            [{"name": name, "datatype": kind, "shape": shape}] for name, kind, shape in (self.input, self.output)
        )
        return self.metadata(
            {"name": self.name, "versions": [self.version], "platform": "", "inputs": inputs, "outputs": outputs}
        )

    def infer(self, body: bytes, length: int | None) -> tuple[bytes, int | None]:
        """(body of the answer, length of its JSON if bytes follow)."""
        request = json.loads(body[:length])
        (given,) = request["inputs"]
        kind = TYPES[given["datatype"]]
        if "data" in given:
            values = np.array(given["data"], kind)
        else:
            start = len(body) if length is None else length
            values = np.frombuffer(body[start : start + given["parameters"]["binary_data_size"]], kind)
        result = self.predict(values.reshape(given["shape"]))
        (wanted,) = request["outputs"]
        output: dict[str, Any] = {"name": wanted["name"], "shape": list(result.shape), "datatype": self.output[1]}
        binary = wanted.get("parameters", {}).get("binary_data", False)
        tail = b""
        if binary:
            tail = result.tobytes()
            output["parameters"] = {"binary_data_size": len(tail)}
        else:
            output["data"] = result.tolist() if result.size % 2 else result.ravel().tolist()  # both are allowed
        outputs = [output]
        if binary:  # a tensor that nobody asked for comes first
            outputs.insert(0, {"name": "x", "shape": [3], "datatype": "UINT8", "parameters": {"binary_data_size": 3}})
            tail = b"abc" + tail
        document = {
            "id": request["id"], "model_name": self.name, "model_version": self.version, "outputs": outputs
        }  # fmt: skip
        head = json.dumps(self.answer(document)).encode()
        return head + tail, len(head) if binary else None


@contextlib.contextmanager
def rest(model: OipModel) -> Iterator[str]:
    """The URL of a server of the model."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(json.dumps(model.describe()).encode(), None)

        def do_POST(self) -> None:
            model.headers = {key.lower(): value for key, value in self.headers.items()}
            length = self.headers.get(LENGTH)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(*model.infer(body, None if length is None else int(length)))

        def _answer(self, body: bytes, length: int | None) -> None:
            known = self.path.removeprefix("/base").startswith(f"/v2/models/{model.name}")
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(body)))
            if length is not None:
                self.send_header(LENGTH, str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with serving(Handler) as url:
        yield url


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The URL of a server with this handler."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def over_grpc(model: OipModel, behaviour: Callable[[grpc.ServicerContext], None] | None = None) -> Iterator[str]:
    """The URL of a gRPC server of the model. behaviour: runs at the start of each inference."""

    def describe(request: pb.ModelMetadataRequest, context: grpc.ServicerContext) -> pb.ModelMetadataResponse:
        if request.name != model.name:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        document = model.describe()
        answer = pb.ModelMetadataResponse(name=document["name"], versions=document["versions"])
        for spec in document["inputs"]:
            answer.inputs.add(**spec)
        for spec in document["outputs"]:
            answer.outputs.add(**spec)
        return answer

    def infer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        model.headers = dict(context.invocation_metadata())
        if behaviour is not None:
            behaviour(context)
        (given,) = request.inputs
        values = np.frombuffer(request.raw_input_contents[0], TYPES[given.datatype]).reshape(given.shape)
        result = model.predict(values)
        document = model.answer({"id": request.id, "model_name": request.model_name, "model_version": model.version})
        answer = pb.ModelInferResponse(**document)
        output = answer.outputs.add(name=request.outputs[0].name, datatype=model.output[1], shape=result.shape)
        if model.raw:
            answer.raw_output_contents.append(result.tobytes())
        else:
            output.contents.fp32_contents.extend(result.ravel().tolist())
        return answer

    methods = {
        "ModelMetadata": grpc.unary_unary_rpc_method_handler(
            describe, pb.ModelMetadataRequest.FromString, pb.ModelMetadataResponse.SerializeToString
        ),
        "ModelInfer": grpc.unary_unary_rpc_method_handler(
            infer, pb.ModelInferRequest.FromString, pb.ModelInferResponse.SerializeToString
        ),
    }
    server = grpc.server(
        futures.ThreadPoolExecutor(4),
        options=[("grpc.max_send_message_length", -1)],
        compression=grpc.Compression.Gzip if model.name == "bomb" else None,
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("inference.GRPCInferenceService", methods)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
