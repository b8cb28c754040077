"""The command `ouzel` as a process."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = "from ouzel_client._cli.main import main; main()"


def ouzel(environment: dict[str, str], *words: str) -> str:
    """What it prints; fails if it fails."""
    command = [sys.executable, "-c", _PROGRAM, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
