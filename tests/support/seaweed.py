"""A real server of buckets that comes in a wheel: SeaweedFS."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

START = 60.0  # s


def _free_ports(count: int) -> list[int]:
    """Ports below 50000, whose gRPC ports (10000 more) are free too."""
    ports: list[int] = []
    with ExitStack() as stack:
        for port in range(20_000 + os.getpid() % 10_000, 50_000):
            taken = [stack.enter_context(socket.socket()) for _ in range(2)]
            try:
                for each, number in zip(taken, (port, port + 10_000), strict=True):
                    each.bind(("127.0.0.1", number))
            except OSError:
                continue
            ports.append(port)
            if len(ports) == count:
                return ports
    raise AssertionError("no free ports")


@contextmanager
def buckets() -> Iterator[str]:
    """URL of a server of its own, which makes buckets when something is written to them."""
    folder = Path(tempfile.mkdtemp(prefix="weed-"))
    master, volume, filer, s3 = _free_ports(4)
    command = [
        str(Path(sys.executable).with_name("weed")), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", f"-volume.port={volume}", "-volume.max=5", "-filer", f"-filer.port={filer}", "-s3",
        f"-s3.port={s3}", "-master.volumeSizeLimitMB=64",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    url = f"http://127.0.0.1:{s3}"
    try:
        deadline = time.monotonic() + START
        while not _answers(url):
            assert running.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
            time.sleep(0.1)
        yield url
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except OSError:
        return False
