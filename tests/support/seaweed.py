"""A real server of buckets that comes in a wheel: SeaweedFS."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.ports import free_ports

START = 60.0  # s
KEY, SECRET = "tests", "secret-of-tests"


class Seaweed:
    """A server of its own, which can be killed and started again over the same files.

    Attributes:
        url: Of its S3 port.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = free_ports(4)
        self._grpc_ports = free_ports(4)  # its defaults, 10,000 more, may be another's
        self._running: subprocess.Popen[bytes] | None = None
        self._filer = f"http://127.0.0.1:{self._ports[2]}"
        self.url = f"http://127.0.0.1:{self._ports[3]}"

    @property
    def variables(self) -> dict[str, str]:
        """By which clients find it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Returns when it answers."""
        master, volume, filer, s3 = self._ports
        grpc = dict(zip(("master", "volume", "filer", "s3"), self._grpc_ports, strict=True))
        identities = self._folder / "identities.json"  # without any, it would not look at signatures
        keys = [{"accessKey": KEY, "secretKey": SECRET}]
        actions = ["Read", "Write", "List", "Tagging"]
        identities.write_text(json.dumps({"identities": [{"name": "tests", "credentials": keys, "actions": actions}]}))
        command = [
            str(Path(sys.executable).with_name("weed")), "server", f"-dir={self._folder}", "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1", f"-master.port={master}", f"-volume.port={volume}", "-volume.max=20", "-filer",
            f"-filer.port={filer}", "-s3", f"-s3.port={s3}", f"-s3.config={identities}", "-master.volumeSizeLimitMB=64",
            "-master.electionTimeout=1s", "-s3.port.iceberg=0", "-s3.port.lance=0",
            *(f"-{name}.port.grpc={port}" for name, port in grpc.items()),
        ]  # fmt: skip
        path = self._folder / "log"
        plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}  # it would heed them
        with path.open("ab") as log:
            self._running = subprocess.Popen(command, env=plain, stdout=log, stderr=log, cwd=self._folder)
        deadline = time.monotonic() + START
        while not (_answers(self._filer) and _answers(self.url)):  # they start one by one
            assert self._running.poll() is None, path.read_text()[-2000:]
            assert time.monotonic() < deadline, path.read_text()[-2000:]
            time.sleep(0.1)

    def kill(self) -> None:
        """Ends it at once, if it runs."""
        if self._running is not None:
            self._running.send_signal(signal.SIGKILL)
            self._running.wait()
            self._running = None

    def make(self, bucket: str) -> str:
        """Makes a bucket; returns its name."""
        url = f"{self._filer}/buckets/{bucket}/"  # a folder of the filer
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=30):
            return bucket


@contextmanager
def seaweed() -> Iterator[Seaweed]:
    """A running server."""
    folder = Path(tempfile.mkdtemp(prefix="weed-"))
    server = Seaweed(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
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
