"""Calls that TorchServe lost with a process: made again once the processes are seen to be others, and not before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from ouzel.errors import DeadlineExceeded, Unavailable
from ouzel.gateway.engine import Row
from ouzel.gateway.engines.torchserve_calls import Place, TorchServeCalls
from ouzel.torchserve.errors import PublicationFailed
from ouzel_protos.torchserve import PREDICTIONS
from ouzel_protos.torchserve.inference_pb2 import PredictionResponse
from ouzel_protos.v1 import explain_pb2 as pb

ROW = Row(b"image", None, pb.ExplainOptions())
Behave = Callable[[int], Awaitable[str]]


@dataclass
class Service:
    """A stand-in for TorchServe.

    Attributes:
        behave: Gives the answer to the call of a number.
        ready: What its management says of processes; each is told as long as it takes, the last one for ever.
        calls: How many have come.
        looks: How often it was asked for the processes.
        left: Numbers of the calls whose callers have left.
    """

    behave: Behave
    ready: list[frozenset[int] | Exception]
    calls: int = 0
    looks: int = 0
    left: list[int] = field(default_factory=list)

    def processes(self, model: str, version: str) -> frozenset[int]:
        assert (model, version) == ("m", "1")
        self.looks += 1
        found = self.ready.pop(0) if len(self.ready) > 1 else self.ready[0]
        if isinstance(found, Exception):
            raise found
        return found

    async def answer(self, _request: bytes, context: Any) -> bytes:
        self.calls += 1
        number = self.calls
        try:
            said = await self.behave(number)
        except asyncio.CancelledError:
            self.left.append(number)
            raise
        if said == "died":
            await context.abort(grpc.StatusCode.INTERNAL, "Worker died.")
        if said == "full":
            await context.abort(grpc.StatusCode.INTERNAL, 'Model "m" has no worker to serve inference request.')
        return PredictionResponse(prediction=pb.Explanation(request_id=said).SerializeToString()).SerializeToString()


@asynccontextmanager
async def before(service: Service, tmp_path: Path) -> AsyncIterator[TorchServeCalls]:
    key_file = tmp_path / "key_file.json"
    key_file.write_text('{"inference": {"key": "k", "expiration time": ""}}')
    server = grpc.aio.server()
    handler: Any = grpc.unary_unary_rpc_method_handler(service.answer)
    package, _, method = PREDICTIONS.lstrip("/").partition("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(package, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    calls = TorchServeCalls(lambda: Place(f"127.0.0.1:{port}", key_file), service.processes, 2**20)
    try:
        yield calls
    finally:
        await calls.close()
        await server.stop(0)


def asked(service: Service, tmp_path: Path, seconds: float = 30.0) -> str:
    async def ask() -> str:
        async with before(service, tmp_path) as calls:
            return (await calls.answer("m", "1", ROW, time.monotonic() + seconds)).request_id

    return asyncio.run(ask())


async def silent(_number: int) -> str:
    await asyncio.Event().wait()
    return ""


async def first_is_lost(number: int) -> str:
    return await silent(number) if number == 1 else f"answer {number}"


BOTH, ONE, THREE = frozenset({1, 2}), frozenset({2}), frozenset({2, 3})


@pytest.mark.parametrize("ready", [[BOTH, ONE], [ONE, THREE], [BOTH, BOTH, BOTH, THREE]])
def test_a_lost_call_is_made_again(tmp_path: Path, ready: list[frozenset[int] | Exception]) -> None:
    """A process has died, or the one that takes its place has come: it may have died before the first look."""
    service = Service(first_is_lost, ready)
    assert asked(service, tmp_path) == "answer 2"
    assert (service.calls, service.left) == (2, [1])


def test_a_call_is_not_made_again_as_long_as_nothing_dies(tmp_path: Path) -> None:
    async def slow(_number: int) -> str:
        while service.looks < 5:
            await asyncio.sleep(0.01)
        return "late"

    service = Service(slow, [BOTH, PublicationFailed("busy"), BOTH])
    assert asked(service, tmp_path) == "late"
    assert service.calls == 1


def test_whichever_is_answered_first_counts(tmp_path: Path) -> None:
    async def only_slow(number: int) -> str:
        if number == 2:
            return await silent(2)
        while service.calls < 2:
            await asyncio.sleep(0.01)
        return "the first"

    service = Service(only_slow, [BOTH, ONE])
    assert asked(service, tmp_path) == "the first"
    assert (service.calls, service.left) == (2, [2])


def test_the_second_attempt_outlives_the_end_of_the_first(tmp_path: Path) -> None:
    async def both(number: int) -> str:
        if number == 1:
            while service.calls < 2:
                await asyncio.sleep(0.01)
            return "died"
        while service.looks < 6:
            await asyncio.sleep(0.01)
        return "the second"

    service = Service(both, [BOTH, ONE, THREE])
    assert asked(service, tmp_path) == "the second"


def test_a_call_that_is_lost_twice_is_told_so_at_once(tmp_path: Path) -> None:
    service = Service(silent, [BOTH, ONE, THREE, frozenset({3})])
    with pytest.raises(Unavailable, match="died twice"):
        asked(service, tmp_path, 3600)
    assert service.calls == 2


def test_a_call_that_nobody_can_explain_ends_with_its_deadline(tmp_path: Path) -> None:
    service = Service(silent, [BOTH])
    with pytest.raises(DeadlineExceeded):
        asked(service, tmp_path, 0.6)
    assert service.calls == 1


def test_few_are_made_again_at_a_time(tmp_path: Path) -> None:
    """Those that were lost are the oldest; all of 40 would fill the queue of the model."""
    most = 0

    async def lost_until_room(number: int) -> str:
        nonlocal most
        if number <= 40:
            return await silent(number)
        most = max(most, service.calls - 40 - answered)
        while service.looks < 5:
            await asyncio.sleep(0.01)
        return str(number)

    service = Service(lost_until_room, [BOTH, ONE])
    answered = 0

    async def ask() -> list[str]:
        nonlocal answered
        async with before(service, tmp_path) as calls:
            tasks = [calls.answer("m", "1", ROW, time.monotonic() + 30) for _ in range(40)]
            found = []
            for each in asyncio.as_completed(tasks):
                found.append((await each).request_id)
                answered += 1
            return found

    assert sorted(asyncio.run(ask()), key=int) == [str(number) for number in range(41, 81)]
    assert most <= 8


def test_a_second_attempt_that_is_not_taken_is_made_once_more(tmp_path: Path) -> None:
    async def full(number: int) -> str:
        return await silent(number) if number == 1 else "full" if number == 2 else f"answer {number}"

    service = Service(full, [BOTH, ONE])
    assert asked(service, tmp_path) == "answer 3"


NONE: frozenset[int] = frozenset()


def test_what_waits_for_a_process_that_comes_too_late_is_told_so_at_once(tmp_path: Path) -> None:
    """All processes die: who waits for an hour waits on, who has a second does not."""
    service = Service(silent, [BOTH, NONE])

    async def ask() -> tuple[list[Any], float]:
        async with before(service, tmp_path) as calls:
            now = time.monotonic()
            patient = asyncio.create_task(calls.answer("m", "1", ROW, now + 3600))
            others = [calls.answer("m", "1", ROW, now + 1.2) for _ in range(3)]
            told: list[Any] = list(await asyncio.gather(*others, return_exceptions=True))
            assert not patient.done()
            with pytest.raises(Unavailable, match="too late"):
                await calls.answer("m", "1", ROW, time.monotonic() + 0.1)
            made = service.calls
            patient.cancel()
            await asyncio.gather(patient, return_exceptions=True)
            assert made == service.calls  # the last one was not made
            return told, calls.stalled("m")

    told, stalled = asyncio.run(ask())
    assert [type(each).__name__ for each in told] == ["TooLate"] * 3
    assert stalled > 0


def test_how_long_a_process_takes_to_come_back_is_learned(tmp_path: Path) -> None:
    service = Service(silent, [BOTH])

    async def answered(number: int) -> str:
        while number > 1 and len(service.ready) > 1:
            await asyncio.sleep(0.01)
        return await silent(number) if number == 1 else "later"

    service.behave = answered
    service.ready = [BOTH, *[NONE] * 8, THREE]

    async def ask() -> None:
        async with before(service, tmp_path) as calls:
            assert (await calls.answer("m", "1", ROW, time.monotonic() + 3600)).request_id == "later"
            service.behave, service.ready = silent, [THREE, NONE]
            with pytest.raises(Unavailable, match="too late"):  # a second more than TorchServe takes at least
                await calls.answer("m", "1", ROW, time.monotonic() + 1.0 + 0.5)

    asyncio.run(ask())


def test_time_without_processes_is_the_model_s(tmp_path: Path) -> None:
    async def later(_number: int) -> str:
        while len(service.ready) > 1:
            await asyncio.sleep(0.01)
        return "ok"

    service = Service(later, [BOTH, NONE, THREE])

    async def ask() -> None:
        async with before(service, tmp_path) as calls:
            assert calls.stalled("m") == 0
            await calls.answer("m", "1", ROW, time.monotonic() + 3600)
            assert 0 < calls.stalled("m") <= calls.stalled("m", "1")  # which are told one after the other
            assert calls.stalled("m", "2") == calls.stalled("other") == 0

    asyncio.run(ask())
