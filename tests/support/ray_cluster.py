"""A real Ray cluster on this machine: a head and nodes, each with its processes, which end with the block."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from support.jobs import STUBS, until
from support.ports import free_ports

START = 300.0  # s, on a busy machine
# A node of a busy machine may take long to start.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "RAY_raylet_start_wait_time_s": "120"}


def variables(token: Path | None) -> dict[str, str]:
    """Of whoever uses the cluster; without a token it is open to everybody."""
    if token is None:
        return {"RAY_AUTH_MODE": "disabled"}
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}


def new_token(folder: Path) -> Path:
    file = folder / "ray-token"
    file.write_text(secrets.token_hex(32))
    file.chmod(0o600)
    return file


@dataclass
class Node:
    """`ray start --block`, which starts all processes of a node."""

    process: subprocess.Popen[bytes]
    log: Path
    seen: list[psutil.Process] = field(default_factory=list)

    def all(self) -> list[psutil.Process]:
        """Its processes, those of jobs included, and those that have lost their parent."""
        with suppress(psutil.Error):
            known = {each.pid for each in self.seen}
            self.seen += [
                each for each in psutil.Process(self.process.pid).children(recursive=True) if each.pid not in known
            ]
        return [each for each in self.seen if each.is_running()]

    def find(self, word: str) -> psutil.Process:
        """The process whose command says so."""
        return next(each for each in self.all() if word in " ".join(each.cmdline()))

    def runs(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """All at once, as when the power fails."""
        mine = self.all()
        self.process.kill()
        for each in mine:
            with suppress(psutil.Error):
                each.kill()
        self.process.wait()


class Cluster:
    """A head, and as many nodes as are added."""

    def __init__(self, token: Path | None, cpus: int, more: Mapping[str, str] = {}) -> None:
        self._more = dict(more)  # variables
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: its sockets have paths
        self._token = token
        self._gcs, self._dashboard, self._client = free_ports(3)
        self.address = f"http://127.0.0.1:{self._dashboard}"
        self.nodes: list[Node] = []
        self.head = self.start_head(cpus)

    def start_head(self, cpus: int = 0) -> Node:
        self.head = self._start(
            "--head", "--port", str(self._gcs), "--dashboard-host", "127.0.0.1", "--dashboard-port",
            str(self._dashboard), "--ray-client-server-port", str(self._client), "--temp-dir", str(self.folder),
            cpus=cpus,
        )  # fmt: skip
        return self.head

    def mend(self) -> None:
        """Starts what was killed. A new head knows nothing; the nodes of the old one go."""
        if not self.head.runs():
            for node in self.nodes:
                node.kill()
            self.start_head()
        dead = [node for node in self.nodes if not node.runs()]
        for node in dead:
            node.kill()
            self.nodes.remove(node)
            self.add()

    def add(self, cpus: int = 4) -> Node:
        node = self._start("--address", f"127.0.0.1:{self._gcs}", cpus=cpus)
        self.nodes.append(node)
        return node

    def _start(self, *arguments: str, cpus: int) -> Node:
        log = self.folder / f"start-{secrets.token_hex(4)}.log"
        command = [
            str(Path(sys.executable).with_name("ray")), "start", *arguments, "--block", "--num-cpus", str(cpus),
            "--node-ip-address", "127.0.0.1", "--object-store-memory", "80000000", "--min-worker-port", "0",
            "--max-worker-port", "0", "--dashboard-agent-listen-port", str(free_ports(1)[0]), "--num-gpus", "0",
            "--disable-usage-stats",
        ]  # fmt: skip
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=os.environ | STUBS | _QUIET | variables(self._token) | self._more,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        node = Node(process, log)

        def runs() -> bool:
            assert process.poll() is None, log.read_text()[-3000:]
            return "Ray runtime started" in log.read_text()

        try:
            until(runs, START)
        except BaseException:
            node.kill()
            raise
        node.all()
        return node

    def close(self) -> None:
        for node in (*self.nodes, self.head):
            node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def cluster(token: Path | None, nodes: int = 0, more: Mapping[str, str] = {}) -> Iterator[Cluster]:
    """token: of its users. nodes: on which jobs run; without, they run on the head's. more: variables."""
    made = Cluster(token, 0 if nodes else 4, more)
    try:
        for _ in range(nodes):
            made.add()
        yield made
    finally:
        made.close()
