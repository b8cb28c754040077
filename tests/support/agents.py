"""Serving nodes: an agent each, beside a TorchServe that may be a fake."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ouzel.agent import agent as agents
from ouzel.agent.agent import Agent
from ouzel.agent.fetched import Fetched
from ouzel.agent.node import Node
from ouzel.agent.options import AgentOptions
from ouzel.registry.opening import open_registry
from support.fake_torchserve import FakeTorchServe
from support.jobs import until


class FakeNode:
    """A machine with an agent and a fake TorchServe, which runs."""

    def __init__(self, place: str | Path, folder: Path, name: str, *, pool: bool = False) -> None:
        self.options = AgentOptions(place, folder / name / "store", folder / name / "state", name, interval=0.1)
        self.torchserve = FakeTorchServe(self.options.store, self.options.state, pool=pool)
        self.torchserve.start()

    @contextmanager
    def agent(self) -> Iterator[Agent]:
        """One that looks when it is told to."""
        registry = open_registry(self.options.source)
        fetched = Fetched(registry, self.options.store)
        with fetched.claimed():
            yield Agent(registry, Node(fetched), self.options, fetched)

    @contextmanager
    def running(self) -> Iterator[None]:
        """One that looks by itself."""
        with running(self.options):
            yield

    def serves(self, name: str = "toy") -> tuple[str, list[str]]:
        """The default of TorchServe, and the versions that are loaded."""
        return self.torchserve.defaults.get(name, ""), sorted(self.torchserve.models.get(name, {}))


@contextmanager
def running(options: AgentOptions) -> Iterator[None]:
    """An agent in a thread."""
    stop, ready, failed = threading.Event(), threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            agents.run(options, stop, ready)
        except BaseException as error:  # noqa: BLE001 - raised below, in the thread of the test
            failed.append(error)

    thread = threading.Thread(target=run, name=options.node)
    thread.start()
    try:
        until(lambda: ready.is_set() or not thread.is_alive(), 60)
        if not failed:
            yield
    finally:
        stop.set()
        thread.join(60)
    if failed:
        raise failed[0]
