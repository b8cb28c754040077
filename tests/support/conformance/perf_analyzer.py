"""Triton's perf_analyzer, measuring the gateway.

Its package holds nothing, and the wheels of tritonclient hold it up to 2.60, of which 2.48 is the last for C libraries
of Debian 12. It wants the CUDA runtime, which a package has, and a library for base64, which Debian has.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from ouzel.gateway.server import Addresses
from support.gateway import MODEL, pictures, png

PACKAGES = ("tritonclient==2.48.0", "nvidia-cuda-runtime-cu12")
_LIBRARY = "libb64-0d"


def measured(addresses: Addresses, environment: Callable[[str, tuple[str, ...]], Path], folder: Path) -> int:
    """How many measurements failed; 0 also where the program cannot be had, which is said."""
    programs = environment("perf-analyzer", PACKAGES)
    libraries = [each.parent for each in programs.parent.glob("lib/**/libcudart.so.*")]
    if (own := _library(programs.parent / "debian")) is not None:
        libraries.append(own)
    variables = os.environ | {"LD_LIBRARY_PATH": ":".join(map(str, libraries))}
    program = programs / "perf_analyzer"
    tried = subprocess.run([program, "--version"], env=variables, capture_output=True, text=True, check=False)
    if tried.returncode != 0 and "shared libraries" in tried.stderr:
        print(f"skip perf_analyzer: {tried.stderr.strip()}")
        return 0
    file = png(pictures(1)[0])
    content = {"b64": base64.b64encode(struct.pack("<I", len(file)) + file).decode()}
    data = folder / "perf_analyzer.json"
    data.write_text(json.dumps({"data": [{"image": {"content": content, "shape": [1]}}]}))
    failures = 0
    for protocol, url in (("grpc", addresses.grpc), ("http", addresses.rest.removeprefix("http://"))):
        words = [program, "-m", MODEL, "-u", url, "-i", protocol, "--input-data", data]
        words += ["--measurement-mode", "count_windows", "--measurement-request-count", "10", "-s", "900"]
        done = subprocess.run(words, env=variables, capture_output=True, text=True, timeout=300, check=False)
        good = done.returncode == 0 and "Successful request count: " in done.stdout
        failures += not good
        lines = [line.strip() for line in done.stdout.splitlines() if "Avg request latency" in line]
        print(
            f"{'ok  ' if good else 'FAIL'} perf_analyzer {protocol} {lines[-1:] if good else done.stdout + done.stderr}"
        )
    return failures


def _library(folder: Path) -> Path | None:
    """Where the library of Debian is, which is unpacked there; None if the machine has it, or cannot get it."""
    if not folder.exists() and shutil.which("apt-get") and shutil.which("dpkg"):
        with tempfile.TemporaryDirectory() as place:
            got = subprocess.run(["apt-get", "download", "-q", _LIBRARY], cwd=place, capture_output=True, check=False)
            if got.returncode == 0:
                subprocess.run(["dpkg", "-x", *Path(place).glob("*.deb"), folder], check=True)
    return next((each.parent for each in folder.glob("usr/lib/**/libb64.so*")), None)
