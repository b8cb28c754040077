"""`make gpu` runs, on a machine without a GPU too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ouzel.saliency import METHODS

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def test_the_table_has_every_method_in_every_precision() -> None:
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if "|" in line]
    assert rows[0][3:] == list(METHODS)
    figures = {row[1]: dict(zip(METHODS, row[3:], strict=True)) for row in rows[2:]}
    assert list(figures) == ["CPU, exact", "plain PyTorch", "exact", "tf32", "bf16"]
    for method in METHODS:
        assert float(figures["exact"][method]) < 1e-4  # ties aside, of which a tiny network has few
        assert float(figures["bf16"][method]) > float(figures["exact"][method])
