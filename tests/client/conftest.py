"""Both twins of the client behind one face, a fake server, and pictures."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

from ouzel_client import AsyncClient, Client, Retry
from ouzel_client.testing import FakeServer


class Blocking:
    """Client."""

    def __init__(self, target, **options):
        self.open = lambda: Client(target, **options)

    def __call__(self, name, *args, model="m", version="", **options):
        """Call a method of a model in a client of its own; what it yields comes as a list."""
        with self.open() as client:
            result = getattr(client.models.get(model, version=version), name)(*args, **options)
            return list(result) if name == "explain_many" else result

    def first(self, count, images, **options):
        """Take so many results of explain_many, then leave."""
        taken = []
        with self.open() as client:
            for result in client.models["m"].explain_many(images, **options):
                taken.append(result)
                if len(taken) == count:
                    break
        return taken


class Asyncio(Blocking):
    """AsyncClient."""

    def __init__(self, target, **options):
        self.open = lambda: AsyncClient(target, **options)

    def __call__(self, name, *args, model="m", version="", **options):
        async def call():
            async with self.open() as client:
                result = getattr(client.models.get(model, version=version), name)(*args, **options)
                return [one async for one in result] if name == "explain_many" else await result

        return asyncio.run(call())

    def first(self, count, images, **options):
        async def call():
            taken = []
            async with self.open() as client:
                results = client.models["m"].explain_many(images, **options)
                async for result in results:
                    taken.append(result)
                    if len(taken) == count:
                        break
                await results.aclose()
            return taken

        return asyncio.run(call())


@pytest.fixture(params=[Blocking, Asyncio], ids=["blocking", "asyncio"])
def twin(request):
    """Makes a caller: `twin(target, **options of the client)`."""
    return request.param


@pytest.fixture(autouse=True)
def no_services(monkeypatch, tmp_path):
    """Whatever runs on this machine is not found."""
    monkeypatch.setenv("OUZEL_STATE", str(tmp_path / "state"))
    for name in ("OUZEL_GRPC", "OUZEL_TOKEN", "OUZEL_MODEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with FakeServer(models={"m": ("cat", "dog", "<b>bird</b>")}) as running:
        yield running


@pytest.fixture(params=[Client, AsyncClient], ids=["blocking", "asyncio"])
def steps(request, server):
    """Runs steps with a client of the fake worker: each takes what the one before gave, the first the client itself.

    What is awaitable is awaited, and iterators come as lists.
    """

    async def asynchronous(*steps):
        async with _of_worker(AsyncClient, server) as client:
            value = client
            for step in steps:
                value = step(value)
                if hasattr(value, "__anext__"):
                    value = [each async for each in value]
                elif asyncio.iscoroutine(value):
                    value = await value
            return value

    def blocking(*steps):
        with _of_worker(Client, server) as client:
            value = client
            for step in steps:
                value = step(value)
                value = list(value) if hasattr(value, "__next__") else value
            return value

    return blocking if request.param is Client else lambda *steps: asyncio.run(asynchronous(*steps))


def _of_worker(kind, server):
    return kind(worker=server.target, retry=Retry(initial=0.001, maximum=0.002))


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def picture(tmp_path, png):
    """Path of a PNG file."""
    path = tmp_path / "cat.png"
    path.write_bytes(png)
    return path
