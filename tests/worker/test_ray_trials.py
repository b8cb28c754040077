"""Who may join the workers of a search on a cluster; the cluster itself is a fake here."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection
from typing import Any

import pytest

from ouzel.worker import ray_trials
from ouzel.worker.ray_trials import NodeWorkers

WAIT = 30.0  # s


class Calls:
    """A method of an actor."""

    def __init__(self, told: list[tuple[tuple[str, int], bytes]]) -> None:
        self._told = told

    def remote(self, address: tuple[str, int], key: bytes) -> object:
        self._told.append((address, key))
        return object()


class Nodes:
    """Actors that do nothing, and remember where they are to connect."""

    address = "127.0.0.1"

    def __init__(self, _kind: type, arguments: list[tuple[Any, ...]], _resources: dict[str, float]) -> None:
        self.told: list[tuple[tuple[str, int], bytes]] = []
        self.actors = [type("Actor", (), {"serve": Calls(self.told)}) for _ in arguments]
        made.append(self)

    def close(self) -> None:
        pass


class Here:
    """The worker beside the job, which is not started."""

    def __init__(self, count: int, _joined: object) -> None:
        assert count == 1

    def close(self) -> None:
        pass


made: list[Nodes] = []


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ray_trials, "NodeActors", Nodes)
    monkeypatch.setattr(ray_trials, "LocalWorkers", Here)
    yield
    made.clear()


@pytest.mark.usefixtures("cluster")
def test_strangers_keep_no_worker_out() -> None:
    """Neither one who says nothing nor one who has another key."""
    there, joined = threading.Event(), list[tuple[int, Connection]]()

    def join(number: int, connection: Connection) -> None:
        joined.append((number, connection))
        there.set()

    workers = NodeWorkers(2, join, {})
    try:
        ((address, key),) = made[0].told
        with socket.create_connection(address, WAIT):
            with pytest.raises(AuthenticationError):
                Client(address, authkey=b"another")
            done = threading.Event()

            def actor() -> None:
                with suppress(OSError, EOFError), Client(address, authkey=key) as connection:
                    assert connection.recv_bytes() == b"welcome"
                    done.set()

            threading.Thread(target=actor, daemon=True).start()
            assert there.wait(WAIT)
            ((number, connection),) = joined
            assert number == 1
            with connection:
                connection.send_bytes(b"welcome")
                assert done.wait(WAIT)
    finally:
        workers.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, WAIT).close()
