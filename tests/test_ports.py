"""Ports of the tests' servers: what one process holds no other one gets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.ports import free_ports


def test_what_one_holds_no_other_gets():
    mine = [*free_ports(20), *free_ports(20)]
    assert len(set(mine)) == 40
    other = subprocess.run(
        [sys.executable, "-c", "from support.ports import free_ports; print(*free_ports(20))"],
        capture_output=True, text=True, check=True, timeout=60, cwd=Path(__file__).parent,
    )  # fmt: skip
    assert not set(mine) & {int(port) for port in other.stdout.split()}
