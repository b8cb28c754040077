"""The committed stubs are what the generator makes of the .proto files."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_committed_stubs_are_up_to_date(tmp_path):
    done = subprocess.run(
        ["bash", ROOT / "scripts" / "protos.sh", tmp_path], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*_pb2*.py*")}
    kept = {
        path.relative_to(ROOT / "protos"): path.read_bytes()
        for path in (ROOT / "protos").rglob("*_pb2*.py*")
        if path.suffix in (".py", ".pyi")
    }
    assert sorted(made) == sorted(kept)
    assert [str(path) for path in made if made[path] != kept[path]] == [], "run `make protos` and commit the result"
