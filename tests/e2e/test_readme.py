"""The README's snippets, in the order of the page, in an empty folder, with services of their own.

`make stories` runs them as they stand. Otherwise the model that the page adds has the page's name and labels, but a
smaller architecture with random weights, there are fewer steps and images, and what imports torch is not a process of
its own, which takes a fraction of the time.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ouzel import models, serving
from support.ports import service_ports

pytestmark = pytest.mark.e2e
README = Path(__file__).parents[2] / "README.md"
SMALL = "timm:mobilenetv2_035"  # has rectifiers, and layers of the same names
LESS = {
    r"steps=16\b": "steps=4",
    r'"steps": 16\b': '"steps": 4',
    r"range\(0, 448, 64\)": "range(0, 448, 128)",
    r"max_training_seconds=5\b": "max_training_seconds=1",
}


def snippets() -> list[tuple[str, str]]:
    """(language, text) of every fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", README.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    state = tmp_path / "state"
    ports = service_ports()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OUZEL_") or "WARM_UP" in key}
    yield kept | ports | {"OUZEL_STATE": str(state), "PATH": path}
    serving.stop(state)


def of_a_small_network(text: str, weights: Path) -> str:
    """The snippet that adds the page's model, with another architecture and its weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(models.build(SMALL, num_classes=1000).state_dict(), weights)
    for old, new in (
        (r"--arch \S+", f"--arch {SMALL}"),
        (r'--weights "\$\(.*\)"', f"--weights {weights}"),
        (" --match order", ""),  # its own names fit
        ("--labels imagenet", "--labels imagenet --input-size 128 128 --resize 146"),  # a third of the work
    ):
        text, count = re.subn(old, new, text)
        assert count == 1, old
    return text


def less(blocks: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The snippets with fewer steps and images."""
    for old, new in LESS.items():
        assert any(re.search(old, text) for _, text in blocks), old
        blocks = [(language, re.sub(old, new, text)) for language, text in blocks]
    return blocks


def run_here(text: str, folder: Path) -> None:
    """As `python -c`, but that this process has imported torch already."""
    with contextlib.chdir(folder), torch.random.fork_rng():
        exec(compile(text, "README.md", "exec"), {"__name__": "__main__"})


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("network", ["small", pytest.param("real", marks=pytest.mark.story)])
def test_the_snippets_run(network: str, tmp_path: Path, environment: dict[str, str]) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    commands = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
    blocks = snippets() if network == "real" else less(snippets())
    assert {language for language, _ in blocks} == set(commands)
    for language, page in blocks:
        if network == "small" and re.search(r"^(import torch|from ouzel[ .])", page, flags=re.MULTILINE):
            run_here(page, folder)
            continue
        small = network == "small" and "ouzel models add" in page
        text = of_a_small_network(page, tmp_path / "small.pth") if small else page
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
        if network == "real" and "print(e.labels[0], e.scores[0])" in text:
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
