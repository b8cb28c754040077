"""The agent: looks at the store again and again, has the node follow it, and tells what is served.

What it tells is written by a thread of its own: a model may load for minutes, and the agent lives all the same.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ouzel.agent import state
from ouzel.agent.fetched import Fetched, OtherStore
from ouzel.agent.metrics import AgentGauges
from ouzel.agent.node import Node
from ouzel.agent.options import AgentOptions
from ouzel.buckets import StorageAway, StorageRefused
from ouzel.errors import FailedPrecondition, OuzelError
from ouzel.registry.opening import open_registry
from ouzel.registry.record import ModelRecord
from ouzel.registry.registry import Registry
from ouzel.registry.reports import AgentReport, parse_reports
from ouzel.telemetry import metrics
from ouzel.torchserve import management
from ouzel.torchserve.errors import PublicationFailed, ServerUnreachable
from ouzel.torchserve.server import Server

_log = logging.getLogger(__name__)
BEAT = 5.0  # s between two reports where nothing changes
_LOOK = 10.0  # s between two looks at all that TorchServe serves
_OLD = 86_400.0  # s after which the report of another node is removed
_STILL = 2 * BEAT  # s for which another agent of the same name is waited for


@dataclass(frozen=True)
class _Run:
    """Which TorchServe runs: another one has other tokens."""

    rest: str
    tokens: str
    written: float


def run_once(options: AgentOptions) -> int:
    """Brings the folder up to the store, before TorchServe is started.

    Args:
        options: Of the agent.

    Returns:
        How many models have a default here.

    Raises:
        OuzelError: The store does not answer, or the folder is not the agent's.
    """
    registry = open_registry(options.source)
    fetched = Fetched(registry, options.store)
    with fetched.claimed():
        return Agent(registry, Node(fetched), options, fetched).once()


def run(options: AgentOptions, stop: threading.Event, ready: threading.Event | None = None) -> None:
    """Follows the store until `stop` is set.

    Args:
        options: Of the agent.
        stop: Ends it.
        ready: Set after the first look.

    Raises:
        OuzelError: It cannot start.
    """
    registry = open_registry(options.source)
    fetched = Fetched(registry, options.store)
    with fetched.claimed():
        agent = Agent(registry, Node(fetched), options, fetched)
        registered = metrics.registry()
        registered.register(AgentGauges(lambda: agent.report))
        with metrics.served(registered, options.metrics), state.recorded(options, lambda: agent.report):
            agent.run(stop, ready)


class Agent:
    """See the module.

    Args:
        registry: The store.
        node: Follows it.
        options: Of the agent.
        fetched: The folder that TorchServe serves.

    Attributes:
        report: What is told now.
    """

    def __init__(self, registry: Registry, node: Node, options: AgentOptions, fetched: Fetched) -> None:
        self._registry, self._node, self._options, self._fetched = registry, node, options, fetched
        self._records: dict[str, ModelRecord] = {}  # as they were followed last
        self._tags: dict[str, str] = {}  # as the list of models had them then
        self._again: set[str] = set()
        self._run: _Run | None = None
        self._looked = float("-inf")
        self._told = threading.Event()
        self._born = f"{time.time_ns():x}-{os.getpid():x}"
        self.report = AgentReport(options.node, "", time.time(), serving=False, note="it has just been started")

    def run(self, stop: threading.Event, ready: threading.Event | None = None) -> None:
        """Follows the store until `stop` is set. Raises FailedPrecondition if another has the name; StorageRefused."""
        self._check_store()
        self._check_name(stop)
        over = threading.Event()
        telling = threading.Thread(target=self._tell, args=(over,), name="reports", daemon=True)
        telling.start()
        try:
            while not stop.is_set():
                self.round()
                if ready is not None:
                    ready.set()
                stop.wait(self._options.interval)
        finally:
            over.set()
            self._told.set()
            telling.join()
            try:
                self._registry.forget(self._options.node)
            except (OuzelError, OSError) as error:
                _log.warning("the last report stays: %s", error)

    def once(self) -> int:
        """One look before TorchServe is started; returns how many models have a default here. Raises OuzelError."""
        self._follow(self._server(), clear=True)
        for problem in self._node.problems.values():
            _log.error("%s", problem)
        return len(self.report.defaults)

    def round(self) -> None:
        """One look at the store, and all that follows from it."""
        note, server = "", None
        try:
            server = self._server()
            self._follow(server)
        except OtherStore as error:
            note = str(error)
        except StorageRefused as error:
            note = error.why
        except StorageAway as error:
            note = f"the store does not answer: {error}"
        except PublicationFailed as error:  # TorchServe has gone, or refuses to tell what it serves
            note, server = str(error), None
        except OSError as error:
            note = f"{error.filename or self._options.store} cannot be used: {error.strerror or error}"
        except (ValueError, LookupError, TypeError) as error:
            note, server = f"what TorchServe answers cannot be read ({type(error).__name__}: {error})", None
        if note and note != self.report.note:
            _log.warning("%s", note)
        self._show(server, note)

    def _server(self) -> Server | None:
        """TorchServe, if it runs. Another one than before has to be looked at anew."""
        server = Server.found(self._options.serving)
        if server is None:
            self._run = None
            return None
        try:
            written = server.key_file.stat().st_mtime
        except OSError as error:
            raise ServerUnreachable(f"TorchServe's tokens cannot be read: {error}") from error
        found = _Run(server.rest, str(server.key_file), written)
        if found != self._run:
            self._run = None
            management.served(server)  # it answers
            _log.info("TorchServe runs at %s", server.rest)
            self._node.forget_served()
            self._again.update(self._records)
            self._run, self._looked = found, time.monotonic()
        elif time.monotonic() - self._looked >= _LOOK:
            self._again |= self._node.check_served(management.served(server))
            self._looked = time.monotonic()
        return server

    def _follow(self, server: Server | None, *, clear: bool = False) -> None:
        self._fetched.check_source()
        tags = self._registry.names()
        self._fetched.adopt(tags)
        for name in sorted({*tags, *self._records, *self._fetched.names()}):
            known = self._records.get(name)
            if name not in tags:
                record = ModelRecord(name)
            elif known is not None and self._tags.get(name) == tags[name]:
                record = known
            else:
                try:
                    record = self._registry.record(name) or ModelRecord(name)
                except StorageAway:
                    raise
                except OuzelError as error:  # the record is damaged: what is served stays
                    self._node.problems[name] = str(error)
                    continue
            if record is known and name not in self._again and self._node.settled(name):
                continue
            if record is not known:
                self._fetched.check_source()  # what has changed may be that it is not mounted any more
            self._again.add(name)  # until it is done
            self._node.follow(server, record, clear=clear)
            self._again.discard(name)
            if name in tags:
                self._records[name], self._tags[name] = record, tags[name]
            else:
                self._records.pop(name, None)
                self._tags.pop(name, None)
            self._show(server, "")

    def _show(self, server: Server | None, note: str) -> None:
        """What is to be told from now on; at once if it is something new."""
        serving = server is not None
        versions = {name: self._node.versions(each, serving=serving) for name, each in self._records.items()}
        defaults = {name: chosen for name in self._records if (chosen := self._node.default(name))}
        told = note or "; ".join(problem for _, problem in sorted(self._node.problems.items()))
        if not serving and not told:
            told = "TorchServe does not run"
        found = replace(
            self.report,
            serving=serving,
            note=told,
            defaults=defaults,
            versions={name: each for name, each in versions.items() if each},
        )
        if found != self.report:
            self.report = found
            self._told.set()

    def _tell(self, over: threading.Event) -> None:
        number = 0
        while not over.is_set():
            self._told.clear()
            number += 1
            made = replace(self.report, beat=f"{self._born}-{number}", time=time.time())
            try:
                self._registry.report(self._options.node, made.to_json())
                if number % 100 == 1:
                    self._tidy()
            except (OuzelError, OSError) as error:
                _log.warning("what is served cannot be told: %s", error)
            self._told.wait(BEAT)

    def _tidy(self) -> None:
        """Removes the reports of nodes that are gone for good. Both times are by the clock of the store."""
        told = self._registry.reports()
        mine = told.get(self._options.node)
        for node, each in told.items():
            if mine is not None and mine.modified - each.modified > _OLD:
                self._registry.forget(node)

    def _check_store(self) -> None:
        """Raises StorageRefused. A store that is away is waited for: the machine may have been started with it."""
        try:
            self._registry.names()
        except StorageRefused:
            raise
        except (StorageAway, OSError) as error:  # a mount whose server is away, say
            _log.warning("the store does not answer yet: %s", error)

    def _check_name(self, stop: threading.Event) -> None:
        """Two agents of one name would overwrite each other's reports, and count as one."""

        def beat() -> str:
            try:
                told: Mapping[str, AgentReport] = {each.node: each for each in parse_reports(self._registry.reports())}
            except (StorageAway, OSError):
                return ""
            return told[self._options.node].beat if self._options.node in told else ""

        before = beat()
        if not before:
            return
        end = time.monotonic() + _STILL
        while time.monotonic() < end and not stop.wait(0.5):
            if beat() not in ("", before):
                raise FailedPrecondition(
                    f"node: another agent of the name {self._options.node!r} tells what it serves; choose another name",
                    field="node",
                )
