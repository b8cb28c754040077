"""What importing the client costs, what it offers, and that its blocking half is up to date."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import ouzel_client

ROOT = Path(__file__).parents[2]


def modules_after(statement):
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("ouzel_client", {"torch", "torchvision", "PIL", "rich", "click", "ouzel"}),
        ("ouzel_client.testing", {"torch", "torchvision", "PIL", "rich", "click", "ouzel"}),
        ("ouzel_client._cli.main", {"torch", "torchvision", "PIL", "ouzel"}),
    ],
)
def test_importing_stays_light(module, absent):
    assert modules_after(f"import {module}") & absent == set()


def test_public_names_exist_and_are_documented():
    for name in ouzel_client.__all__:
        assert getattr(ouzel_client, name).__doc__, name


def test_the_blocking_client_is_generated_from_the_asyncio_client():
    command = [sys.executable, ROOT / "scripts" / "unasync.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
