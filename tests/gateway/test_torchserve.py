"""The engine before a real TorchServe: what it answers, and what becomes of calls whose worker is killed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch
from PIL import Image

from ouzel import models, serving
from ouzel.gateway.engines.torchserve import TorchServeEngine, local
from ouzel.gateway.options import GatewayOptions
from ouzel.gateway.server import Addresses
from ouzel.saliency import Explainer, Saliency
from ouzel.serving import Ports, ServingOptions
from ouzel.torchserve import rest
from ouzel_protos.local import read_serving, token
from support import oip_bytes as wire
from support.gateway import gateway, pictures, png, write_store
from support.metrics import Metrics

pytestmark = pytest.mark.e2e
INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("state")
    options = ServingOptions(
        store=write_store(tmp_path_factory.mktemp("store")), state=folder, ports=Ports.free(), workers=2, threads=1
    )
    with serving.start(options):
        yield folder


@pytest.fixture(scope="module")
def addresses(state: Path) -> Iterator[Addresses]:
    with gateway(lambda: TorchServeEngine(local(state)), GatewayOptions(rest_port=0, grpc_port=0, timeout=60)) as found:
        yield found


def scores(response: bytes) -> np.ndarray:
    return np.frombuffer(wire.of(response, 6)[0], "<f4").reshape(-1, 6)


def test_rows_equal_the_library(addresses: Addresses, state: Path) -> None:
    record = read_serving(state)
    assert record is not None
    model = models.load(Path(record["model_store"]) / "toy.mar")
    shots = pictures(5)
    x = torch.stack([model.preprocessing(Image.fromarray(each)) for each in shots])
    expected = Explainer(model)(x, [Saliency("gradient")])
    message = wire.infer(
        "toy", [wire.tensor("image", "BYTES", (5,))], [wire.elements(*map(png, shots))],
        outputs=[wire.chunk(1, "scores"), wire.chunk(1, "saliency")],
    )  # fmt: skip
    with grpc.insecure_channel(addresses.grpc) as channel:
        response = channel.unary_unary(INFER)(message, timeout=60)
        index = channel.unary_unary("/inference.GRPCInferenceService/RepositoryIndex")(b"")
    assert {wire.of(each, 2)[0] for each in wire.of(index, 1)} == {b"1", b"2"}
    np.testing.assert_allclose(scores(response), expected.logits.softmax(1), atol=1e-5)
    maps = np.frombuffer(wire.of(response, 6)[1], "<f4").reshape(5, 64, 64)
    np.testing.assert_allclose(maps, expected.maps[0].values, atol=1e-5 * float(expected.maps[0].values.max()))


def workers(state: Path) -> list[int]:
    record = read_serving(state)
    assert record is not None
    status, body = rest.call("GET", record["management"] + "/models/toy/1", token(record["key_file"], "management"))
    assert status == 200
    return [int(each["pid"]) for each in json.loads(body)[0]["workers"] if each["status"] == "READY"]


def test_a_killed_worker_costs_no_call(addresses: Addresses, state: Path) -> None:
    """40 calls are in flight when a worker is killed: each is answered rightly, or told UNAVAILABLE at once."""
    shots = pictures(40, seed=1)
    outputs = [wire.chunk(1, "scores"), wire.chunk(1, "saliency")]
    parameters = [wire.parameter("method", "smoothgrad"), wire.parameter("samples", 64)]
    with grpc.insecure_channel(addresses.grpc) as channel:
        ask = channel.unary_unary(INFER)
        plain = wire.infer("toy", [wire.tensor("image", "BYTES", (40,))], [wire.elements(*map(png, shots))])
        expected = scores(ask(plain, timeout=300))
        begun = threading.Semaphore(0)

        def one(number: int) -> tuple[int, object]:
            message = wire.infer(
                "toy", [wire.tensor("image", "BYTES", (1,))], [wire.elements(png(shots[number]))],
                parameters=parameters, outputs=outputs,
            )  # fmt: skip
            future = ask.future(message, timeout=300)
            begun.release()
            try:
                return number, scores(future.result())[0]
            except grpc.RpcError as error:
                return number, error.code()

        with ThreadPoolExecutor(40) as threads:
            calls = [threads.submit(one, number) for number in range(40)]
            for _ in range(40):
                begun.acquire()
            time.sleep(0.2)  # they are in batches, and in the queue
            assert not all(call.done() for call in calls)
            os.kill(workers(state)[0], signal.SIGKILL)
            answers = [call.result() for call in calls]
        answered = 0
        for number, answer in answers:
            if isinstance(answer, np.ndarray):
                np.testing.assert_allclose(answer, expected[number], atol=1e-5)
                answered += 1
            else:
                assert answer is grpc.StatusCode.UNAVAILABLE, answer
        assert answered >= 30, answers  # the other worker takes over what the second attempts bring
        ask(plain, timeout=300)


def test_what_is_computed_for_a_caller_who_leaves_ends(addresses: Addresses, state: Path) -> None:
    """Long before the time that the caller had is over, as the process of the model itself tells."""
    record = read_serving(state)
    assert record is not None

    def ended() -> float:
        return Metrics(f"{record['metrics']}/metrics").value("ouzel_explain_rows_total", Code="DEADLINE_EXCEEDED")

    before = ended()
    message = wire.infer(
        "toy", [wire.tensor("image", "BYTES", (16,))], [wire.elements(*map(png, pictures(16)))],
        parameters=[wire.parameter("method", "rise"), wire.parameter("masks", 2000)],
        outputs=[wire.chunk(1, "saliency")],
    )  # fmt: skip
    with grpc.insecure_channel(addresses.grpc) as channel:
        call = channel.unary_unary(INFER).future(message, timeout=60)
        time.sleep(0.5)  # it is being computed, or on its way
        assert call.cancel()
        deadline = time.monotonic() + 50
        while ended() == before and time.monotonic() < deadline:
            time.sleep(0.1)
    assert ended() > before
