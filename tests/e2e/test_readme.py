"""The README's snippets, in the order of the page, in an empty folder, with services of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from ouzel import serving
from ouzel.serving import Ports

pytestmark = pytest.mark.e2e
README = Path(__file__).parents[2] / "README.md"


def snippets() -> list[tuple[str, str]]:
    """(language, text) of every fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", README.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    state = tmp_path / "state"
    ports = {f"OUZEL_{name.upper()}_PORT": str(port) for name, port in asdict(Ports.free()).items()}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OUZEL_")}
    yield kept | ports | {"OUZEL_STATE": str(state), "PATH": path}
    serving.stop(state)


@pytest.mark.timeout(1500)
def test_the_snippets_run(tmp_path: Path, environment: dict[str, str]) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    commands = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
    blocks = snippets()
    assert {language for language, _ in blocks} == set(commands)
    for language, text in blocks:
        done = subprocess.run(
            [*commands[language], text],
            check=False,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        if "print(e.labels[0], e.scores[0])" in text:
            assert done.stdout.startswith("tiger cat 0.3"), done.stdout
    for name in (
        "why.png",
        "overlay.png",
        "answer.json",
        "why/cat.guided.png",
        "why/cat.npz",
        "found/sheet.png",
        "report/report.html",
    ):
        assert (folder / name).stat().st_size > 0
    assert (
        "Nothing is running"
        in subprocess.run(["ouzel", "status"], env=environment, capture_output=True, text=True, check=False).stdout
    )
