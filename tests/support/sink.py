"""Events as KServe's payload logger sends them, a worker that is a fake, and a real sink in a process of its own.

The shape of the events is that of KServe's documentation and of its logger: binary mode, one event per half, both with
the id and the content type of the request.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from PIL import Image

from ouzel_protos.v1 import audit_pb2 as pb
from ouzel_protos.v1.audit_pb2_grpc import AuditServiceServicer, add_AuditServiceServicer_to_server

LABELS = ("goat", "sheep", "cow")
REQUEST, RESPONSE = "org.kubeflow.serving.inference.request", "org.kubeflow.serving.inference.response"
TOKEN = "a-token-of-the-fake-worker"


def png(edge: int = 16, seed: int = 0) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (edge, edge, 3), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


IMAGE = png()


def headers(kind: str, identity: str, **more: str) -> dict[str, str]:
    """Of an event in binary mode."""
    return {
        "Ce-Specversion": "1.0",
        "Ce-Id": identity,
        "Ce-Source": "http://localhost:9081/",
        "Ce-Type": kind,
        "Ce-Time": "2026-11-27T08:00:00.123456789Z",
        "Ce-Inferenceservicename": "farm",
        "Ce-Namespace": "default",
        "Ce-Component": "predictor",
        "Ce-Endpoint": "default",
        "Ce-Metadata": "{}",
        "Content-Type": "application/json",
        **more,
    }


def request_body(image: bytes = IMAGE, boxes: Any = ((4, 4, 12, 12),), **more: Any) -> bytes:
    """Of KServe's protocol, version 1."""
    parameters = {"parameters": {"boxes": boxes}} if boxes else {}
    return json.dumps(
        {"instances": [{"image": {"b64": base64.b64encode(image).decode()}}], **parameters, **more}
    ).encode()


def response_body(scores: Any = (0.9, 0.06, 0.04)) -> bytes:
    return json.dumps({"predictions": [list(scores)]}).encode()


ENDPOINTS = f"""
[farm]
kind = "http-json"
url = "http://farm.invalid/v1/models/farm:predict"
labels = {list(LABELS)!r}
size = "image"
[farm.input]
image = "json"
path = "instances[0].image.b64"
[farm.output]
form = "array"
path = "predictions[0]"
scores = "probabilities"
"""

SERVICE = """
[services.farm]
match = { inferenceservicename = "farm", namespace = "default" }
audit = { endpoint = "farm" }
boxes = "parameters.boxes"
"""


def write(folder: Path, service: str = "rate = 1.0", sink: str = "", endpoints: str = ENDPOINTS) -> Path:
    """A sink file with one service, and its file of endpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "endpoints.toml").write_text(endpoints)
    own = f'[sink]\nendpoints = "endpoints.toml"\n{sink}\n'
    (folder / "sink.toml").write_text(own + SERVICE + service + "\n")
    return folder / "sink.toml"


def answer(
    request: pb.AuditPredictionRequest, *, agrees: bool = True, background: bool = False, control: bool = False
) -> pb.PredictionAudit:
    """What a worker that found this would say."""
    claimed = request.claimed.label.removeprefix("label:")
    other = next(each for each in LABELS if each != claimed)
    verdict = pb.DISAGREES if not agrees else pb.RESTS_ON_BACKGROUND if background else pb.RESTS_ON_OBJECT

    def outcomes(change: str, kind: str, flipped: bool) -> list[pb.Counterfactual]:
        return [
            pb.Counterfactual(
                name=f"{change}/{n}", change=change, kind=kind, flipped=flipped, predicted=other if flipped else claimed
            )
            for n in range(3)
        ]

    return pb.PredictionAudit(
        verdict=verdict,
        reason="by the fake worker",
        concern=verdict != pb.RESTS_ON_OBJECT,
        source=pb.AuditSource(kind=pb.AuditSource.ENDPOINT, name=request.endpoint or request.model, version="1"),
        agreement=pb.Agreement(
            claimed=pb.AuditScore(label=claimed, probability=0.9 if agrees else 0.1),
            predicted=pb.AuditScore(label=claimed if agrees else other, probability=0.9),
            rank=0 if agrees else 1,
        ),
        counterfactuals=[
            *outcomes("background", "texture", background),
            *outcomes("rearranged", "", control),
            *outcomes("object", "texture", not background),
            *outcomes("elsewhere", "texture", False),
        ],
        mask_source="boxes" if request.boxes else "mask" if request.mask_file else "nominated",
        object_share=0.25,
        record=b"{}",
        record_sha256="0" * 64,
    )


Behaviour = Callable[[pb.AuditPredictionRequest], pb.PredictionAudit]


class FakeWorker(AuditServiceServicer):
    """A fake: a gRPC service in this process whose audits say what a test plants. `delay` makes it slow."""

    def __init__(self, behaviour: Behaviour = answer, delay: float = 0.0) -> None:
        self.behaviour, self.delay = behaviour, delay
        self.asked: list[pb.AuditPredictionRequest] = []
        self._executor = ThreadPoolExecutor(4)
        self._server: grpc.Server | None = None
        self.port = 0

    def start(self) -> None:
        """At the same port as before, if there was one."""
        self._server = grpc.server(self._executor, options=[("grpc.so_reuseport", 0)])
        add_AuditServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        assert self.port
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(0).wait()
            self._server = None

    def AuditPrediction(  # noqa: N802
        self, request: pb.AuditPredictionRequest, context: grpc.ServicerContext
    ) -> pb.PredictionAudit:
        if ("authorization", f"Bearer {TOKEN}") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
        self.asked.append(request)
        time.sleep(self.delay)
        try:
            return self.behaviour(request)
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise

    def ListAuditSources(  # noqa: N802
        self, request: pb.ListAuditSourcesRequest, context: grpc.ServicerContext
    ) -> pb.ListAuditSourcesResponse:
        return pb.ListAuditSourcesResponse()


@contextmanager
def fake_worker(behaviour: Behaviour = answer, delay: float = 0.0) -> Iterator[FakeWorker]:
    made = FakeWorker(behaviour, delay)
    made.start()
    try:
        yield made
    finally:
        made.stop()


class Sender:
    """Sends events over one connection with as little work as possible, so that the sink is what is measured."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @staticmethod
    def message(kind: str, identity: str, body: bytes) -> bytes:
        """An event in binary mode, as bytes."""
        lines = [f"{name}: {value}" for name, value in headers(kind, identity).items()]
        head = "\r\n".join(["POST / HTTP/1.1", "Host: sink", f"Content-Length: {len(body)}", *lines, "", ""])
        return head.encode("ascii") + body

    def send(self, message: bytes) -> None:
        """Returns once it is acknowledged. Raises OSError if the connection is lost, and AssertionError if refused."""
        self._socket.sendall(message)
        got = b""
        while not got.endswith(b"\r\n\r\n"):  # an acknowledgement has no body
            more = self._socket.recv(4096)
            if not more:
                raise ConnectionResetError
            got += more
            assert got.startswith(b"HTTP/1.1 202 "[: len(got)]), got

    def close(self) -> None:
        self._socket.close()


