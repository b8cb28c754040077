"""The callers of `jobs.py`, in processes of their own."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import grpc

from ouzel_protos.v1 import job_pb2 as pb
from ouzel_protos.v1.job_pb2_grpc import JobServiceStub

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.jobs import count

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Place:
    """Where callers find the worker, as it is told to their processes."""

    address: str
    metadata: Metadata

    def channel(self) -> grpc.aio.Channel:
        """A connection that is shared with nobody."""
        return grpc.aio.insecure_channel(self.address, [("grpc.use_local_subchannel_pool", 1)])


def pause() -> list[float]:
    """Long enough for the other processes to start as well."""
    time.sleep(0.5)
    return []


def submit(place: Place, callers: int, start: float, seconds: float) -> list[float]:
    """Seconds of each call that was answered in time."""

    async def caller() -> list[float]:
        async with place.channel() as channel:
            await channel.channel_ready()
            stub, spent = JobServiceStub(channel), []
            await asyncio.sleep(start - time.time())
            while (begun := time.time()) < start + seconds:
                request = pb.CreateJobRequest(spec=count(), request_id=uuid.uuid4().hex)
                await stub.CreateJob(request, metadata=place.metadata, timeout=60)
                if (now := time.time()) < start + seconds:
                    spent.append(now - begun)
            return spent

    async def all_of_them() -> list[float]:
        return list(chain(*await asyncio.gather(*(caller() for _ in range(callers)))))

    return asyncio.run(all_of_them())


def watch(place: Place, watchers: int, job: str) -> list[list[tuple[int, float, float]]]:
    """Sequence, own time and arrival of each event, for each watcher, until the job has ended."""

    async def watcher() -> list[tuple[int, float, float]]:
        async with place.channel() as channel:
            request, events = pb.WatchJobRequest(id=job), []
            async for event in JobServiceStub(channel).WatchJob(request, metadata=place.metadata, timeout=600):
                now = time.time()
                events += [(event.sequence, event.time.ToNanoseconds() / 1e9, now)]
            return events

    async def all_of_them() -> list[list[tuple[int, float, float]]]:
        return await asyncio.gather(*(watcher() for _ in range(watchers)))

    return asyncio.run(all_of_them())


def claims(place: Place, seconds: float) -> list[float]:
    """Seconds from the answer of CreateJob to the arrival of the RUNNING event, of one job after another."""
    with grpc.insecure_channel(place.address) as channel:
        stub, spent = JobServiceStub(channel), []
        deadline = time.time() + seconds
        while time.time() < deadline:
            job = stub.CreateJob(pb.CreateJobRequest(spec=count(1)), metadata=place.metadata, timeout=60)
            answered = time.time()
            events = stub.WatchJob(pb.WatchJobRequest(id=job.id), metadata=place.metadata, timeout=60)
            spent += [time.time() - answered for event in events if event.state_change.state == pb.Job.RUNNING]
            time.sleep(0.5)  # until its process is gone and the worker idle
        return spent


def queued(place: Place, jobs: int) -> list[float]:
    """Creates jobs, 16 at a time; seconds of each of the last tenth of the calls."""

    async def all_of_them() -> list[float]:
        spent: list[float] = []
        async with place.channel() as channel:
            stub, left = JobServiceStub(channel), iter(range(jobs))

            async def caller() -> None:
                for _ in left:
                    begun = time.time()
                    await stub.CreateJob(pb.CreateJobRequest(spec=count()), metadata=place.metadata, timeout=60)
                    spent.append(time.time() - begun)

            await asyncio.gather(*(caller() for _ in range(16)))
        return spent[-max(1, jobs // 10) :]

    return asyncio.run(all_of_them())


def hold(place: Place, jobs: list[str], seconds: float) -> list[str]:
    """Watches jobs that wait, with a connection each, for a while. Returns those whose watch held."""

    async def watcher(job: str) -> str:
        async with place.channel() as channel:
            call = JobServiceStub(channel).WatchJob(pb.WatchJobRequest(id=job), metadata=place.metadata, timeout=600)
            await call.read()
            await asyncio.sleep(seconds)
            return "" if call.done() else job

    async def all_of_them() -> list[str]:
        return [each for each in await asyncio.gather(*map(watcher, jobs)) if each]

    return asyncio.run(all_of_them())
