"""The parts behind the door: batching, shedding, what statuses of TorchServe mean, TLS."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import ipaddress
import json
import math
import ssl
import threading
import time
import tracemalloc
import urllib.error
import urllib.request
import zlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from ouzel.errors import DeadlineExceeded, NotFound, OuzelError, Oversized, ResourceExhausted, TooLarge, Unavailable
from ouzel.gateway.batcher import Batcher
from ouzel.gateway.engine import Row
from ouzel.gateway.engines.in_process import InProcessEngine
from ouzel.gateway.engines.torchserve_calls import Place, TorchServeCalls
from ouzel.gateway.options import GatewayOptions
from ouzel.gateway.rest import bodies
from ouzel.gateway.server import Addresses, serving
from ouzel.gateway.shedding import Load
from ouzel_protos.torchserve import PREDICTIONS
from ouzel_protos.torchserve.inference_pb2 import PredictionResponse, PredictionsRequest
from ouzel_protos.v1 import explain_pb2 as pb
from support import oip_bytes as wire
from support.gateway import call, gateway, pictures, png
from support.still_engine import StillEngine


def at_once(question: int) -> Future[int]:
    """What reads a question without a thread."""
    read: Future[int] = Future()
    read.set_result(question)
    return read


async def test_what_cannot_be_begun_fails_and_holds_nobody_up() -> None:
    """A machine without another thread to start, for instance."""
    full = True

    def begin(question: int) -> Future[int]:
        if full and question < 0:
            raise RuntimeError("can't start new thread")
        return at_once(question)

    with ThreadPoolExecutor(1) as threads:
        batcher = Batcher(begin, lambda reading: [each.result() for each in reading], 1, threads)
        async with asyncio.timeout(20):
            told = await asyncio.gather(*(batcher.ask([each]) for each in (-1, 2, -3, 4)), return_exceptions=True)
            assert [told[1], told[3]] == [[2], [4]]
            assert [str(told[0]), str(told[2])] == ["can't start new thread"] * 2
            full = False
            assert await batcher.ask([-5]) == [-5]


async def test_what_queues_becomes_the_next_batch() -> None:
    batches: list[list[int]] = []
    begun, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def answer(reading: list[Future[int]]) -> list[int]:
        questions = [each.result() for each in reading]
        batches.append(questions)
        loop.call_soon_threadsafe(begun.set)
        go.wait(20)
        return [question * 10 for question in questions]

    with ThreadPoolExecutor(1) as threads:
        batcher = Batcher(at_once, answer, 4, threads)
        first = asyncio.create_task(batcher.ask([1]))
        await begun.wait()
        others = [asyncio.create_task(batcher.ask([number, number + 100])) for number in (2, 3, 4)]
        await asyncio.sleep(0)
        others[1].cancel()
        await asyncio.gather(others[1], return_exceptions=True)
        go.set()
        assert await first == [10]
        assert await others[0] == [20, 1020]
        assert await others[2] == [40, 1040]
    assert batches == [[1], [2, 102, 4, 104]]


async def test_the_next_batch_is_read_while_one_is_computed_and_no_more_than_that() -> None:
    """Who leaves makes room for the one behind, and what nobody reads yet is not read for him."""
    read: list[int] = []
    begun, seen, go = asyncio.Event(), threading.Semaphore(0), threading.Event()
    loop = asyncio.get_running_loop()
    held = threading.Event()

    def reading(question: int) -> int:
        if question == 7:
            held.wait(20)
        read.append(question)
        seen.release()
        return question

    def answer(each: list[Future[int]]) -> list[int]:
        loop.call_soon_threadsafe(begun.set)
        go.wait(20)
        return [one.result() for one in each]

    async def readers(count: int) -> None:
        for _ in range(count):
            assert await asyncio.to_thread(seen.acquire, timeout=20)

    with ThreadPoolExecutor(1) as threads, ThreadPoolExecutor(1) as decoders:
        batcher = Batcher(lambda question: decoders.submit(reading, question), answer, 2, threads)
        asks = [asyncio.create_task(batcher.ask([1]))]
        await begun.wait()
        await readers(1)
        asks += [asyncio.create_task(batcher.ask([number])) for number in (2, 3, 4, 5)]
        await readers(2)  # while the first batch is still computed
        assert sorted(read) == [1, 2, 3]
        asks[1].cancel()
        await readers(1)
        assert sorted(read) == [1, 2, 3, 4]
        asks[2].cancel()
        asks[3].cancel()
        await readers(1)
        assert read[-1] == 5
        asks += [asyncio.create_task(batcher.ask([number])) for number in (7, 8, 9)]
        await asyncio.sleep(0)
        asks[4].cancel()  # the 5: now 7 and 8 are to be read, one after the other
        await asyncio.sleep(0)
        asks[6].cancel()  # the 8 waits for the thread that reads
        await asyncio.gather(*asks[1:5], asks[6], return_exceptions=True)
        held.set()
        go.set()
        assert [await asks[0], await asks[5], await asks[7]] == [[1], [7], [9]]
    assert read == [1, 2, 3, 4, 5, 7, 9]


async def test_who_waits_for_threads_that_are_shut_down_is_told() -> None:
    begun, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def busy() -> None:
        loop.call_soon_threadsafe(begun.set)
        go.wait(20)

    threads = ThreadPoolExecutor(1)
    threads.submit(busy)
    await begun.wait()
    batcher = Batcher(at_once, lambda reading: [each.result() for each in reading], 4, threads)
    ask = asyncio.create_task(batcher.ask([1]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # the batch waits for a thread
    threads.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(ask, 20)
    go.set()


async def test_a_batch_that_fails_fails_its_callers_only() -> None:
    def answer(reading: list[Future[int]]) -> list[int]:
        if 13 in [each.result() for each in reading]:
            raise ValueError("unlucky")
        return [each.result() for each in reading]

    with ThreadPoolExecutor(1) as threads:
        batcher = Batcher(at_once, answer, 1, threads)
        results = await asyncio.gather(*(batcher.ask([n]) for n in (1, 13, 2)), return_exceptions=True)
        assert [results[0], results[2]] == [[1], [2]]
        assert isinstance(results[1], ValueError)
        batcher.close()
        with pytest.raises(Unavailable):
            await batcher.ask([3])


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_time_in_which_no_process_was_there_does_not_count_as_load() -> None:
    clock, stalled = Clock(), Clock()
    load = Load(100, clock, stalled)
    for pause in (0.0, 0.0, 30.0, 0.0, 0.0):
        with load.room(1, math.inf):
            clock.now += 0.5 + pause
            stalled.now += pause
    assert load.seconds_per_row == pytest.approx(0.5)


def test_load_is_measured_and_refuses_what_would_be_late() -> None:
    clock = Clock()
    load = Load(100, clock)
    for _ in range(10):  # alone: 0.5 s each
        with load.room(1, math.inf):
            clock.now += 0.5
    assert load.seconds_per_row == pytest.approx(0.5)
    clock.now += 1000  # nothing is under way: it does not count
    with load.room(4, clock.now + 0.1):  # of an idle model all are let in
        with pytest.raises(ResourceExhausted, match=r"would take about 2\.5 s, the caller waits for 2 s") as caught:
            load.room(1, clock.now + 2).__enter__()
        assert caught.value.retry_after == pytest.approx(2.0)
        with load.room(1, clock.now + 2.6):
            pass
        with pytest.raises(ResourceExhausted, match="more than 100"):
            load.room(97, math.inf).__enter__()
    assert load.rows == 0


@given(st.lists(st.tuples(st.integers(1, 8), st.floats(0.01, 2), st.booleans()), min_size=5, max_size=40))
def test_load_equals_busy_time_over_rows(calls: list[tuple[int, float, bool]]) -> None:
    """As a plain sum over batches one after another, as long as nothing is forgotten."""
    clock, busy, done = Clock(), 0.0, 0
    load = Load(100, clock)
    for rows, seconds, fails in calls:
        if done + rows > 60:
            break
        try:
            with load.room(rows, math.inf):
                clock.now += seconds
                if fails:
                    raise Unavailable("x")
        except Unavailable:
            pass
        else:
            done += rows
        busy += seconds
        clock.now += 5
        assert load.rows == 0
        assert load.seconds_per_row == pytest.approx(busy / done if done >= 4 else 0)


def test_what_would_be_late_is_refused_at_once() -> None:
    engine = StillEngine(seconds=0.3)
    with gateway(lambda: engine, GatewayOptions(rest_port=0, grpc_port=0, max_rows_under_way=8)) as addresses:
        message = wire.infer("m", [wire.tensor("image", "BYTES", (1,))], [wire.elements(b"x")])
        with grpc.insecure_channel(addresses.grpc) as channel:
            ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            for _ in range(5):
                ask(message, timeout=20)
            before = engine.asked
            running = ask.future(message, timeout=20)
            while engine.asked == before:
                time.sleep(0.001)
            with pytest.raises(grpc.RpcError) as caught:
                ask(message, timeout=0.4)  # behind the other one: 0.6 s
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            status = Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
            retry = error_details_pb2.RetryInfo()
            assert any(each.Unpack(retry) for each in status.details)
            assert 0 < retry.retry_delay.nanos < 0.5e9
            status_, headers, body = call(addresses, "POST", "/v1/models/m/explain", b"x", {"X-Ouzel-Timeout": "0.4"})
            assert (status_, headers["retry-after"], json.loads(body)["code"]) == (429, "1", "RESOURCE_EXHAUSTED")
            many = wire.infer("m", [wire.tensor("image", "BYTES", (8,))], [wire.elements(*[b"x"] * 8)])
            with pytest.raises(grpc.RpcError, match="more than 8"):
                ask(many, timeout=20)
            running.result()
            assert engine.asked == before + 1
            gone = ask.future(message, timeout=20)
            while engine.asked == before + 1:
                time.sleep(0.001)
            gone.cancel()
            deadline = time.monotonic() + 5
            while not engine.cancelled and time.monotonic() < deadline:
                time.sleep(0.001)
            assert engine.cancelled == 1


@asynccontextmanager
async def torchserve(
    folder: Path, *answers: Callable[[grpc.aio.ServicerContext], Any]
) -> AsyncIterator[tuple[TorchServeCalls, list[str]]]:
    """Calls to a server that fails or answers as it is told, one call after another."""
    seen: list[str] = []
    left = list(answers)

    async def predictions(request: PredictionsRequest, context: Any) -> PredictionResponse:
        seen.append(dict(context.invocation_metadata())["authorization"])
        result = left.pop(0)(context)
        if asyncio.iscoroutine(result):
            await result
        return PredictionResponse(prediction=pb.Explanation(request_id=request.model_version).SerializeToString())

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        predictions, PredictionsRequest.FromString, PredictionResponse.SerializeToString
    )
    service, method = PREDICTIONS[1:].split("/")
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    key_file = folder / "keys.json"
    key_file.write_text(json.dumps({"inference": {"key": "k1"}}))
    calls = TorchServeCalls(lambda: Place(f"127.0.0.1:{port}", key_file), lambda *_: None, 1000)
    try:
        yield calls, seen
    finally:
        await calls.close()
        await server.stop(None)


def fails(code: str, words: str) -> Callable[[Any], Any]:
    return lambda context: context.abort(grpc.StatusCode[code], words)


def answers(_context: Any) -> None:
    pass


DIED = fails("INTERNAL", "Worker died.\nInternalServerException")
CASES: dict[str, tuple[list[Callable[[Any], Any]], type[OuzelError] | None, int]] = {
    "dies once": ([DIED, answers], None, 2),
    "dies twice": ([DIED, DIED], Unavailable, 2),
    "dies, and there is no other": ([DIED, fails("INTERNAL", "Model x has no worker to serve")], Unavailable, 2),
    "prediction failed": ([fails("UNAVAILABLE", "Prediction failed"), answers], None, 2),
    "queue full": ([fails("INTERNAL", "Model x has no worker to serve")], ResourceExhausted, 1),
    "no model": ([fails("INTERNAL", "Model not found: x")], NotFound, 1),
    "no version": ([fails("INTERNAL", "Model version: 9 does not exist for model: x")], NotFound, 1),
    "something else": ([fails("INTERNAL", "secret /path")], OuzelError, 1),
    "late": ([fails("DEADLINE_EXCEEDED", "")], DeadlineExceeded, 1),
}


@pytest.mark.parametrize("name", CASES)
async def test_what_torchserve_says(tmp_path: Path, name: str) -> None:
    script, expected, attempts = CASES[name]
    async with torchserve(tmp_path, *script) as (calls, seen):
        asked = calls.answer("x", "1", Row(image=b"i"), time.monotonic() + 10)
        if expected is None:
            assert (await asked).request_id == "1"
        else:
            with pytest.raises(expected) as caught:
                await asked
            assert type(caught.value) is expected
            assert "/path" not in str(caught.value)
        assert len(seen) == attempts


async def test_new_tokens_and_sizes(tmp_path: Path) -> None:
    def renew(context: Any) -> Any:
        (tmp_path / "keys.json").write_text(json.dumps({"inference": {"key": "k2"}}))
        return context.abort(grpc.StatusCode.PERMISSION_DENIED, "")

    async with torchserve(tmp_path, renew, answers) as (calls, seen):
        await calls.answer("x", "1", Row(image=b"i"), time.monotonic() + 10)
        assert seen == ["Bearer k1", "Bearer k2"]
        with pytest.raises(TooLarge, match="is larger than 1000"):
            await calls.answer("x", "1", Row(image=bytes(1001)), time.monotonic() + 10)
        with pytest.raises(DeadlineExceeded):
            await calls.answer("x", "1", Row(image=b"i"), time.monotonic() - 1)
    nowhere = TorchServeCalls(lambda: None, lambda *_: None, 1000)
    with pytest.raises(Unavailable, match="not running"):
        await nowhere.answer("x", "1", Row(image=b"i"), time.monotonic() + 10)


class Files:
    """TLS with a certificate for 127.0.0.1 that signs itself."""

    def __init__(self, folder: Path) -> None:
        key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), True)
            .add_extension(x509.BasicConstraints(True, None), True)
            .sign(key, hashes.SHA256())
        )
        self.certificate = certificate.public_bytes(serialization.Encoding.PEM)
        self._key = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._file = folder / "both.pem"
        self._file.write_bytes(self.certificate + self._key)

    def grpc(self) -> Any:
        return grpc.ssl_server_credentials([(self._key, self.certificate)])

    def http(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._file)
        return context


def test_tls_on_both_ports(store: Path, tmp_path: Path) -> None:
    files = Files(tmp_path)
    options = GatewayOptions(rest_port=0, grpc_port=0, tls=files)
    with gateway(lambda: InProcessEngine(store), options) as addresses:
        assert addresses.rest.startswith("https://")
        context = ssl.create_default_context(cadata=files.certificate.decode())
        with urllib.request.urlopen(f"{addresses.rest}/v2/health/live", context=context) as answer:
            assert json.load(answer) == {"live": True}
        credentials = grpc.ssl_channel_credentials(files.certificate)
        message = wire.infer("toy", [wire.tensor("image", "BYTES", (1,))], [wire.elements(png(pictures(1)[0]))])
        with grpc.secure_channel(addresses.grpc, credentials) as channel:
            assert channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(message, timeout=60)
        with grpc.insecure_channel(addresses.grpc) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=2)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_what_unpacks_to_too_much_is_never_held(pack: Callable[[bytes], bytes]) -> None:
    packed, most = pack(bytes(40 * 2**20)), 2**25
    tracemalloc.start()
    try:
        with pytest.raises(Oversized, match="decompressed"):
            bodies._decompressed(packed, "gzip", most)
        assert tracemalloc.get_traced_memory()[1] < most / 4
    finally:
        tracemalloc.stop()
    fitting = pack(bytes(most))
    assert len(bodies._decompressed(fitting, "gzip", most)) == most


async def test_calls_that_outlast_the_grace_are_told_so() -> None:
    """Over HTTP, too: else the server would cut them off with a fault of its own."""
    engine = StillEngine(seconds=60)
    body = json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3, 4, 4], "data": [0.5] * 48}]})

    def ask(at: Addresses) -> tuple[int, str]:
        request = urllib.request.Request(f"{at.rest}/v2/models/m/infer", body.encode())
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=30)
        return caught.value.code, caught.value.read().decode()

    async with serving(GatewayOptions(rest_port=0, grpc_port=0, grace=0.1), engine) as at:
        asked = asyncio.create_task(asyncio.to_thread(ask, at))
        while not engine.asked:
            await asyncio.sleep(0.01)
    status, said = await asked
    assert status == 503
    assert "is stopping" in said
    assert engine.cancelled == 1
