"""Toy models, and the `ouzel` commands as a user runs them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import psutil

from ouzel.serving import Ports, processes
from ouzel.serving.forking import shim, zygote
from ouzel.serving.supervision import journal
from ouzel_protos.local import read_serving
from support.jobs import STUBS

_HANDLER = """
import json, os, time

class Toy:
    def initialize(self, context):
        {load}

    def handle(self, data, context):
        own = {{key: value for key, value in os.environ.items() if key.startswith(("OUZEL_", "OMP_"))}}
        return [json.dumps({{"pid": os.getpid(), "environment": own, "parts": sorted(row)}}).encode() for row in data]
"""


def write_archive(path: Path, load: str = "pass", version: str = "1") -> None:
    """A model archive whose handler runs the statement `load` when it is loaded."""
    manifest = {
        "runtime": "python",
        "model": {"modelName": path.stem, "modelVersion": version, "handler": "toy.py"},
    }
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("toy.py", _HANDLER.format(load=load))


def arguments(store: Path, ports: Ports | None = None) -> list[str]:
    """Arguments of `ouzel up` for this store, on free ports."""
    chosen = ports or Ports.free()
    flags = [(f"--{each.name.replace('_', '-')}-port", str(getattr(chosen, each.name))) for each in fields(Ports)]
    return ["up", "--store", str(store), *(word for flag in flags for word in flag)]


_PROGRAM = """
import click
from ouzel.cli.services import down, status, up
click.Group(commands={"up": up, "down": down, "status": status})(prog_name="ouzel")
"""


_HELPING = {shim.__file__, "ouzel.forking.server", "ouzel.worker.catalog.describe"}
_NAMES = {zygote.NAME, "describe"}  # a forked process cannot always show its whole command line


def lasting(state: Path) -> list[psutil.Process]:
    """The processes of the services of `state`, without those that only help to start others, or look at a model."""
    found = processes.belonging_to(state)
    return [each for each in found if each.name() not in _NAMES and _HELPING.isdisjoint(each.cmdline())]


class Ouzel:
    """The `ouzel` command with one state folder."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self._environment = os.environ | STUBS | {"OUZEL_STATE": str(state)}  # no jobs, so no libraries for them

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            self._command(words), env=self._environment, capture_output=True, text=True, timeout=120, check=False
        )

    @contextlib.contextmanager
    def running(self, *words: str, until: Callable[[], bool]) -> Iterator[subprocess.Popen[str]]:
        """Run it and yield it once `until` holds."""
        process = subprocess.Popen(
            self._command(words), env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            deadline = time.monotonic() + 60
            while not until():
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    raise AssertionError("".join(process.communicate()))
                time.sleep(0.05)
            yield process
        finally:
            process.kill()
            process.communicate()

    def ready(self) -> bool:
        return read_serving(self.state) is not None

    def watched(self) -> bool:
        """Ready, and supervised."""
        return journal.read(self.state) is not None

    @staticmethod
    def _command(words: Sequence[str]) -> list[str]:
        return [sys.executable, "-c", _PROGRAM, *words]
