"""The pool of audits over a stub process: queues, deadlines, and a process that is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from ouzel.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted, Unavailable
from ouzel.worker.auditing import process
from ouzel.worker.auditing.pool import AuditPool, PoolLimits
from ouzel.worker.auditing.task import ResidentOptions, Task
from ouzel_protos.v1 import audit_pb2 as pb
from support.jobs import TESTS


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_MODULE", "support.stub_resident")
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


def run(
    scenario: Callable[[AuditPool], Awaitable[None]], *, options: ResidentOptions | None = None, **limits: Any
) -> None:
    """A scenario with a pool, which is stopped afterwards."""

    async def whole() -> None:
        async with running(options, limits) as pool, asyncio.timeout(60):
            await scenario(pool)

    asyncio.run(whole())


@contextlib.asynccontextmanager
async def running(options: ResidentOptions | None, limits: dict[str, Any]) -> AsyncIterator[AuditPool]:
    pool = AuditPool(options or ResidentOptions(Path("uploads"), Path("formats")), PoolLimits(**limits))
    try:
        yield pool
    finally:
        await pool.stop()
        assert [each.pid for each in psutil.Process().children() if "support.stub_resident" in each.cmdline()] == []


async def audit(pool: AuditPool, text: str, owner: str = "ann", seconds: float = 30) -> str:
    body = pb.AuditPredictionRequest(request_id=text).SerializeToString()
    answer = await pool.audit(Task(owner), body, seconds)
    return pb.PredictionAudit.FromString(answer).request_id


async def waits(pool: AuditPool, *texts: str, owner: str = "ann") -> list[asyncio.Task[str]]:
    """Audits that have begun, or wait in the queue."""
    tasks = [asyncio.create_task(audit(pool, text, owner)) for text in texts]
    await asyncio.sleep(0)
    return tasks


def test_one_process_answers_all() -> None:
    async def scenario(pool: AuditPool) -> None:
        answers = await asyncio.gather(*(audit(pool, f"a{number}") for number in range(10)))
        names, pids = zip(*(answer.split() for answer in answers), strict=True)
        assert names == tuple(f"a{number}" for number in range(10))
        assert len(set(pids)) == 1
        with pytest.raises(InvalidArgument, match=r"^no$") as caught:
            await audit(pool, "refuse")
        assert caught.value.field == "mask"

    run(scenario)


def test_one_that_is_lost_is_started_again() -> None:
    async def scenario(pool: AuditPool) -> None:
        first = await audit(pool, "a")
        (held,) = await waits(pool, "hold")
        for text in ("die", "noise"):
            with pytest.raises(Unavailable, match="was lost; try again"):
                await audit(pool, text)
        with pytest.raises(Unavailable):
            await held
        assert (await audit(pool, "a")).split()[1] != first.split()[1]

    run(scenario)


def test_one_that_does_not_start_is_said() -> None:
    async def scenario(pool: AuditPool) -> None:
        with pytest.raises(Unavailable, match="does not start; the worker's log says why"):
            await audit(pool, "a")
        with pytest.raises(Unavailable):  # and tried again
            await audit(pool, "a")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "_MODULE", "support.no_such_module")
        run(scenario)


def test_a_deadline_gives_an_audit_up_and_leaves_the_others() -> None:
    async def scenario(pool: AuditPool) -> None:
        pid = (await audit(pool, "a")).split()[1]
        with pytest.raises(DeadlineExceeded, match=r"did not end within 0\.2 s"):
            await audit(pool, "hold", seconds=0.2)
        assert await audit(pool, "a") == f"a {pid}"

    run(scenario, running=1, grace=30)


def test_one_that_does_not_give_up_is_killed() -> None:
    async def scenario(pool: AuditPool) -> None:
        pid = (await audit(pool, "a")).split()[1]
        with pytest.raises(DeadlineExceeded):
            await audit(pool, "ignore", seconds=0.2)
        assert (await audit(pool, "b")).split()[1] != pid  # it waits for its turn, and gets a new process

    run(scenario, running=1, grace=0.2)


def test_a_caller_who_leaves_gives_its_audit_up() -> None:
    async def scenario(pool: AuditPool) -> None:
        pid = (await audit(pool, "a")).split()[1]
        (held,) = await waits(pool, "hold")
        await asyncio.sleep(0.1)
        held.cancel()
        assert await audit(pool, "a") == f"a {pid}"

    run(scenario, running=1, grace=30)


def test_a_full_queue_is_refused() -> None:
    async def scenario(pool: AuditPool) -> None:
        held = await waits(pool, "hold", "x", "x")
        with pytest.raises(ResourceExhausted, match="2 of yours are waiting, which is the limit") as caught:
            await audit(pool, "y")
        assert caught.value.retry_after > 0
        held += await waits(pool, "x", owner="bob")
        with pytest.raises(ResourceExhausted, match=r"^audits: 3 are waiting"):
            await audit(pool, "y", owner="eve")
        held[0].cancel()
        assert len({await each for each in held[1:]}) == 1

    run(scenario, running=1, waiting=3, waiting_per_owner=2)


def test_time_in_the_queue_counts() -> None:
    async def scenario(pool: AuditPool) -> None:
        held = await waits(pool, "hold")
        with pytest.raises(DeadlineExceeded):
            await audit(pool, "x", seconds=0.2)
        held[0].cancel()
        assert (await audit(pool, "x")).startswith("x ")

    run(scenario, running=1)


def test_nothing_runs_after_the_end() -> None:
    async def scenario(pool: AuditPool) -> None:
        (held,) = await waits(pool, "hold")
        await audit(pool, "a")
        await pool.stop()
        for call in (held, audit(pool, "a")):
            with pytest.raises(Unavailable):
                await call

    run(scenario)