@dataclass
class Sink:
    """A real `ouzel audit sink` of its own process."""

    process: subprocess.Popen[str]
    port: int
    log: Path
    local: threading.local = field(default_factory=threading.local)

    def connection(self) -> http.client.HTTPConnection:
        """Of this thread."""
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        made: http.client.HTTPConnection = self.local.connection
        return made

    def post(self, sent: Mapping[str, str], body: bytes, path: str = "/") -> tuple[int, str]:
        return self.ask("POST", path, body, sent)

    def ask(
        self, method: str, path: str, body: bytes | None = None, sent: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Status and text. A connection that the sink has closed is opened again."""
        for attempt in (1, 2):
            connection = self.connection()
            try:
                connection.request(method, path, body, dict(sent or {}))
                found = connection.getresponse()
                return found.status, found.read().decode()
            except (http.client.HTTPException, OSError):
                connection.close()
                if attempt == 2:
                    raise
        raise AssertionError

    def pair(self, identity: str, *, request: bytes | None = None, response: bytes | None = None, **more: str) -> None:
        """Both halves."""
        for kind, body in ((REQUEST, request or request_body()), (RESPONSE, response or response_body())):
            status, words = self.post(headers(kind, identity, **more), body)
            assert status == 202, words

    def status(self) -> dict[str, Any]:
        status, text = self.ask("GET", "/status")
        assert status == 200, text
        found: dict[str, Any] = json.loads(text)
        assert found["adds_up"], found
        return found

    def wait(self, holds: Callable[[dict[str, Any]], bool], seconds: float = 60.0) -> dict[str, Any]:
        """The first status for which it holds."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.status()
            if holds(found):
                return found
            assert time.monotonic() < deadline, (found, self.log.read_text()[-3000:])
            time.sleep(0.05)

    def stop(self, kill: bool = False) -> int:
        self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        self.process.communicate(timeout=60)
        return self.process.returncode


@contextmanager
def sink(file: Path, worker: FakeWorker | None = None, *options: str) -> Iterator[Sink]:
    """The state is beside the file. Another one with the same file goes on where an earlier one has ended."""
    text = file.read_text()
    if worker is not None and "worker =" not in text:
        own = f'[sink]\nworker = "127.0.0.1:{worker.port}"\nworker_token = "{TOKEN}"'
        file.write_text(text.replace("[sink]", own, 1))
    command = [sys.executable, "-m", "ouzel.cli.sink", str(file), "--port", "0", "--state", str(file.parent / "state")]
    log = file.parent / "sink.log"
    with log.open("a") as errors:
        process = subprocess.Popen(
            [*command, *options],
            env={**os.environ, "OUZEL_STATE": str(file.parent / "nowhere")},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert "accepted at" in line, log.read_text()[-2000:]
        yield Sink(process, int(line.partition("127.0.0.1:")[2].partition(".")[0]), log)
    finally:
        with suppress(ProcessLookupError):
            if process.poll() is None:
                process.kill()
        process.communicate()
