"""One real TorchServe for all end-to-end tests of the explain service."""

from __future__ import annotations

import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from ouzel import serving
from ouzel.serving import Ports, RunningServing, ServingOptions
from ouzel_protos.torchserve import PREDICTIONS
from ouzel_protos.torchserve.inference_pb2 import PredictionResponse, PredictionsRequest
from ouzel_protos.v1 import explain_pb2 as pb
from support.command import ouzel
from support.ports import service_ports

MODEL = "efficientnet-lite0"


@dataclass
class Wire:
    """Calls as bytes, past the client, to see what is really answered."""

    running: RunningServing

    def __post_init__(self) -> None:
        self._channel = grpc.insecure_channel(
            self.running.grpc, options=[("grpc.max_receive_message_length", 64 << 20)]
        )
        self._predict = self._channel.unary_unary(
            PREDICTIONS,
            request_serializer=PredictionsRequest.SerializeToString,
            response_deserializer=PredictionResponse.FromString,
        )

    def future(self, model: str = MODEL, **parts: bytes) -> Any:
        metadata = (("authorization", f"Bearer {self.running.inference_token}"),)
        request = PredictionsRequest(model_name=model, input=parts)
        return self._predict.future(request, metadata=metadata, timeout=120)

    def grpc(self, model: str = MODEL, **parts: bytes) -> pb.Explanation:
        return pb.Explanation.FromString(self.future(model, **parts).result().prediction)

    def rest(
        self, body: bytes, options: object = None, accept: str = "", path: str = f"/predictions/{MODEL}"
    ) -> tuple[int, str, bytes]:
        """(status, content type, body)."""
        headers = {"Authorization": f"Bearer {self.running.inference_token}", "Content-Type": "image/png"}
        if options is not None:
            headers["X-Ouzel-Options"] = json.dumps(options)
        if accept:
            headers["Accept"] = accept
        request = urllib.request.Request(self.running.rest + path, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers["Content-Type"], error.read()

    def close(self) -> None:
        self._channel.close()


@pytest.fixture(scope="session")
def running(lite0_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServing]:
    options = ServingOptions(
        store=lite0_store,
        state=tmp_path_factory.mktemp("state"),
        ports=Ports.free(),
        workers=1,
        max_batch_delay_ms=100,  # so that concurrent calls really meet in one batch
    )
    with serving.start(options) as services:
        yield services


@pytest.fixture(scope="session")
def environment(lite0_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Of commands that use `ouzel up` with a model store of its own, for all tests of whole ways through it.

    Each has models and jobs of its own.
    """
    folder = tmp_path_factory.mktemp("whole")
    ports = service_ports()
    (folder / "store").mkdir()
    shutil.copy(lite0_store / f"{MODEL}.mar", folder / "store")
    own = {
        "OUZEL_STATE": str(folder / "state"),
        "OUZEL_MODEL_STORE": str(folder / "store"),
        "OUZEL_WORKER_CHECKPOINT": "0.5",
    }
    variables = os.environ | ports | own
    ouzel(variables, "up", "--detach")
    yield variables
    ouzel(variables, "down")


@pytest.fixture(scope="session")
def wire(running: RunningServing) -> Iterator[Wire]:
    wire = Wire(running)
    yield wire
    wire.close()
