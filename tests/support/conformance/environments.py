"""Environments of their own for packages that do not go with ours."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def environment(name: str, packages: tuple[str, ...]) -> Path:
    """The folder of programs of an environment with the packages, which is made if it is not there."""
    folder = Path(tempfile.gettempdir()) / f"ouzel-{name}-{os.getuid()}"
    wanted, ready = "\n".join(packages), folder / "ready"
    if not ready.exists() or ready.read_text() != wanted:
        print(f"installing {', '.join(packages)} in {folder} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        subprocess.run([*pip, *packages], check=True)
        ready.write_text(wanted)
    return folder / "bin"
