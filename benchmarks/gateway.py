"""What the front door adds: requests per second and time per request of empty work, over gRPC and REST.

The engine answers at once with an empty envelope, so that all that is measured is the door. Clients run in processes of
their own. `added` is the time of a call through the door less that of a call to a bare server of the same kind in the
same process layout, which answers the same bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.client
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from ouzel.gateway.engine import Description, Row
from ouzel.gateway.options import GatewayOptions
from ouzel.gateway.server import serving
from ouzel_protos.torchserve import PREDICTIONS
from ouzel_protos.torchserve.inference_pb2 import PredictionsRequest
from ouzel_protos.v1 import explain_pb2 as pb
from support import oip_bytes as wire

INFER = "/inference.GRPCInferenceService/ModelInfer"
BARE = "/bare.Service/Answer"
FILE = os.urandom(20_000)  # as large as a photograph of 224 pixels
LABELS = tuple(f"class {number}" for number in range(10))


class NullEngine:
    """Answers with ten scores, and computes nothing."""

    def __init__(self) -> None:
        self._answer = pb.Explanation(model=pb.ModelInfo(name="m", version="1"))
        for number, label in enumerate(LABELS):
            self._answer.scores.add(index=number, label=label, probability=0.1, logit=0.0)

    async def predict(self, model: str, version: str, rows: Sequence[Row], deadline: float) -> list[pb.Explanation]:
        return [self._answer] * len(rows)

    async def describe(self, model: str, version: str) -> Description:
        return Description("m", "1", ("1",), LABELS, (3, 224, 224))

    async def models(self) -> list[Description]:
        return [await self.describe("m", "")]

    async def ready(self) -> bool:
        return True

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass


def serve(pipe: Any, uvloop: bool) -> None:
    """The door, and bare servers, until the pipe is closed."""
    if uvloop:
        import uvloop as loops

        asyncio.set_event_loop_policy(loops.EventLoopPolicy())
    asyncio.run(_serve(pipe))


async def _serve(pipe: Any) -> None:
    bare = grpc.aio.server(options=[("grpc.so_reuseport", 0)])

    async def answer(_request: bytes, _context: object) -> bytes:
        return b"x" * 200

    handler = grpc.method_handlers_generic_handler(
        "bare.Service", {"Answer": grpc.unary_unary_rpc_method_handler(answer)}
    )
    bare.add_generic_rpc_handlers([handler])
    port = bare.add_insecure_port("127.0.0.1:0")
    await bare.start()
    async with serving(GatewayOptions(rest_port=0, grpc_port=0, grace=1), NullEngine()) as at:
        pipe.send((at.rest, at.grpc, f"127.0.0.1:{port}"))
        while True:
            command = await asyncio.to_thread(pipe.recv)
            if command == "cpu":
                pipe.send(time.process_time())
            else:
                break
    await bare.stop(None)


def oip_message() -> bytes:
    return wire.infer("m", [wire.tensor("image", "BYTES", (1,))], [wire.elements(FILE)])


def rpc(target: str, path: str, message: bytes) -> Callable[[], object]:
    channel = grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
    method = channel.unary_unary(path)
    return lambda: method(message, timeout=30)


def rest(url: str, path: str, body: bytes, headers: dict[str, str]) -> Callable[[], object]:
    host, _, port = url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port))

    def call() -> bytes:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        return content

    return call


def ways(rest_url: str, grpc_target: str, bare: str) -> dict[str, Callable[[], Callable[[], object]]]:
    """Makes callers, by name."""
    document = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}]}
    plain = document["inputs"][0] | {"data": [base64.b64encode(FILE).decode()]}
    raw = wire.elements(FILE)
    binary = document["inputs"][0] | {"parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [binary], "parameters": {"binary_data_output": True}}).encode()
    asked = PredictionsRequest(model_name="m", input={"image": FILE}).SerializeToString()
    length = {"Inference-Header-Content-Length": str(len(head))}
    infer = "/v2/models/m/infer"
    return {
        "gRPC, bare server": lambda: rpc(bare, BARE, oip_message()),
        "gRPC, OIP": lambda: rpc(grpc_target, INFER, oip_message()),
        "gRPC, explain": lambda: rpc(grpc_target, PREDICTIONS, asked),
        "REST, OIP, JSON": lambda: rest(rest_url, infer, json.dumps({"inputs": [plain]}).encode(), {}),
        "REST, OIP, binary": lambda: rest(rest_url, infer, head + raw, length),
        "REST, explain": lambda: rest(rest_url, "/v1/models/m/explain", FILE, {"Content-Type": "image/png"}),
    }


def client(addresses: tuple[str, str, str], way: str, seconds: float, pipe: Any) -> None:
    """Calls one after the other; sends how long each took."""
    call = ways(*addresses)[way]()
    for _ in range(20):
        call()
    pipe.send("ready")
    pipe.recv()
    took, end = [], time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        call()
        took.append(time.perf_counter() - start)
    pipe.send(took)


def measure(server: Any, addresses: tuple[str, str, str], way: str, clients: int, seconds: float) -> tuple[float, ...]:
    """(requests per second, median in ms, 99th percentile in ms, milliseconds of processor of the server)."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(clients):
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=client, args=(addresses, way, seconds, theirs)))
        processes[-1].start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    server.send("cpu")
    before = server.recv()
    for pipe in pipes:
        pipe.send("go")
    took = [each for pipe in pipes for each in pipe.recv()]
    server.send("cpu")
    used = server.recv() - before
    for process in processes:
        process.join()
    p50, p99 = np.percentile(took, (50, 99)) * 1e3
    return len(took) / seconds, float(p50), float(p99), used / len(took) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--uvloop", action="store_true")
    chosen = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, chosen.uvloop))
    process.start()
    addresses = ours.recv()
    try:
        for clients in (1, 4):
            print(f"\n{clients} client(s)           requests/s   p50 ms   p99 ms   server's CPU ms")
            found: dict[str, list[tuple[float, ...]]] = {}
            for _ in range(chosen.rounds):  # interleaved: the machine is not always equally fast
                for way in ways(*addresses):
                    found.setdefault(way, []).append(measure(ours, addresses, way, clients, chosen.seconds))
            for way, rows in found.items():
                rate, p50, p99, cpu = (statistics.median(column) for column in zip(*rows, strict=True))
                print(f"{way:22} {rate:10.0f} {p50:9.2f} {p99:8.2f} {cpu:10.2f}")
    finally:
        ours.send("stop")
        process.join(20)


if __name__ == "__main__":
    main()
