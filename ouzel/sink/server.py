"""The sink as a process: opens its file, starts its threads, serves until it is told to stop."""

from __future__ import annotations

import fcntl
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import uvicorn

from ouzel import timed_http
from ouzel.checks import within
from ouzel.databases.sqlite import SqliteDatabase
from ouzel.errors import FailedPrecondition
from ouzel.sink.app import Parts, make
from ouzel.sink.asking import Auditing, Worker
from ouzel.sink.auditor import Auditor
from ouzel.sink.clock import Clock
from ouzel.sink.config import SinkConfig
from ouzel.sink.notifying import Notifier
from ouzel.sink.recording import Recorder
from ouzel.sink.schema import SINK
from ouzel.sink.sweeping import Sweeper

FILE = "sink.db"
_LOCK = "sink.lock"
_KEEP_ALIVE = 30  # s: senders reuse connections
_GRACE = 10  # s for requests under way when the sink is told to stop
_BACKLOG = 512


@dataclass(frozen=True)
class SinkOptions:
    """How a sink is started.

    Attributes:
        config: The operator's file.
        state: Folder of its database.
        host: Address to listen on.
        port: 0 to 65535; 0 selects a free one.
    """

    config: SinkConfig
    state: Path
    host: str = "127.0.0.1"
    port: int = 8095

    def __post_init__(self) -> None:
        within("port", self.port, 0, 65535)


class _Thread(Protocol):
    def start(self) -> None: ...

    def close(self) -> None: ...


def run(options: SinkOptions, ready: Callable[[str], None], worker: Auditing | None = None) -> None:
    """Serves until SIGTERM or Ctrl-C.

    Args:
        options: How.
        ready: Called with the address once events are accepted.
        worker: Who audits; None is the worker of the file.

    Raises:
        FailedPrecondition: Another sink has this folder.
        DataLoss: Its database is damaged.
        OSError: The address cannot be had.
    """
    with _locked(options.state), _listening(options.host, options.port) as listener:
        database = SqliteDatabase(options.state / FILE, SINK)
        try:
            _serve(options, database, listener, ready, worker or Worker(options.config))
        finally:
            database.close()


def _serve(
    options: SinkOptions,
    database: SqliteDatabase,
    listener: socket.socket,
    ready: Callable[[str], None],
    worker: Auditing,
) -> None:
    config, clock = options.config, Clock(database)
    auditor = Auditor(database, clock, config, worker)
    sweeper = Sweeper(database, clock, config.limits)
    notifier = Notifier(database, clock, config.notify) if config.notify else None
    app = make(Parts(config, database, clock, Recorder(database, clock, config.limits), auditor))
    settings = uvicorn.Config(
        app,
        http=timed_http.within(config.limits.body_s),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=timed_http.LONGEST_HEADERS,
        limit_concurrency=config.limits.connections,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )
    started: list[_Thread] = [auditor, sweeper, *([notifier] if notifier else [])]
    for each in started:
        each.start()
    try:
        host, port = listener.getsockname()[:2]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again when it has ended; we end then, too
            signal.signal(number, lambda *_: None)
        uvicorn.Server(settings).run(sockets=[listener])
    finally:
        for each in started:
            each.close()


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Senders that come before the loop runs wait in the backlog."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=_BACKLOG) as listener:
        # Accepted sockets inherit it. Else an answer's body waits 40 ms for the caller to acknowledge its headers.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    """Of two sinks, one has the folder."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (state / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FailedPrecondition(f"state: another sink runs in {state}", field="state") from None
        yield
